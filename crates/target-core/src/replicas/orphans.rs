//! Images that landed before their parents, and how they become part of their chain.
//!
//! ```text
//!  commit without parent ─► every record looked up ─► draft durable ─► row ─► acknowledged
//!  commit of the parent  ─► each child with a row: draft ─► commit ─► draft ended ─► row removed
//!                        ─► its children ─► acknowledged
//! ```
//!
//! An orphan is a draft that is whole and a row that says so. The store knows it as a draft, so its
//! records are held, and nothing of it can be taken for a point. Each arrow above may be the last
//! before a crash: opening the target goes through all rows again.
//!
//! **Absent:** time. What the target has acknowledged stays until its parent comes, or until a
//! person or a policy gives it up (`dismissed`).

use offsite_exchange::replication::target::CommitFault;
use offsite_model::{AgentId, Key, Timestamp};
use offsite_proto::error::Refusal;
use offsite_store::catalog::{Order, Table, Transactions, TypedRows, TypedRowsMut, Value};
use offsite_store::group::Form;
use offsite_store::{Draft, ImageSpec, PointSpec, StoreError};
use serde::{Deserialize, Serialize};

use super::images::{Held, IMAGES, ImageName, ImageRow, Outcome, Owner, unreadable};
use super::live::{Live, commit_fault, lock};
use super::{Replicas, draft};
use crate::failure::Failure;

/// Images that wait for their parents, by the key of [`IMAGES`].
pub(super) const ORPHANS: Table = Table::new("replica_orphans");
/// Rows read at a time.
const PAGE: usize = 1_024;
/// Most bytes of a fault's text.
const FAULT_BYTES_MAX: usize = 400;

/// An image that waits for its parent, as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct OrphanRow {
    landed_at: i64,
    fault: Option<String>,
}

impl Value for OrphanRow {
    const VERSION: u8 = 1;
    const BYTES_MAX: usize = 512;
}

/// What became of images that were dismissed, by the key of images.
pub(super) const DISMISSED: Table = Table::new("replica_dismissed");

/// A dismissed image, as it is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct DismissedRow {
    /// When, in microseconds of the retention clock.
    pub(super) at: i64,
    /// Nothing of it is here any more.
    pub(super) is_gone: bool,
}

impl Value for DismissedRow {
    const VERSION: u8 = 1;
    const BYTES_MAX: usize = 32;
}

/// An image that waits for its parent.
#[derive(Clone, Debug)]
pub(crate) struct Orphan {
    /// The image.
    pub(crate) held: Held,
    /// When it was acknowledged.
    pub(crate) landed_at: Timestamp,
    /// Why its parent, which came, cannot be its parent.
    pub(super) fault: Option<String>,
    /// When it was dismissed, by the retention clock.
    pub(crate) dismissed_at: Option<Timestamp>,
}

impl Orphan {
    /// The parent that it names.
    fn parent(&self) -> Option<ImageName> {
        let epoch = self.held.open.previous_epoch_number?;
        Some(ImageName { epoch, ..self.held.name })
    }

    /// What it waits for, in words; `all` are the orphans of its agent.
    pub(super) fn waits_for(&self, all: &[Self]) -> String {
        let volume = self.held.volume_word();
        if let Some(fault) = &self.fault {
            return format!("volume {volume}: {fault}");
        }
        let mut missing = self.parent();
        // Epochs fall from child to parent, so this ends.
        while let Some(name) = missing
            && let Some(next) = all.iter().find(|orphan| orphan.held.name == name)
        {
            if let Some(fault) = &next.fault {
                return format!("volume {volume}: epoch {} waits too: {fault}", name.epoch);
            }
            missing = next.parent();
        }
        let epoch = missing.map_or(0, |name| name.epoch);
        format!("volume {volume} waits for its epoch {epoch}, which is not here")
    }
}

impl Replicas {
    /// Keeps a whole image whose parent is not here. Blocks.
    pub(super) fn land(&self, live: &Live) -> Result<Outcome, CommitFault> {
        let fault = |error: StoreError| {
            tracing::warn!(session = %live.id, cause = %error, "cannot keep an image for later");
            commit_fault(&error)
        };
        let name = live.name;
        let mut slot = lock(&live.draft);
        let draft = slot.as_mut().ok_or(CommitFault::LeaseLost)?;
        draft::each(draft, check_window).map_err(fault)?;
        // Nothing is acknowledged that a crash could take away.
        draft.barrier().map_err(fault)?;
        let row = OrphanRow { landed_at: self.world.clock.now().as_micros(), fault: None };
        let written = self.catalog.write(|rows| {
            rows.put_value(ORPHANS, &name.key(), &row)?;
            // Of another image that had this name.
            rows.remove(DISMISSED, &name.key())?;
            Ok::<_, Failure>(())
        });
        written.map_err(|_| CommitFault::Broken)?;
        drop(slot.take());
        let (session, agent) = (live.id, name.agent);
        tracing::info!(%session, %agent, "image kept until its parent comes");
        drop(slot);
        // The parent may have come between the look for it and the row.
        self.adopt(&name);
        Ok(Outcome::Landed)
    }

    /// Whether an image waits here for its parent.
    pub(super) fn is_landed(&self, name: &ImageName) -> Result<bool, Refusal> {
        let row = self.catalog.read(|rows| rows.value::<OrphanRow>(ORPHANS, &name.key()));
        Ok(row.map_err(Failure::from)?.is_some())
    }

    /// Images that wait for their parents, of one agent or of all. Blocks.
    ///
    /// # Errors
    /// The catalog's, or the store's.
    pub(crate) fn orphans(
        &self,
        owner: &Owner,
        agent: Option<AgentId>,
    ) -> Result<Vec<Orphan>, Refusal> {
        let prefix = agent.map_or_else(|| owner.prefix(), |agent| owner.of_agent(agent));
        let mut all = self.orphans_under(&prefix)?;
        // A crash may have come between a commit and the end of the row.
        let is_waiting = |orphan: &Orphan| {
            Ok::<_, Refusal>(self.committed(&orphan.held.name, &orphan.held.open)?.is_none())
        };
        let mut waiting = Vec::with_capacity(all.len());
        for orphan in all.drain(..) {
            if is_waiting(&orphan)? {
                waiting.push(orphan);
            }
        }
        Ok(waiting)
    }

    /// Rows under a prefix of their keys.
    pub(super) fn orphans_under(&self, prefix: &[u8]) -> Result<Vec<Orphan>, Refusal> {
        let mut all = Vec::new();
        let mut after: Option<Vec<u8>> = None;
        loop {
            let page = self.catalog.read(|rows| {
                let (after, order) = (after.as_deref(), Order::Ascending);
                let page = rows.scan_values::<OrphanRow>(ORPHANS, prefix, after, order, PAGE)?;
                let with_image = page.into_iter().map(|(key, row)| {
                    let image = rows.value::<ImageRow>(IMAGES, &key)?;
                    let dismissed = rows.value::<DismissedRow>(DISMISSED, &key)?;
                    Ok::<_, Failure>((key, row, image, dismissed))
                });
                with_image.collect::<Result<Vec<_>, Failure>>()
            });
            let page = page.map_err(Refusal::from)?;
            let Some((last, ..)) = page.last() else { return Ok(all) };
            after = Some(last.clone());
            for (key, row, image, dismissed) in page {
                let (Some(name), Some(image)) = (ImageName::from_key(&key), image) else {
                    tracing::error!("an image that waits for its parent has no announcement");
                    continue;
                };
                let held = Held { name, open: image.open()? };
                let landed_at = Timestamp::from_micros(row.landed_at);
                let dismissed_at = dismissed.map(|row| Timestamp::from_micros(row.at));
                all.push(Orphan { held, landed_at, fault: row.fault, dismissed_at });
            }
        }
    }

    /// Commits what waits for images of this volume that are here by now, children after parents;
    /// a failure leaves them waiting. Blocks.
    pub(super) fn adopt(&self, of: &ImageName) {
        let prefix = of.key();
        let volume = prefix.get(..prefix.len().saturating_sub(4)).unwrap_or(&prefix);
        self.adopt_under(volume);
    }

    /// The same for everything that waits: right after opening.
    pub(super) fn adopt_all(&self) {
        self.adopt_under(&[]);
    }

    fn adopt_under(&self, prefix: &[u8]) {
        // Two commits may both find the same child.
        let _alone = lock(&self.adopting);
        let waiting = self.orphans_under(prefix);
        let waiting = waiting.inspect_err(|cause| {
            tracing::error!(%cause, "cannot look for images that wait for their parents");
        });
        // By key, and so by epoch: whoever comes later may be a child of whoever came before.
        for orphan in waiting.unwrap_or_default() {
            let name = orphan.held.name;
            if let Err(error) = self.join(&orphan) {
                let (agent, epoch) = (name.agent, name.epoch);
                tracing::warn!(%agent, epoch, cause = %error, "an image goes on waiting");
            }
        }
    }

    /// Commits an orphan if its parent is here.
    fn join(&self, orphan: &Orphan) -> Result<(), Refusal> {
        let (name, open) = (&orphan.held.name, &orphan.held.open);
        let (tenant, id) = (name.owner.tenant, draft::id_of(name));
        if self.committed(name, open)?.is_none() {
            if orphan.dismissed_at.is_some() {
                return Ok(());
            }
            let Some(parent) = orphan.parent() else { return Ok(()) };
            let Some(announced) = self.announced(&parent)? else { return Ok(()) };
            if self.committed(&parent, &announced)?.is_none() {
                return Ok(());
            }
            let resumed = self.store.resume(tenant, id);
            let published = resumed.and_then(|mut draft| {
                self.publish(&mut draft, name, open, Some(announced.recovery_point_id.0))
            });
            match published {
                Ok(()) => {}
                Err(error) => return self.keep_waiting(orphan, &error),
            }
            tracing::info!(agent = %name.agent, point = %open.recovery_point_id,
                "an image found its parent");
        }
        self.store.end_draft(tenant, id).map_err(|error| unreadable(&error))?;
        self.forget_orphan(name)
    }

    /// What a failed adoption means for the orphan.
    fn keep_waiting(&self, orphan: &Orphan, error: &StoreError) -> Result<(), Refusal> {
        let name = &orphan.held.name;
        let epoch = orphan.held.open.previous_epoch_number.unwrap_or_default();
        let fault = match error {
            StoreError::BaseMissing => {
                format!("its parent, epoch {epoch}, is here with another content")
            }
            StoreError::BadList(_) | StoreError::ListMismatch => {
                format!("its list does not fit its parent, epoch {epoch}")
            }
            StoreError::AlreadyExists(point) => {
                format!("recovery point {point} is here with another content")
            }
            // Some of it is gone. The source is told that it is not here, and sends what lacks.
            StoreError::UnknownRecord { .. }
            | StoreError::DraftUnknown(_)
            | StoreError::Damaged(_) => {
                tracing::error!(agent = %name.agent, epoch = name.epoch, cause = %error,
                    "an image that waited for its parent is damaged and is to be sent again");
                return self.forget_orphan(name);
            }
            // Ours: it is tried again after the next commit, or the next start.
            error => return Err(unreadable(error)),
        };
        tracing::warn!(agent = %name.agent, epoch = name.epoch, cause = fault,
            "an image cannot become part of its chain");
        let fault: String = fault.chars().take(FAULT_BYTES_MAX / 4).collect();
        let row = OrphanRow { landed_at: orphan.landed_at.as_micros(), fault: Some(fault) };
        let written = self.catalog.write(|rows| {
            rows.put_value(ORPHANS, &name.key(), &row)?;
            Ok::<_, Failure>(())
        });
        Ok(written?)
    }

    fn forget_orphan(&self, name: &ImageName) -> Result<(), Refusal> {
        let removed = self.catalog.write(|rows| {
            rows.remove(ORPHANS, &name.key())?;
            Ok::<_, Failure>(())
        });
        Ok(removed?)
    }

    /// Makes an image exist: its list from the draft, every reference checked, one commit.
    pub(super) fn publish(
        &self,
        draft: &mut Draft,
        name: &ImageName,
        open: &offsite_proto::session::OpenSession,
        parent: Option<offsite_model::PointId>,
    ) -> Result<(), StoreError> {
        let image = ImageSpec {
            image: open.image_id.0,
            volume: name.volume,
            bytes: open.size_bytes.0,
            record_bytes: open.record_size,
            form: Form::Plain,
        };
        let point = PointSpec {
            point: open.recovery_point_id.0,
            agent: name.agent,
            taken_at: open.utc_created_timestamp.0,
            committed_at: self.world.clock.now(),
            n_images: open.volume_image_count,
            token: open.commit_token.0.to_bytes(),
            note: Vec::new(),
        };
        let parent_digest = open.parent_image_digest.map(|digest| digest.0);
        let mut image = draft.session().image(image, parent, parent_digest)?;
        draft::each(draft, |_, window| window.iter().try_for_each(|entry| image.push(*entry)))?;
        draft.commit(point, vec![(image, Some(open.image_digest.0))]).map(|_| ())
    }
}

/// Whether every record of a window is stored with the length that the list says; what is found is
/// kept from now on.
fn check_window(draft: &mut Draft, window: &[offsite_store::ListEntry]) -> Result<(), StoreError> {
    let records: Vec<_> = window.iter().filter(|entry| entry.key != Key::ZERO).collect();
    let keys: Vec<Key> = records.iter().map(|entry| entry.key).collect();
    for (entry, place) in records.iter().zip(draft.find_many(Form::Plain, &keys)?) {
        let unknown = StoreError::UnknownRecord { key: entry.key, offset: entry.offset };
        let place = place.ok_or(unknown)?;
        if place.raw_bytes != entry.length {
            let sentence = format!("the record at {} has another length", entry.offset);
            return Err(StoreError::BadList(sentence));
        }
    }
    Ok(())
}
