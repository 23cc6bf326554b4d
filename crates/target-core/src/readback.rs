//! H2: records of a recovery point on their way back to their source.
//!
//! An answer is made piece by piece while it is sent: first the keys of the ranges, window by
//! window, then the records, group by group. A group whose records are all asked for goes as it
//! lies. Every record is compared with its key before it leaves.
//!
//! **Absent:** who may ask, and the log of who did (`routes`).

use std::collections::{BTreeMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

use offsite_model::{Key, PointId, SessionId};
use offsite_proto::endpoint::Body as _;
use offsite_proto::error::{ErrorBody, ErrorCode, Refusal};
use offsite_proto::group::{self, Group, GroupEntry};
use offsite_proto::heal::{ORDINALS_WITH_RECORDS_MAX, OrdinalRange, RANGES_MAX};
use offsite_proto::json::Json;
use offsite_proto::limits::WINDOW_KEYS_MAX;
use offsite_proto::stream::{Encoder, End, Opcode, StreamKind};
use offsite_proto::window::{KeyWindow, ListEntry as WireEntry};
use offsite_store::group::{CheckedGroup, Codec, Form, StoredGroup};
use offsite_store::{ListEntry, RecordPlace, Store, StoreError};
use offsite_transport::Bytes;

use crate::outline::{ListName, Outline};

/// Bytes of records that are read between two looks at the reader.
const PIECE_BYTES: u64 = 4 << 20;
/// Entries that are looked at between two looks at the reader.
const PIECE_ENTRIES: usize = 1_024;
/// The zstd level of groups that are made anew.
const LEVEL: i32 = 1;

/// What is to be read.
pub(crate) struct Reading {
    pub(crate) store: Store,
    pub(crate) name: ListName,
    pub(crate) form: Form,
    pub(crate) outline: Arc<Outline>,
    pub(crate) ranges: Vec<Range<u64>>,
    pub(crate) keys_only: bool,
}

/// Checks ranges; what lies beyond the end of the list is left out.
///
/// # Errors
/// `bad_request`, `too_large`.
pub(crate) fn check_ranges(
    asked: &[OrdinalRange],
    n_entries: u64,
    keys_only: bool,
) -> Result<Vec<Range<u64>>, Refusal> {
    if asked.len() > RANGES_MAX {
        let sentence = format!("a call asks for at most {RANGES_MAX} ranges");
        return Err(Refusal::new(ErrorCode::TooLarge, sentence));
    }
    let mut ranges: Vec<Range<u64>> = Vec::with_capacity(asked.len());
    let (mut end, mut n_ordinals) = (0, 0_u64);
    for range in asked {
        if range.count.0 == 0 || range.first.0 < end {
            let sentence = "ranges ascend, lie apart, and hold at least one ordinal";
            return Err(Refusal::new(ErrorCode::BadRequest, sentence));
        }
        end = range.first.0.saturating_add(range.count.0);
        let (first, last) = (range.first.0.min(n_entries), end.min(n_entries));
        if first < last {
            n_ordinals = n_ordinals.saturating_add(last.saturating_sub(first));
            ranges.push(first..last);
        }
    }
    if !keys_only && n_ordinals > ORDINALS_WITH_RECORDS_MAX {
        let sentence =
            format!("a call asks for the records of at most {ORDINALS_WITH_RECORDS_MAX} ordinals");
        return Err(Refusal::new(ErrorCode::TooLarge, sentence));
    }
    Ok(ranges)
}

type Entries = Box<dyn Iterator<Item = Result<ListEntry, StoreError>> + Send>;

/// A walk over the ranges of a reading.
struct Walk {
    /// The range in hand, by index, and the next ordinal in it.
    range: usize,
    next: u64,
    entries: Option<Entries>,
}

impl Walk {
    const fn new() -> Self {
        Self { range: 0, next: 0, entries: None }
    }

    /// Up to so many entries of one range, as far as their records have so many bytes; none at the
    /// end.
    fn next_run(
        &mut self,
        reading: &Reading,
        n_max: usize,
        bytes_max: u64,
    ) -> Result<Option<(u64, Vec<ListEntry>)>, StoreError> {
        let Some(range) = reading.ranges.get(self.range) else { return Ok(None) };
        let entries = match &mut self.entries {
            Some(entries) => entries,
            none => {
                self.next = range.start;
                let (store, name) = (&reading.store, &reading.name);
                let from = reading.outline.entries_from(store, name, range.start)?;
                none.insert(Box::new(from))
            }
        };
        let first = self.next;
        let (mut run, mut bytes) = (Vec::new(), 0_u64);
        while self.next < range.end && run.len() < n_max && bytes < bytes_max {
            let ended = || StoreError::Damaged("a list is shorter than it was".to_owned());
            let entry = entries.next().ok_or_else(ended)??;
            self.next = self.next.saturating_add(1);
            if entry.key != Key::ZERO {
                bytes = bytes.saturating_add(entry.length.into());
            }
            run.push(entry);
        }
        if self.next >= range.end {
            self.range = self.range.saturating_add(1);
            self.entries = None;
        }
        Ok(Some((first, run)))
    }
}

enum Phase {
    Keys(Walk),
    Records(Walk),
    Over,
}

/// The stream of a reading, made piece by piece.
pub(crate) struct Answer {
    reading: Reading,
    encoder: Encoder,
    phase: Phase,
    window: u32,
    /// Keys whose records went out: each goes once.
    sent: HashSet<Key>,
    items: u64,
    bytes: u64,
}

impl Answer {
    pub(crate) fn new(reading: Reading) -> Self {
        Self {
            encoder: Encoder::new(StreamKind::Records, stream_id(reading.name.point)),
            reading,
            phase: Phase::Keys(Walk::new()),
            window: 0,
            sent: HashSet::new(),
            items: 0,
            bytes: 0,
        }
    }

    /// The next piece; none when the stream is over. A refusal is the last piece. Blocks.
    pub(crate) fn next_piece(&mut self) -> Option<Bytes> {
        while self.encoder.n_waiting() == 0 {
            match &self.phase {
                Phase::Over => return None,
                _ => self.advance(),
            }
        }
        Some(self.encoder.take())
    }

    fn advance(&mut self) {
        let advanced = match std::mem::replace(&mut self.phase, Phase::Over) {
            Phase::Keys(walk) => self.keys(walk),
            Phase::Records(walk) => self.records(walk),
            Phase::Over => Ok(()),
        };
        if let Err(refusal) = advanced {
            let point = self.reading.name.point;
            tracing::warn!(%point, cause = %refusal, "read back cut short");
            let payload = Json(ErrorBody { error: refusal }).encode();
            self.frame(Opcode::Fail, &payload);
        }
    }

    fn frame(&mut self, opcode: Opcode, payload: &[u8]) {
        // Windows and groups are smaller than a frame may be.
        if let Err(error) = self.encoder.frame(0, opcode, &[payload]) {
            tracing::error!(cause = %error, "a frame was not written");
        }
    }

    fn keys(&mut self, mut walk: Walk) -> Result<(), Refusal> {
        let n_max = WINDOW_KEYS_MAX as usize;
        let run = walk.next_run(&self.reading, n_max, u64::MAX).map_err(|e| broken(&e, &[]))?;
        let Some((first_ordinal, run)) = run else {
            match self.reading.keys_only {
                true => self.end(),
                false => self.phase = Phase::Records(Walk::new()),
            }
            return Ok(());
        };
        let entries: Vec<WireEntry> = run.iter().map(wire).collect();
        let payload = KeyWindow { window: self.window, first_ordinal, entries: &entries }.write();
        self.window = self.window.wrapping_add(1);
        if self.reading.keys_only {
            self.items = self.items.saturating_add(run.len() as u64);
        }
        self.bytes = self.bytes.saturating_add(payload.len() as u64);
        self.frame(Opcode::Keys, &payload);
        self.phase = Phase::Keys(walk);
        Ok(())
    }

    fn end(&mut self) {
        let end = End { items: self.items, bytes: self.bytes };
        self.frame(Opcode::End, &end.write());
    }

    fn records(&mut self, mut walk: Walk) -> Result<(), Refusal> {
        // What is found stays where it is until it was read.
        let _reading = self.reading.store.reading();
        let run = walk
            .next_run(&self.reading, PIECE_ENTRIES, PIECE_BYTES)
            .map_err(|e| broken(&e, &[]))?;
        let Some((first, run)) = run else {
            self.end();
            return Ok(());
        };
        let asked: Vec<(u64, ListEntry)> = (first..)
            .zip(run)
            .filter(|(_, entry)| entry.key != Key::ZERO && self.sent.insert(entry.key))
            .collect();
        for group in self.grouped(&asked)? {
            let payload = self.group(&group)?;
            self.items = self.items.saturating_add(group.wanted.len() as u64);
            self.bytes = self.bytes.saturating_add(payload.len() as u64);
            self.frame(Opcode::Records, &payload);
        }
        self.phase = Phase::Records(walk);
        Ok(())
    }

    /// What is asked for, by the group it lies in; the groups by their lowest ordinal.
    fn grouped(&self, asked: &[(u64, ListEntry)]) -> Result<Vec<Wanted>, Refusal> {
        let Reading { store, name, form, .. } = &self.reading;
        let keys: Vec<Key> = asked.iter().map(|(_, entry)| entry.key).collect();
        let all: Vec<u64> = asked.iter().map(|(ordinal, _)| *ordinal).collect();
        let places = store.find_needed(name.tenant, *form, &keys).map_err(|e| broken(&e, &all))?;
        let missing: Vec<u64> = asked
            .iter()
            .zip(&places)
            .filter(|(_, place)| place.is_none())
            .map(|((ordinal, _), _)| *ordinal)
            .collect();
        if !missing.is_empty() {
            return Err(damaged(&missing));
        }
        let mut groups: BTreeMap<(u32, u32), Wanted> = BTreeMap::new();
        for ((ordinal, entry), place) in asked.iter().zip(places) {
            let Some(place) = place else { continue };
            let wanted = groups.entry((place.segment, place.place));
            let wanted = wanted.or_insert_with(|| Wanted { place, wanted: Vec::new() });
            wanted.wanted.push((*ordinal, place.slot, *entry));
        }
        let mut groups: Vec<Wanted> = groups.into_values().collect();
        groups.sort_by_key(|group| group.wanted.first().map(|(ordinal, ..)| *ordinal));
        Ok(groups)
    }

    /// The payload of the frame that a group becomes.
    fn group(&self, group: &Wanted) -> Result<Vec<u8>, Refusal> {
        let Reading { store, name, form, .. } = &self.reading;
        let all: Vec<u64> = group.wanted.iter().map(|(ordinal, ..)| *ordinal).collect();
        let stored = store.group_as_stored(name.tenant, group.place);
        let stored = stored.map_err(|e| broken(&e, &all))?;
        let wrong = |e: offsite_store::group::GroupError| broken(&StoreError::Group(e), &all);
        // Whoever asks for it has lost his own copy: what is wrong here is said here.
        let StoredGroup { form: stored_form, codec, table, payload } = stored;
        let stored = CheckedGroup::check(stored_form, codec, table, &payload).map_err(wrong)?;
        for (_, slot, entry) in &group.wanted {
            let row = stored.table().get(usize::from(*slot));
            if row.is_none_or(|row| row.key != entry.key || row.raw_bytes != entry.length) {
                return Err(damaged(&all));
            }
        }
        let slots = group.wanted.iter().map(|(_, slot, _)| usize::from(*slot));
        if slots.eq(0..stored.table().len()) {
            return Ok(written(&stored, *form, &all));
        }
        let decoded = stored.decoded().map_err(wrong)?;
        let records = group
            .wanted
            .iter()
            .filter_map(|(_, slot, entry)| decoded.record(*slot).map(|record| (entry.key, record)));
        let records: Vec<(Key, &[u8])> = records.collect();
        let made = CheckedGroup::encode(*form, &records, LEVEL).map_err(wrong)?;
        Ok(written(&made, *form, &all))
    }
}

/// Records that are asked for and lie in one group: ordinal, slot, entry.
struct Wanted {
    place: RecordPlace,
    wanted: Vec<(u64, u8, ListEntry)>,
}

/// The id that the preamble of a point's stream carries.
fn stream_id(point: PointId) -> SessionId {
    SessionId::from_bytes(point.to_bytes())
}

fn wire(entry: &ListEntry) -> WireEntry {
    match entry.key == Key::ZERO {
        true => WireEntry::zeros(entry.offset, entry.length),
        false => WireEntry::record(entry.offset, entry.length, entry.key),
    }
}

fn written(checked: &CheckedGroup, form: Form, ordinals: &[u64]) -> Vec<u8> {
    let table: Vec<GroupEntry> = ordinals
        .iter()
        .zip(checked.table())
        .map(|(ordinal, row)| GroupEntry::new(*ordinal, row.key, row.raw_bytes))
        .collect();
    let codec = match checked.codec() {
        Codec::None => group::Codec::None,
        Codec::Zstd => group::Codec::Zstd,
    };
    let group = Group {
        codec,
        is_encrypted: form == Form::Encrypted,
        raw_bytes: checked.raw_bytes(),
        table: &table,
        payload: checked.payload(),
    };
    let mut out = Vec::with_capacity(checked.payload().len().saturating_add(16 << 10));
    group.write(&mut out);
    out
}

fn damaged(ordinals: &[u64]) -> Refusal {
    Refusal::new(ErrorCode::HashMismatch, "records that were asked for are damaged here")
        .with("ordinals", ordinals.to_vec())
}

fn broken(cause: &StoreError, ordinals: &[u64]) -> Refusal {
    match cause {
        StoreError::Damaged(what) => {
            tracing::error!(cause = what, "damage found while records were read back");
            damaged(ordinals)
        }
        StoreError::Group(_) | StoreError::UnknownRecord { .. } => damaged(ordinals),
        cause => unreadable(cause),
    }
}

/// The store cannot be read: the caller learns no more than that.
pub(crate) fn unreadable(cause: &StoreError) -> Refusal {
    tracing::error!(%cause, "the store cannot be read back");
    match cause {
        StoreError::Damaged(_) => {
            Refusal::new(ErrorCode::HashMismatch, "the list that was asked for is damaged here")
        }
        _ => {
            let sentence = "the target cannot use its repository now";
            Refusal::new(ErrorCode::RepositoryUnavailable, sentence).after(30)
        }
    }
}
