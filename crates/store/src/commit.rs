//! The one ordered list of writes and syncs by which a recovery point comes to exist (D-01).
//!
//! Step 1 is done by the session: groups, footers, manifests' bytes, references checked. Steps 2 to
//! 5 are [`Core::perform`], and nothing else in this crate syncs a segment, names a manifest,
//! changes a point's row or appends to the journal. Commits that arrive while another is under
//! way wait and then share one pass.
//!
//! An error in steps 2 to 5 poisons the store: what the disk then holds is decided by opening.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::sync::{Condvar, Mutex, PoisonError};

use offsite_model::{AgentId, Digest, PointId, TenantId, Timestamp};

use crate::catalog::{RowsMut, Transactions, TypedRows, TypedRowsMut};
use crate::error::StoreError;
use crate::layout::{Folder, NEEDS_COLLECTION, NEEDS_LOCKS, Root};
use crate::locks::{self, Lock};
use crate::manifest::Prepared;
use crate::rows::{
    self, COLLECT, CollectRow, CommitEntry, ENTRIES, ENTRY_SEGMENTS_MAX, Entry, Happening, POINTS,
    PURGED, PointRow, PurgedRow, STATE, STATE_KEY, StateRow, TOKENS, TokenRow, encode_entry,
    point_key, token_key,
};
use crate::store::{Committed, Core, lock, repeated};

/// A commit that has passed step 1.
pub(crate) struct Request {
    pub(crate) tenant: TenantId,
    pub(crate) point: PointId,
    pub(crate) token: [u8; 16],
    pub(crate) row: PointRow,
    pub(crate) images: Vec<Prepared>,
    /// Segments that the new pages refer to, ascending.
    pub(crate) segments: Vec<u32>,
}

impl Request {
    /// What makes two commits the same: the images' lists, in order.
    fn digest(&self) -> Digest {
        let mut bytes = Vec::new();
        for image in &self.row.images {
            bytes.extend_from_slice(&image.image);
            bytes.extend_from_slice(&image.volume);
            bytes.extend_from_slice(&image.bytes.to_le_bytes());
            bytes.extend_from_slice(&image.list_digest);
        }
        Digest::of(&bytes)
    }
}

/// Work that changes points or takes files away: each becomes a journal entry, or several.
pub(crate) enum Work {
    Commit(Box<Request>),
    Mark {
        tenant: TenantId,
        point: PointId,
        at: Timestamp,
        is_deleted: bool,
    },
    /// Segments that stay without a new point, ascending.
    Keep {
        tenant: TenantId,
        segments: Vec<u32>,
    },
    Purge {
        tenant: TenantId,
        point: PointId,
        at: Timestamp,
    },
    Collect(Vec<Garbage>),
    Lock {
        tenant: TenantId,
        agent: Option<AgentId>,
        lock: Lock,
        at: Timestamp,
    },
}

/// What a collection takes from one tenant: numbers, ascending.
pub(crate) struct Garbage {
    pub(crate) tenant: TenantId,
    pub(crate) segments: Vec<u32>,
    pub(crate) manifests: Vec<u32>,
}

/// Commits that wait for their turn.
#[derive(Default)]
pub(crate) struct Queue {
    state: Mutex<QueueState>,
    turn: Condvar,
}

#[derive(Default)]
struct QueueState {
    next_ticket: u64,
    waiting: Vec<(u64, Work)>,
    done: BTreeMap<u64, Result<Committed, StoreError>>,
    is_busy: bool,
}

impl Core {
    pub(crate) fn commit(&self, request: Request) -> Result<Committed, StoreError> {
        self.run(Work::Commit(Box::new(request)))
    }

    pub(crate) fn keep(&self, tenant: TenantId, segments: Vec<u32>) -> Result<(), StoreError> {
        self.run(Work::Keep { tenant, segments }).map(|_| ())
    }

    /// Removes the rows of what a collection found to be garbage. The files stay.
    pub(crate) fn collect(&self, garbage: Vec<Garbage>) -> Result<(), StoreError> {
        self.run(Work::Collect(garbage)).map(|_| ())
    }

    pub(crate) fn poison(&self) {
        self.is_poisoned.store(true, Ordering::SeqCst);
        self.catalog.stop();
    }

    /// Waits for a turn; whoever finds nobody busy performs for all that wait.
    pub(crate) fn run(&self, work: Work) -> Result<Committed, StoreError> {
        self.check_writable()?;
        let mut state = lock(&self.queue.state);
        let ticket = state.next_ticket;
        state.next_ticket += 1;
        state.waiting.push((ticket, work));
        loop {
            if let Some(result) = state.done.remove(&ticket) {
                return result;
            }
            if state.is_busy {
                state = self.queue.turn.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            state.is_busy = true;
            let batch = std::mem::take(&mut state.waiting);
            drop(state);
            let results = self.perform_all(batch);
            state = lock(&self.queue.state);
            state.is_busy = false;
            state.done.extend(results);
            self.queue.turn.notify_all();
        }
    }

    fn perform_all(&self, batch: Vec<(u64, Work)>) -> Vec<(u64, Result<Committed, StoreError>)> {
        let (tickets, mut works): (Vec<u64>, Vec<Work>) = batch.into_iter().unzip();
        let results = match self.check_writable().and_then(|()| self.perform(&mut works)) {
            Ok(results) => results,
            Err(error) => {
                self.poison();
                // The first learns the cause, the others that it was not theirs.
                let mut cause = Some(error);
                let all = works.iter().map(|_| Err(cause.take().unwrap_or(StoreError::Poisoned)));
                all.collect()
            }
        };
        tickets.into_iter().zip(results).collect()
    }

    /// Steps 2 to 5 for a batch. The outer error is the disk's and poisons; the inner ones are the
    /// commits' own and leave the others alone.
    fn perform(
        &self,
        works: &mut [Work],
    ) -> Result<Vec<Result<Committed, StoreError>>, StoreError> {
        let mut journal = lock(&self.journal);
        self.reserve.make_room(&self.place);
        // Step 2: every segment that is referred to and not durable yet.
        let referred: BTreeSet<u32> = works.iter().flat_map(Work::segments).copied().collect();
        let referred: Vec<u32> = referred.into_iter().collect();
        let durable = self.sync_segments(&referred)?;
        // Step 3: manifests.
        self.name_manifests(works)?;
        // Step 4: the points come to exist.
        self.need(works)?;
        let synced = journal.last;
        let (results, payloads) = self.catalog.write::<_, StoreError>(|rows| {
            let state = rows.value::<StateRow>(STATE, STATE_KEY)?;
            let mut state = state.filter(|state| state.fence == self.fence);
            let state = state.as_mut().ok_or(StoreError::Fenced)?;
            for number in state.synced_entry + 1..=synced.entry {
                rows.remove(ENTRIES, &number.to_be_bytes())?;
            }
            state.synced_entry = synced.entry;
            state.synced_digest = *synced.digest.as_bytes();
            state.synced_bytes = synced.bytes;
            let mut payloads = Vec::new();
            let mut results = Vec::new();
            for work in works.iter() {
                results.push(enter(rows, state, work, &durable, &mut payloads)?);
            }
            rows.put_value(STATE, STATE_KEY, state)?;
            Ok((results, payloads))
        })?;
        // Step 5: the journal follows.
        if !payloads.is_empty() {
            journal.append(&payloads).map_err(StoreError::io("append to the journal"))?;
        }
        // Step 6 is the caller's: answering.
        for (number, bytes, _) in durable {
            if let Some(segment) = self.segment(number) {
                segment.set_committed(bytes);
            }
        }
        for (work, result) in works.iter_mut().zip(&results) {
            if !matches!(result, Ok(committed) if !committed.is_repeat) {
                // Named, but no row knows them. Opening removes what this cannot.
                for image in work.images() {
                    drop(self.place.remove(&self.place.file(Folder::Manifests, image.number)));
                }
            }
        }
        self.let_files_go();
        Ok(results)
    }

    /// Syncs segments, and their directory for new ones: number, durable bytes, closed.
    pub(crate) fn sync_segments(
        &self,
        numbers: &[u32],
    ) -> Result<Vec<(u32, u64, bool)>, StoreError> {
        let mut durable = Vec::new();
        let mut has_new = false;
        for &number in numbers {
            let Some(segment) = self.segment(number) else {
                return Err(StoreError::Damaged(format!("segment {number:08x} is missing")));
            };
            let (bytes, is_closed) = segment.extent();
            if segment.bytes_committed() >= bytes {
                continue;
            }
            let doing = || StoreError::io(format!("sync segment {number:08x}"));
            let file = segment.file(&self.place).map_err(doing())?;
            file.sync().map_err(doing())?;
            has_new |= segment.bytes_committed() == 0;
            durable.push((number, bytes, is_closed && segment.has_footer()));
        }
        if has_new {
            self.place.sync(Folder::Segments)?;
        }
        Ok(durable)
    }

    fn name_manifests(&self, works: &mut [Work]) -> Result<(), StoreError> {
        let mut has_new = false;
        for image in works.iter_mut().flat_map(Work::images) {
            let doing = || StoreError::io(format!("put manifest {:08x} in place", image.number));
            image.file.sync().map_err(doing())?;
            let temporary = self.place.temporary(Folder::Manifests, image.number);
            let path = self.place.file(Folder::Manifests, image.number);
            self.place.files.rename(&temporary, &path).map_err(doing())?;
            image.is_named = true;
            has_new = true;
        }
        if has_new { self.place.sync(Folder::Manifests) } else { Ok(()) }
    }

    /// Whether this opening is still the newest one. The catalog's row is compared as well, inside
    /// the transaction; this file is read afresh, past any cache.
    pub(crate) fn check_fence(&self) -> Result<(), StoreError> {
        self.own_root().map(drop)
    }

    fn own_root(&self) -> Result<Root, StoreError> {
        let root = self.place.read_root()?;
        let is_ours = root.store == self.id && root.fence == self.fence;
        if is_ours { Ok(root) } else { Err(StoreError::Fenced) }
    }

    /// Shuts out programs that do not know what the journal is about to say.
    fn need(&self, works: &[Work]) -> Result<(), StoreError> {
        let root = self.own_root()?;
        let needs = works.iter().fold(root.needs, |needs, work| needs | work.needs());
        if needs == root.needs {
            return Ok(());
        }
        self.place.write_root(Root { needs, ..root })
    }
}

impl Work {
    /// What a program must know to read the entry that this becomes.
    const fn needs(&self) -> u32 {
        match self {
            Self::Purge { .. } | Self::Collect(_) => NEEDS_COLLECTION,
            Self::Lock { .. } => NEEDS_LOCKS,
            Self::Commit(_) | Self::Mark { .. } | Self::Keep { .. } => 0,
        }
    }

    fn segments(&self) -> &[u32] {
        match self {
            Self::Commit(request) => &request.segments,
            Self::Keep { segments, .. } => segments,
            Self::Mark { .. } | Self::Purge { .. } | Self::Collect(_) | Self::Lock { .. } => &[],
        }
    }

    fn images(&mut self) -> &mut [Prepared] {
        match self {
            Self::Commit(request) => &mut request.images,
            _ => &mut [],
        }
    }
}

/// Makes the rows of one work within the transaction. The inner error is its own.
fn enter(
    rows: &mut dyn RowsMut,
    state: &mut StateRow,
    work: &Work,
    durable: &[(u32, u64, bool)],
    payloads: &mut Vec<(u64, Vec<u8>, Digest)>,
) -> Result<Result<Committed, StoreError>, StoreError> {
    let (happening, point, committed_at) = match work {
        Work::Keep { tenant, segments } => {
            let tenant = tenant.to_bytes();
            let segments: Vec<_> =
                durable.iter().filter(|(n, _, _)| segments.contains(n)).copied().collect();
            let mut entry = state.entry;
            for chunk in segments.chunks(ENTRY_SEGMENTS_MAX) {
                let segments = chunk.to_vec();
                entry = add_entry(rows, state, Happening::Segments { tenant, segments }, payloads)?;
            }
            let (point, committed_at) = (PointId::from_bytes([0; 16]), Timestamp::from_micros(0));
            return Ok(Ok(Committed { point, entry, committed_at, is_repeat: false }));
        }
        Work::Collect(garbage) => {
            let entry = enter_garbage(rows, state, garbage, payloads)?;
            let (point, committed_at) = (PointId::from_bytes([0; 16]), Timestamp::from_micros(0));
            return Ok(Ok(Committed { point, entry, committed_at, is_repeat: false }));
        }
        Work::Purge { tenant, point, at } => {
            match rows.value::<PointRow>(POINTS, &point_key(*tenant, *point))? {
                None => return Ok(Err(StoreError::PointUnknown(*point))),
                Some(row) if row.deleted_at.is_none() => {
                    return Ok(Err(StoreError::NotDeleted(*point)));
                }
                Some(row) => {
                    if let Err(locked) = locks::check(rows, *tenant, *point, row.counts_from(), *at)
                    {
                        return Ok(Err(locked));
                    }
                }
            }
            let (tenant, id) = (tenant.to_bytes(), point.to_bytes());
            (Happening::Purge { tenant, point: id, at: at.as_micros() }, *point, *at)
        }
        Work::Mark { tenant, point, at, is_deleted } => {
            // It may have been purged since it was asked for.
            let Some(row) = rows.value::<PointRow>(POINTS, &point_key(*tenant, *point))? else {
                return Ok(Err(StoreError::PointUnknown(*point)));
            };
            if *is_deleted
                && let Err(locked) = locks::check(rows, *tenant, *point, row.counts_from(), *at)
            {
                return Ok(Err(locked));
            }
            let (tenant, id) = (tenant.to_bytes(), point.to_bytes());
            let at_micros = at.as_micros();
            let happening = match is_deleted {
                true => Happening::Delete { tenant, point: id, at: at_micros },
                false => Happening::Undelete { tenant, point: id, at: at_micros },
            };
            (happening, *point, *at)
        }
        Work::Lock { tenant, agent, lock, at } => {
            let days = locks::set(rows, *tenant, *agent)?.compliance_days;
            if lock.compliance_days < days {
                return Ok(Err(StoreError::LockKept { days }));
            }
            let (tenant, agent) = (tenant.to_bytes(), locks::agent_bytes(*agent));
            let at_micros = at.as_micros();
            let happening = Happening::Lock { tenant, agent, lock: *lock, at: at_micros };
            (happening, PointId::from_bytes([0; 16]), *at)
        }
        Work::Commit(request) => {
            if let Some(answer) = earlier_answer(rows, request)? {
                return Ok(answer);
            }
            let tenant = request.tenant.to_bytes();
            let segments: Vec<_> = durable
                .iter()
                .filter(|(n, _, _)| request.segments.binary_search(n).is_ok())
                .copied()
                .collect();
            let mut entry = CommitEntry {
                tenant,
                point: request.point.to_bytes(),
                token: request.token,
                digest: *request.digest().as_bytes(),
                row: request.row.clone(),
                segments: Vec::new(),
                manifests: request.images.iter().map(|i| (i.number, i.bytes)).collect(),
            };
            let mut chunks = segments.chunks(ENTRY_SEGMENTS_MAX).peekable();
            while let Some(chunk) = chunks.next() {
                let segments = chunk.to_vec();
                if chunks.peek().is_some() {
                    add_entry(rows, state, Happening::Segments { tenant, segments }, payloads)?;
                } else {
                    entry.segments = segments;
                }
            }
            let at = Timestamp::from_micros(request.row.committed_at);
            (Happening::Commit(entry), request.point, at)
        }
    };
    let entry = add_entry(rows, state, happening, payloads)?;
    Ok(Ok(Committed { point, entry, committed_at, is_repeat: false }))
}

/// Takes the rows of garbage away and counts the collection; the last entry's number.
fn enter_garbage(
    rows: &mut dyn RowsMut,
    state: &mut StateRow,
    garbage: &[Garbage],
    payloads: &mut Vec<(u64, Vec<u8>, Digest)>,
) -> Result<u64, StoreError> {
    for Garbage { tenant, segments, manifests } in garbage {
        let tenant = tenant.to_bytes();
        for part in segments.chunks(ENTRY_SEGMENTS_MAX) {
            let (segments, manifests) = (part.to_vec(), Vec::new());
            add_entry(rows, state, Happening::Collect { tenant, segments, manifests }, payloads)?;
        }
        for part in manifests.chunks(ENTRY_SEGMENTS_MAX) {
            let (segments, manifests) = (Vec::new(), part.to_vec());
            add_entry(rows, state, Happening::Collect { tenant, segments, manifests }, payloads)?;
        }
    }
    let CollectRow { epoch } = rows.value(COLLECT, STATE_KEY)?.unwrap_or_default();
    rows.put_value(COLLECT, STATE_KEY, &CollectRow { epoch: epoch.saturating_add(1) })?;
    Ok(state.entry)
}

/// Adds one journal entry and the rows that it stands for; its number.
fn add_entry(
    rows: &mut dyn RowsMut,
    state: &mut StateRow,
    happening: Happening,
    payloads: &mut Vec<(u64, Vec<u8>, Digest)>,
) -> Result<u64, StoreError> {
    let entry = Entry { number: state.entry + 1, previous: state.entry_digest, happening };
    // Bounded by IMAGES_MAX, NOTE_BYTES_MAX and ENTRY_SEGMENTS_MAX, so never too long.
    let (payload, digest) = encode_entry(&entry)?;
    rows::apply(rows, &entry)?;
    rows.put(ENTRIES, &entry.number.to_be_bytes(), &payload)?;
    state.entry = entry.number;
    state.entry_digest = *digest.as_bytes();
    payloads.push((entry.number, payload, digest));
    Ok(entry.number)
}

/// The answer to a commit that is a repeat or a contradiction; none when it is new.
fn earlier_answer(
    rows: &dyn RowsMut,
    request: &Request,
) -> Result<Option<Result<Committed, StoreError>>, StoreError> {
    let exists = || Some(Err(StoreError::AlreadyExists(request.point)));
    let key = token_key(request.tenant, request.token);
    if let Some(before) = rows.value::<TokenRow>(TOKENS, &key)? {
        let is_same = before.digest == *request.digest().as_bytes()
            && before.point == request.point.to_bytes();
        return Ok(if is_same { Some(Ok(repeated(&before))) } else { exists() });
    }
    let key = point_key(request.tenant, request.point);
    if rows.value::<PurgedRow>(PURGED, &key)?.is_some() {
        return Ok(Some(Err(StoreError::Purged(request.point))));
    }
    let Some(before) = rows.value::<PointRow>(POINTS, &key)? else { return Ok(None) };
    let is_other_point = before.agent != request.row.agent
        || before.taken_at != request.row.taken_at
        || before.n_images != request.row.n_images;
    let has_image = before.images.iter().any(|image| {
        request.row.images.iter().any(|new| new.image == image.image || new.volume == image.volume)
    });
    let is_too_many = before.images.len() + request.row.images.len() > before.n_images as usize;
    Ok(if is_other_point || has_image || is_too_many { exists() } else { None })
}
