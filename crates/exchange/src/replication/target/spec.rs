//! What row 56 announced, checked once, and the rules that its entries must keep.

use offsite_model::Digest;
use offsite_proto::bitmap::Run;
use offsite_proto::error::{ErrorCode, Refusal};
use offsite_proto::limits::{MESSAGE_BYTES_MAX, NAME_BYTES_MAX, RECORD_BYTES_MAX};
use offsite_proto::session::{CommitToken, ImageType, OpenSession};
use offsite_proto::window::ListEntry;

/// The smallest record.
const RECORD_BYTES_MIN: u32 = 4 << 10;
/// Images of one point.
const IMAGES_MAX: u32 = 1_024;
/// Positions of a volume: 16 TiB in the smallest records, a PiB and more in larger ones.
const POSITIONS_MAX: u64 = 1 << 32;

/// An announcement that keeps the rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec {
    open: OpenSession,
}

impl Spec {
    /// Checks the body of row 56.
    ///
    /// # Errors
    /// `bad_request` with the first rule that is broken.
    pub fn check(open: OpenSession) -> Result<Self, Refusal> {
        let bad = |message: &str| Err(Refusal::new(ErrorCode::BadRequest, message));
        let is_size = |bytes: u32| {
            bytes.is_power_of_two() && (RECORD_BYTES_MIN..=RECORD_BYTES_MAX).contains(&bytes)
        };
        if !is_size(open.record_size) {
            return bad("recordSize is no power of two from 4 KiB to 1 MiB");
        }
        let n_positions = open.size_bytes.0.div_ceil(u64::from(open.record_size));
        if n_positions == 0 || n_positions > POSITIONS_MAX {
            return bad("sizeBytes is 0 or too large for recordSize");
        }
        if open.record_count.0 > n_positions {
            return bad("recordCount is larger than the volume");
        }
        if !(1..=IMAGES_MAX).contains(&open.volume_image_count) {
            return bad("volumeImageCount is not within 1 to 1024");
        }
        let is_short =
            |text: &Option<String>, max| text.as_ref().is_none_or(|text| text.len() <= max);
        if !is_short(&open.encryption_key_id, NAME_BYTES_MAX)
            || !is_short(&open.header_hash, MESSAGE_BYTES_MAX)
            || !is_short(&open.display_name, NAME_BYTES_MAX)
        {
            return bad("encryptionKeyId, headerHash or displayName is too long");
        }
        let parent = (open.previous_epoch_number, open.parent_image_id, open.parent_image_digest);
        match (open.image_type, parent) {
            (ImageType::Base, (None, None, None)) | (ImageType::Heal, _) => {}
            (ImageType::Base, _) => return bad("a base image has no parent"),
            (ImageType::Incremental, (Some(previous), Some(_), Some(_)))
                if previous < open.epoch_number => {}
            (ImageType::Incremental, _) => {
                return bad("an incremental image names its parent's id, digest and earlier epoch");
            }
            (ImageType::None, _) => return bad("imageType is none of Base, Incremental and Heal"),
        }
        Ok(Self { open })
    }

    /// The announcement.
    #[must_use]
    pub const fn open(&self) -> &OpenSession {
        &self.open
    }

    /// Digest of the image's list.
    #[must_use]
    pub const fn digest(&self) -> Digest {
        self.open.image_digest.0
    }

    /// The token of its commit.
    #[must_use]
    pub const fn token(&self) -> CommitToken {
        self.open.commit_token.0
    }

    /// Entries of its list.
    #[must_use]
    pub const fn n_entries(&self) -> u64 {
        self.open.record_count.0
    }

    /// Bytes of a record.
    #[must_use]
    pub const fn record_bytes(&self) -> u32 {
        self.open.record_size
    }

    /// Records of the volume.
    #[must_use]
    pub const fn n_positions(&self) -> u64 {
        self.open.size_bytes.0.div_ceil(self.open.record_size as u64)
    }

    /// Whether it heals a committed image.
    #[must_use]
    pub fn is_heal(&self) -> bool {
        self.open.image_type == ImageType::Heal
    }

    /// Whether the source encrypted the records.
    #[must_use]
    pub const fn is_encrypted(&self) -> bool {
        self.open.encryption_key_id.is_some()
    }

    /// Whether this is the same image: a session of the one may go on as a session of the other.
    #[must_use]
    pub fn is_same_image(&self, other: &Self) -> bool {
        let of = |spec: &Self| {
            let open = &spec.open;
            (
                (open.agent_id, open.volume_driver_id, open.epoch_number, open.image_type),
                (open.image_digest, open.record_count, open.size_bytes, open.record_size),
                (open.recovery_point_id, open.image_id, open.encryption_key_id.clone()),
                (open.previous_epoch_number, open.parent_image_digest),
            )
        };
        of(self) == of(other)
    }

    /// The positions that an entry covers.
    pub(super) fn positions(&self, entry: &ListEntry) -> Run {
        let size = u64::from(self.open.record_size);
        let end = entry.offset().saturating_add(entry.bytes().into()).div_ceil(size);
        let start = entry.offset() / size;
        Run { start, count: end.saturating_sub(start) }
    }

    /// Whether a list that ends here is whole.
    pub(super) fn is_whole(&self, end: u64) -> bool {
        self.open.image_type != ImageType::Base || end == self.open.size_bytes.0
    }

    /// Checks an entry by itself: within the list and the volume, and cut where records are cut.
    pub(super) fn check_entry_alone(&self, ordinal: u64, entry: &ListEntry) -> Result<(), Refusal> {
        let size = u64::from(self.open.record_size);
        let end = entry.offset().saturating_add(entry.bytes().into());
        let is_cut_right = end.is_multiple_of(size) || end == self.open.size_bytes.0;
        let rule = if ordinal >= self.n_entries() && !self.is_heal() {
            "lies beyond recordCount"
        } else if end > self.open.size_bytes.0 {
            "lies beyond sizeBytes"
        } else if !entry.offset().is_multiple_of(size) || !is_cut_right {
            "does not lie on positions of recordSize"
        } else if !entry.is_zeros() && !self.is_encrypted() && u64::from(entry.bytes()) > size {
            "is longer than recordSize"
        } else {
            return Ok(());
        };
        Err(broken(ordinal, rule))
    }

    /// Checks an entry as the one after an entry that ends at `previous_end`; answers where it
    /// ends.
    pub(super) fn check_entry(
        &self,
        ordinal: u64,
        entry: &ListEntry,
        previous_end: u64,
    ) -> Result<u64, Refusal> {
        self.check_entry_alone(ordinal, entry)?;
        if entry.offset() < previous_end {
            return Err(broken(ordinal, "lies before the end of the one before"));
        }
        if self.open.image_type == ImageType::Base && entry.offset() != previous_end {
            return Err(broken(ordinal, "leaves a gap, and a base image has none"));
        }
        Ok(entry.offset().saturating_add(entry.bytes().into()))
    }
}

fn broken(ordinal: u64, rule: &str) -> Refusal {
    Refusal::new(ErrorCode::BadRequest, format!("entry {ordinal} of the list {rule}"))
        .with("ordinals", vec![ordinal])
}
