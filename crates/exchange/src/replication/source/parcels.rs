//! From wanted records to what is sent: whole groups as they lie, or groups made anew of the wanted
//! part.

use std::collections::BTreeSet;

use offsite_proto::limits::{GROUP_ENTRY_BYTES, GROUP_HEADER_BYTES};
use offsite_proto::window::ListEntry;

/// An entry of the image's list, as the source's own store has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The entry.
    pub entry: ListEntry,
    /// Where its record lies; absent for zeros, and for records that lie alone.
    pub place: Option<Place>,
}

/// A place in a stored group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The group, by a number of the driver's.
    pub group: u64,
    /// Which of its records, from 0.
    pub slot: u8,
    /// How many records it has.
    pub n_records: u16,
    /// Bytes of its payload as it lies.
    pub stored_bytes: u32,
}

/// One group to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parcel {
    /// A stored group as it lies, its records under these ordinals, in its order.
    Whole {
        /// The group.
        group: u64,
        /// An ordinal per record.
        ordinals: Vec<u64>,
        /// Bytes of the frame's payload that it becomes, exactly.
        bytes: u64,
    },
    /// These records, made into a group anew.
    Part {
        /// The ordinals, ascending.
        ordinals: Vec<u64>,
        /// Whether they must be sent uncompressed: their group was refused.
        is_raw: bool,
        /// Bytes of the frame's payload that it becomes, at most.
        bytes: u64,
    },
}

impl Parcel {
    /// Bytes that it takes of the credit, at most.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        match self {
            Self::Whole { bytes, .. } | Self::Part { bytes, .. } => *bytes,
        }
    }

    /// Its records.
    #[must_use]
    pub fn ordinals(&self) -> &[u64] {
        match self {
            Self::Whole { ordinals, .. } | Self::Part { ordinals, .. } => ordinals,
        }
    }
}

fn frame_bytes(n_records: usize, payload: u64) -> u64 {
    u64::from(GROUP_HEADER_BYTES)
        .saturating_add((n_records as u64).saturating_mul(GROUP_ENTRY_BYTES.into()))
        .saturating_add(payload)
}

/// Packs what is wanted of a window.
pub(super) fn pack(
    first_ordinal: u64,
    entries: &[Listed],
    wanted: &[bool],
    raw: &BTreeSet<u64>,
    part_bytes: u64,
    part_records: usize,
) -> Vec<Parcel> {
    let mut parcels = Vec::new();
    let mut part = Part { ordinals: Vec::new(), bytes: 0, is_raw: false };
    let all: Vec<(u64, Listed, bool)> = (first_ordinal..)
        .zip(entries)
        .zip(wanted)
        .map(|((ordinal, listed), wanted)| (ordinal, *listed, *wanted))
        .collect();
    let mut rest = all.as_slice();
    while let Some((ordinal, listed, is_wanted)) = rest.first().copied() {
        if let Some((whole, n_records)) = whole_group(rest, raw) {
            parcels.push(whole);
            rest = rest.get(n_records..).unwrap_or_default();
            continue;
        }
        rest = rest.get(1..).unwrap_or_default();
        if !is_wanted || listed.entry.is_zeros() {
            continue;
        }
        let is_raw = raw.contains(&ordinal);
        let bytes = u64::from(listed.entry.bytes());
        let is_full = part.bytes.saturating_add(bytes) > part_bytes
            || part.ordinals.len() >= part_records
            || part.is_raw != is_raw;
        if is_full {
            part.close(&mut parcels);
        }
        part.is_raw = is_raw;
        part.ordinals.push(ordinal);
        part.bytes = part.bytes.saturating_add(bytes);
    }
    part.close(&mut parcels);
    parcels
}

struct Part {
    ordinals: Vec<u64>,
    bytes: u64,
    is_raw: bool,
}

impl Part {
    fn close(&mut self, parcels: &mut Vec<Parcel>) {
        if !self.ordinals.is_empty() {
            let ordinals = std::mem::take(&mut self.ordinals);
            let bytes = frame_bytes(ordinals.len(), std::mem::take(&mut self.bytes));
            parcels.push(Parcel::Part { ordinals, is_raw: self.is_raw, bytes });
        }
    }
}

/// The group that begins here, where all its records are wanted and lie side by side.
fn whole_group(rest: &[(u64, Listed, bool)], raw: &BTreeSet<u64>) -> Option<(Parcel, usize)> {
    let place = rest.first()?.1.place?;
    let n_records = usize::from(place.n_records);
    let records = rest.get(..n_records).filter(|records| !records.is_empty())?;
    let is_whole = (0_u8..=255).zip(records).all(|(slot, (ordinal, listed, is_wanted))| {
        let lies_so = listed.place.is_some_and(|p| p.group == place.group && p.slot == slot);
        lies_so && *is_wanted && !raw.contains(ordinal)
    });
    is_whole.then(|| {
        let ordinals = records.iter().map(|(ordinal, ..)| *ordinal).collect();
        let bytes = frame_bytes(n_records, place.stored_bytes.into());
        (Parcel::Whole { group: place.group, ordinals, bytes }, n_records)
    })
}

/// How many of these entries a window takes, so that the group at its end is not cut; all, where
/// that would leave too few.
pub(super) fn window_length(entries: &[Listed], is_last: bool) -> usize {
    let n = entries.len();
    let Some(place) = entries.last().and_then(|listed| listed.place).filter(|_| !is_last) else {
        return n;
    };
    if u16::from(place.slot).saturating_add(1) == place.n_records {
        return n;
    }
    let cut = n.saturating_sub(usize::from(place.slot).saturating_add(1));
    if cut > n / 2 { cut } else { n }
}
