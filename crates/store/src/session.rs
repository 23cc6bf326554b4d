//! A session: what one writer adds to the store, invisible as recovery points until its commit.
//!
//! Its groups go to segments of its own, so that what is protected together lies together and
//! writers do not wait for each other. Its records can be found by the tenant's other sessions at
//! once; a commit that refers to them makes them durable, whoever wrote them.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use offsite_model::{AgentId, Digest, Key, PointId, TenantId, Timestamp};

use crate::commit::Request;
use crate::error::StoreError;
use crate::group::{CheckedGroup, Form};
use crate::holds::Change;
use crate::manifest::{Image, ImageSpec, ImageWriter, ListEntry};
use crate::rows::{IMAGES_MAX, NOTE_BYTES_MAX, PointRow};
use crate::segment::{RecordPlace, SegmentWriter};
use crate::store::{Committed, Core, Settings, Store};

/// Free space is asked for again after so many bytes.
const SPACE_CHECK_BYTES: u64 = 16 << 20;

/// References that a commit checks at once: the pages of a run are read once for all of them.
const WINDOW: usize = 1 << 16;
/// Windows of a list that are looked up at once.
const WINDOWS: usize = 2;

/// What a commit says of its point.
#[derive(Clone, Debug)]
pub struct PointSpec {
    /// Its id.
    pub point: PointId,
    /// The machine it shows.
    pub agent: AgentId,
    /// When it was taken, by the source's clock.
    pub taken_at: Timestamp,
    /// Now, by this core's clock.
    pub committed_at: Timestamp,
    /// Images the point will have; it is complete when all are committed, by this commit or later.
    pub n_images: u32,
    /// Drawn by the committer; asking again under the same token gives the same answer.
    pub token: [u8; 16],
    /// Bytes of the caller's, returned as they are given; at most [`NOTE_BYTES_MAX`].
    pub note: Vec<u8>,
}

/// One writer's work for one tenant. Dropped without a commit, it leaves nothing behind.
pub struct Session {
    pub(crate) core: Arc<Core>,
    tenant: TenantId,
    /// Its number in this opening of the store.
    number: u64,
    writer: Option<SegmentWriter>,
    /// Segments of this session, the open one included.
    segments: Vec<u32>,
    unchecked_bytes: u64,
    is_ended: bool,
    /// Whether there may be runs to merge at its end.
    has_committed: bool,
}

impl Store {
    /// Begins a session for a tenant.
    ///
    /// # Errors
    /// [`StoreError::Poisoned`].
    pub fn session(&self, tenant: TenantId) -> Result<Session, StoreError> {
        self.core.check_writable()?;
        Ok(Session {
            core: Arc::clone(&self.core),
            tenant,
            number: self.core.next_session.fetch_add(1, Ordering::Relaxed),
            writer: None,
            segments: Vec::new(),
            unchecked_bytes: SPACE_CHECK_BYTES,
            is_ended: false,
            has_committed: false,
        })
    }
}

impl Session {
    /// The tenant it writes for.
    #[must_use]
    pub const fn tenant(&self) -> TenantId {
        self.tenant
    }

    /// Where a record lies; see [`Store::find`].
    ///
    /// # Errors
    /// As [`Store::find`].
    pub fn find(&self, form: Form, key: &Key) -> Result<Option<RecordPlace>, StoreError> {
        let _looking = self.core.holds.looking();
        let found = self.core.find(self.tenant, form, key, &self.core.aside(self.tenant))?;
        let segment = found.iter().map(|place| place.segment);
        self.core.holds.tell(self.number, self.tenant, std::iter::once(*key), segment);
        Ok(found)
    }

    /// Appends a group. Its records can be found from now on; they are durable after
    /// [`Session::barrier`] or a commit. A group whose records are all stored already is not
    /// written again.
    ///
    /// # Errors
    /// [`StoreError::KeyCollision`], or [`StoreError::NoSpace`] when only the reserve is left: the
    /// session goes on. Errors of the write itself end it.
    pub fn append(&mut self, group: &CheckedGroup) -> Result<(), StoreError> {
        self.check_alive()?;
        if self.is_stored(group)? {
            return Ok(());
        }
        self.check_space(group.payload().len() as u64)?;
        self.append_or_end(group).map(|_| ())
    }

    /// Appends a group whose records are stored already, in segments that collection empties; its
    /// segment and place. Look-ups may go on to find the old places.
    ///
    /// # Errors
    /// As [`Session::append`].
    pub(crate) fn append_again(&mut self, group: &CheckedGroup) -> Result<(u32, u32), StoreError> {
        self.check_alive()?;
        self.check_space(group.payload().len() as u64)?;
        self.append_or_end(group)
    }

    fn append_or_end(&mut self, group: &CheckedGroup) -> Result<(u32, u32), StoreError> {
        let appended = self.append_new(group);
        // A write that failed may have left anything behind it (I11).
        self.is_ended = appended.is_err();
        appended
    }

    fn check_alive(&self) -> Result<(), StoreError> {
        self.core.check_writable()?;
        if self.is_ended { Err(StoreError::SessionEnded) } else { Ok(()) }
    }

    /// Whether every record is stored already, its bytes compared; another content under a key is
    /// refused.
    fn is_stored(&self, group: &CheckedGroup) -> Result<bool, StoreError> {
        let mut decoded = None;
        let mut n_stored = 0;
        let mut seen = BTreeSet::new();
        let keys: Vec<Key> = group.table().iter().map(|row| row.key).collect();
        let places = self.find_many(group.form(), &keys)?;
        for ((slot, row), found) in (0_u8..=255).zip(group.table()).zip(places) {
            let is_twice = !seen.insert(row.key);
            if !is_twice && found.is_none() {
                continue;
            }
            let ours = match &mut decoded {
                Some(decoded) => decoded,
                none => none.insert(group.decoded()?),
            };
            let ours = ours.record(slot).unwrap_or_default();
            if let Some(place) = found {
                let store = Store { core: Arc::clone(&self.core) };
                let theirs = match store.group(self.tenant, place) {
                    // It was put aside just now, and this is the good copy that takes its place.
                    Err(StoreError::Damaged(_)) => continue,
                    theirs => theirs?,
                };
                n_stored += 1;
                if theirs.record(place.slot) != Some(ours) {
                    return Err(StoreError::KeyCollision(row.key));
                }
            } else if twin_differs(group, row.key, ours)? {
                return Err(StoreError::KeyCollision(row.key));
            }
        }
        Ok(n_stored == group.table().len())
    }

    fn append_new(&mut self, group: &CheckedGroup) -> Result<(u32, u32), StoreError> {
        let Settings { segment_bytes, segment_records, .. } = self.core.settings;
        let is_full = |writer: &SegmentWriter| writer.is_full(segment_bytes, segment_records);
        if self.writer.as_ref().is_some_and(is_full) {
            self.close_writer()?;
            self.core.spill(self.tenant, self.number, &self.segments);
        }
        let place = &self.core.place;
        let writer = match &mut self.writer {
            Some(writer) => writer,
            none => {
                let number = self.core.number()?;
                let made = SegmentWriter::create(place, number, self.core.id, self.tenant);
                let made = made.map_err(StoreError::io(format!("make segment {number:08x}")))?;
                self.segments.push(number);
                self.core.holds.own(self.number, number);
                let mut segments =
                    self.core.segments.write().unwrap_or_else(PoisonError::into_inner);
                segments.insert(number, Arc::clone(&made.segment));
                none.insert(made)
            }
        };
        let segment = writer.segment.number;
        let at = writer
            .append(group)
            .map_err(StoreError::io(format!("append to segment {segment:08x}")))?;
        let mut index = self.core.index.write().unwrap_or_else(PoisonError::into_inner);
        let index = index.entry(self.tenant).or_default();
        for (slot, row) in (0_u8..=255).zip(group.table()) {
            let place = RecordPlace { segment, place: at, slot, raw_bytes: row.raw_bytes };
            index.add((row.key, group.form()), place);
        }
        Ok((segment, at))
    }

    /// Refuses to eat the reserve that commits and deletions live on.
    fn check_space(&mut self, bytes: u64) -> Result<(), StoreError> {
        self.unchecked_bytes = self.unchecked_bytes.saturating_add(bytes);
        if self.unchecked_bytes < SPACE_CHECK_BYTES {
            return Ok(());
        }
        self.unchecked_bytes = 0;
        let admitted = self.core.reserve.admits(&self.core.place);
        if admitted.is_err() {
            // Whoever tries again is to hear what is so by then.
            self.unchecked_bytes = SPACE_CHECK_BYTES;
        }
        admitted
    }

    fn close_writer(&mut self) -> Result<(), StoreError> {
        let Some(mut writer) = self.writer.take() else { return Ok(()) };
        let number = writer.segment.number;
        writer.close().map_err(StoreError::io(format!("close segment {number:08x}")))
    }

    /// Makes everything appended so far durable as bytes. A crash still takes it away unless a
    /// commit refers to it.
    ///
    /// # Errors
    /// The disk's; the session is then ended, and the store stops writing.
    pub fn barrier(&mut self) -> Result<(), StoreError> {
        let segments = self.segments.clone();
        self.sync(&segments).map(|_| ())
    }

    /// Makes segments durable, also another session's: number, durable bytes, closed. Those that
    /// are committed are durable already and left out.
    pub(crate) fn sync(&mut self, segments: &[u32]) -> Result<Vec<(u32, u64, bool)>, StoreError> {
        self.check_alive()?;
        let synced = self.core.sync_segments(segments);
        self.synced(synced)
    }

    /// What a sync came to: after one that failed nothing may be written (I11).
    pub(crate) fn synced<T>(&mut self, synced: Result<T, StoreError>) -> Result<T, StoreError> {
        if synced.is_err() {
            self.is_ended = true;
            self.core.poison();
        }
        synced
    }

    pub(crate) const fn number(&self) -> u64 {
        self.number
    }

    pub(crate) fn segments(&self) -> &[u32] {
        &self.segments
    }

    /// Begins an image. With a parent point, whose image of the same volume is inherited, the list
    /// holds the changed positions only; `parent_list` is compared with the parent's list digest.
    ///
    /// # Errors
    /// [`StoreError::BaseMissing`] without such a parent image or with another list.
    pub fn image(
        &self,
        spec: ImageSpec,
        parent: Option<PointId>,
        parent_list: Option<Digest>,
    ) -> Result<ImageWriter, StoreError> {
        self.check_alive()?;
        let parent =
            parent.map(|point| self.parent_image(point, &spec, parent_list)).transpose()?;
        ImageWriter::create(&self.core.place, self.core.number()?, self.tenant, spec, parent)
    }

    fn parent_image(
        &self,
        point: PointId,
        spec: &ImageSpec,
        list: Option<Digest>,
    ) -> Result<Image, StoreError> {
        let image = match self.core.open_image(self.tenant, point, spec.volume) {
            Err(StoreError::PointUnknown(_)) | Ok(None) => return Err(StoreError::BaseMissing),
            Ok(Some(image)) => image,
            Err(error) => return Err(error),
        };
        if list.is_some_and(|list| list != image.list_digest()) {
            return Err(StoreError::BaseMissing);
        }
        Ok(image)
    }

    /// Commits images to a point, all or none (D-01). `Ok` means durable: the point survives
    /// anything but the loss of the disk. Each image comes with the list digest that was announced
    /// for it, if one was; it is compared with the list that was pushed.
    ///
    /// The same token again repeats the first answer. The session may go on and commit again.
    ///
    /// # Errors
    /// [`StoreError::UnknownRecord`], [`StoreError::BadList`], [`StoreError::ListMismatch`],
    /// [`StoreError::AlreadyExists`], [`StoreError::OutOfBounds`]: nothing happened. After an error
    /// of the disk the store is poisoned and opening it again says whether the commit happened.
    pub fn commit(
        &mut self,
        spec: PointSpec,
        images: Vec<(ImageWriter, Option<Digest>)>,
    ) -> Result<Committed, StoreError> {
        self.check_alive()?;
        check_spec(&spec, images.len())?;
        if images.iter().any(|(image, _)| image.tenant != self.tenant) {
            return Err(StoreError::OutOfBounds("an image of another tenant".to_owned()));
        }
        // Pages of the parents, and what the new pages refer to, stay until the rows are there.
        let change = self.core.holds.change();
        let parents: Vec<_> = images.iter().filter_map(|(image, _)| image.parent_hold()).collect();
        self.close_writer()?;
        let of = [self.core.id, self.tenant.to_bytes(), spec.point.to_bytes()];
        let images: Vec<_> = images
            .into_iter()
            .map(|(image, announced)| image.finish(announced, of))
            .collect::<Result<_, _>>()?;
        let mut segments = BTreeSet::new();
        for image in &images {
            let form = if image.row.is_encrypted { Form::Encrypted } else { Form::Plain };
            let mut windows = vec![Vec::new()];
            image.references(|entry| {
                if windows.last().is_none_or(|window| window.len() == WINDOW) {
                    if windows.len() == WINDOWS {
                        segments.append(&mut self.check_windows(form, &windows, &change)?);
                        windows.clear();
                    }
                    windows.push(Vec::with_capacity(WINDOW));
                }
                if let Some(window) = windows.last_mut() {
                    window.push(entry);
                }
                Ok(())
            })?;
            segments.append(&mut self.check_windows(form, &windows, &change)?);
        }
        let row = PointRow {
            agent: spec.agent.to_bytes(),
            taken_at: spec.taken_at.as_micros(),
            committed_at: spec.committed_at.as_micros(),
            n_images: spec.n_images,
            images: images.iter().map(|image| image.row.clone()).collect(),
            note: spec.note,
            deleted_at: None,
        };
        let request = Request {
            tenant: self.tenant,
            point: spec.point,
            token: spec.token,
            row,
            images,
            segments: segments.into_iter().collect(),
        };
        let committed = self.core.commit(request)?;
        drop((parents, change));
        self.has_committed = true;
        self.core.write_runs_shortly(self.tenant);
        Ok(committed)
    }
}

impl Session {
    /// Makes what was appended so far stay and be found, without a point: good copies of records
    /// that points refer to already. Durable when it returns.
    ///
    /// # Errors
    /// As [`Session::commit`].
    pub fn keep(&mut self) -> Result<(), StoreError> {
        self.check_alive()?;
        self.close_writer()?;
        let (tenant, segments) = (self.tenant, self.segments.clone());
        if !segments.is_empty() {
            self.core.keep(tenant, segments)?;
            self.has_committed = true;
            self.core.write_runs_shortly(tenant);
        }
        Ok(())
    }

    /// As [`Session::check_references`] for several windows at once, each on a thread.
    fn check_windows(
        &self,
        form: Form,
        windows: &[Vec<ListEntry>],
        change: &Change,
    ) -> Result<BTreeSet<u32>, StoreError> {
        let Some((last, others)) = windows.split_last() else { return Ok(BTreeSet::new()) };
        std::thread::scope(|threads| {
            let check = |window: &[ListEntry]| self.check_references(form, window, change);
            let (mut begun, mut segments) = (Vec::new(), BTreeSet::new());
            for window in others {
                let thread = std::thread::Builder::new().name("store-look-up".to_owned());
                match thread.spawn_scoped(threads, move || check(window)) {
                    Ok(thread) => begun.push(thread),
                    // Where the system gives no thread, a commit is slower and no worse.
                    Err(_) => segments.append(&mut check(window)?),
                }
            }
            segments.append(&mut check(last)?);
            for other in begun {
                // A panic of ours goes on in whoever asked.
                let found = other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
                segments.append(&mut found?);
            }
            Ok(segments)
        })
    }

    /// Whether every record is stored with the length that the list says; their segments.
    fn check_references(
        &self,
        form: Form,
        entries: &[ListEntry],
        change: &Change,
    ) -> Result<BTreeSet<u32>, StoreError> {
        let mut segments = BTreeSet::new();
        let keys: Vec<Key> = entries.iter().map(|entry| entry.key).collect();
        if let Some(live) = &change.live {
            live.add_late(self.tenant, keys.iter().copied());
        }
        let mut places = self.find_many(form, &keys)?;
        if places.iter().any(Option::is_none) {
            // It may have been answered by way of neighbours that this window does not have.
            Store { core: Arc::clone(&self.core) }.find_needed(self.tenant, form, &keys)?;
            places = self.find_many(form, &keys)?;
        }
        for (entry, place) in entries.iter().zip(places) {
            let unknown = || StoreError::UnknownRecord { key: entry.key, offset: entry.offset };
            let place = place.ok_or_else(unknown)?;
            if place.raw_bytes != entry.length {
                return Err(StoreError::BadList(format!(
                    "the record at {} has {} bytes, the list says {}",
                    entry.offset, place.raw_bytes, entry.length
                )));
            }
            segments.insert(place.segment);
        }
        Ok(segments)
    }
}

fn check_spec(spec: &PointSpec, n_images: usize) -> Result<(), StoreError> {
    let bound = |what: &str| Err(StoreError::OutOfBounds(what.to_owned()));
    if n_images == 0 || n_images > IMAGES_MAX || spec.n_images as usize > IMAGES_MAX {
        return bound("number of images of a point");
    }
    if spec.note.len() > NOTE_BYTES_MAX {
        return bound("length of a point's note");
    }
    Ok(())
}

/// Whether a key stands twice in one group for different records.
fn twin_differs(group: &CheckedGroup, key: Key, ours: &[u8]) -> Result<bool, StoreError> {
    let decoded = group.decoded()?;
    let mut twins = (0_u8..=255).zip(group.table()).filter(|(_, row)| row.key == key);
    Ok(twins.any(|(slot, _)| decoded.record(slot) != Some(ours)))
}

impl Drop for Session {
    fn drop(&mut self) {
        self.writer = None;
        self.core.holds.end_session(self.number);
        // A commit that failed half-way may have happened: opening decides what is an orphan.
        if self.core.check_writable().is_err() {
            return;
        }
        self.segments.retain(|number| self.core.is_uncommitted(*number));
        if !self.segments.is_empty() {
            let mut index = self.core.index.write().unwrap_or_else(PoisonError::into_inner);
            index.entry(self.tenant).or_default().orphans.append(&mut self.segments);
        }
        // Also where this one leaves none: it may have been what others' orphans waited for.
        self.core.clear_orphans(self.tenant);
        if self.has_committed {
            self.core.write_runs(self.tenant);
        }
    }
}
