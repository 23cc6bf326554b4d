//! Moving what is alive out of victims: read, decoded, compared, written elsewhere, durable; only
//! then do look-ups pass over the old segment.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError};

use offsite_model::{Key, TenantId};

use super::ahead::{Ahead, Group};
use super::run::{Kept, PORTION_BYTES, Run, Stage, doubt};
use super::weigh::{Listed, Victim, is_moved_whole, raw_bytes};
use crate::error::StoreError;
use crate::format::PLACE_BYTES;
use crate::group::{CheckedGroup, Form, GROUP_RECORDS_MAX};
use crate::index::IndexKey;
use crate::quarantine::GroupAt;
use crate::segment::{RecordPlace, Segment};
use crate::session::Session;
use crate::store::lock;

/// What is written goes to the disk in pieces of this size while more is read.
const WRITE_OUT_BYTES: u64 = 16 << 20;

/// How often a portion is settled at most: each time less can have come late than the time before.
const LATE_ROUNDS: u32 = 4;

/// Bytes of records that small rests are put together to.
const REST_BYTES: usize = 256 << 10;

/// What was moved and is not found at its new place yet.
struct Portion {
    session: Session,
    tenant: TenantId,
    /// Where each live record of the portion's victims lies from now on.
    settled: BTreeMap<IndexKey, RecordPlace>,
    victims: Vec<Victim>,
    bytes: u64,
    /// Of these, those that somebody was told to bring to the disk.
    bytes_written_out: u64,
    rests: BTreeMap<Form, Rest>,
    /// Groups elsewhere that were read and are good, and the records in them.
    good: BTreeMap<GroupAt, BTreeSet<(Key, Form, u8)>>,
}

/// Records that are put together to a new group.
#[derive(Default)]
struct Rest {
    records: Vec<(Key, Vec<u8>)>,
    bytes: usize,
}

/// What came of a victim whose records were moved.
enum Emptying {
    /// Nothing is found in it any more.
    Done,
    /// An open session counts on it.
    InUse,
    /// These are alive, as far as can be told, and were not when they could have been moved.
    Late(Vec<Listed>),
}

/// Segments that nothing is found in any more, per tenant.
pub(super) type Emptied = BTreeMap<TenantId, BTreeSet<u32>>;

impl Run<'_> {
    /// Empties victims; those that turn out to be needed stay.
    pub(super) fn carry(&mut self, victims: Vec<Victim>) -> Result<Emptied, StoreError> {
        let mut by_tenant: BTreeMap<TenantId, Vec<Victim>> = BTreeMap::new();
        self.n_left = victims.len() as u64;
        for victim in victims {
            by_tenant.entry(victim.segment.tenant).or_default().push(victim);
        }
        let mut emptied = Emptied::new();
        for (tenant, victims) in by_tenant {
            let numbers = victims.iter().map(|victim| victim.segment.number).collect();
            let gone = self.carry_of(tenant, victims, &numbers)?;
            emptied.insert(tenant, gone);
        }
        Ok(emptied)
    }

    fn carry_of(
        &mut self,
        tenant: TenantId,
        victims: Vec<Victim>,
        numbers: &BTreeSet<u32>,
    ) -> Result<BTreeSet<u32>, StoreError> {
        let moved = victims.iter().filter(|victim| !victim.is_dead());
        let moved = moved.map(|victim| Arc::clone(&victim.segment)).collect();
        let (core, n_threads) = (self.core, self.options.n_threads);
        std::thread::scope(|scope| {
            let ahead = Ahead::start(scope, core, n_threads, moved);
            self.carry_in_order(tenant, victims, numbers, ahead)
        })
    }

    fn carry_in_order(
        &mut self,
        tenant: TenantId,
        victims: Vec<Victim>,
        numbers: &BTreeSet<u32>,
        mut ahead: Ahead,
    ) -> Result<BTreeSet<u32>, StoreError> {
        let mut gone = BTreeSet::new();
        let mut portion = self.portion(tenant)?;
        let mut has_room = true;
        for victim in victims {
            self.go_on(Stage::Move)?;
            self.n_left = self.n_left.saturating_sub(1);
            if !victim.is_dead() {
                has_room = has_room && self.core.reserve.admits(&self.core.place).is_ok();
                let carried = match has_room {
                    true => self.carry_segment(&mut portion, &victim.segment, numbers, &mut ahead),
                    false => Err(StoreError::NoSpace),
                };
                match carried {
                    Err(StoreError::NoSpace) => {
                        ahead.skip(&victim.segment);
                        self.keep(Kept::NoSpace, victim.garbage_bytes());
                        if has_room {
                            portion = self.abandon(portion)?;
                        }
                        has_room = false;
                        continue;
                    }
                    other => other?,
                }
            }
            portion.victims.push(victim);
            if portion.bytes >= PORTION_BYTES || portion.victims.len() >= 64 {
                gone.extend(self.settle(portion)?);
                portion = self.portion(tenant)?;
            }
        }
        gone.extend(self.settle(portion)?);
        Ok(gone)
    }

    fn portion(&self, tenant: TenantId) -> Result<Portion, StoreError> {
        Ok(Portion {
            session: self.store.session(tenant)?,
            tenant,
            settled: BTreeMap::new(),
            victims: Vec::new(),
            bytes: 0,
            bytes_written_out: 0,
            rests: BTreeMap::new(),
            good: BTreeMap::new(),
        })
    }

    /// The portion with what needs no move: nothing of the rest can be made durable.
    fn abandon(&mut self, portion: Portion) -> Result<Portion, StoreError> {
        let (dead, moved): (Vec<_>, Vec<_>) =
            portion.victims.into_iter().partition(Victim::is_dead);
        for victim in moved {
            self.keep(Kept::NoSpace, victim.garbage_bytes());
        }
        Ok(Portion { victims: dead, ..self.portion(portion.tenant)? })
    }

    fn carry_segment(
        &mut self,
        portion: &mut Portion,
        segment: &Segment,
        victims: &BTreeSet<u32>,
        ahead: &mut Ahead,
    ) -> Result<(), StoreError> {
        while let Some(group) = ahead.next(self, segment)? {
            let records = group.records.iter();
            let live = self.live.select(portion.tenant, records, |(key, ..)| *key);
            let live: Vec<Listed> = live.into_iter().copied().collect();
            let live = self.not_elsewhere(portion, live, victims)?;
            if !live.is_empty() {
                self.carry_group(portion, segment, group, live)?;
                if portion.bytes >= portion.bytes_written_out + WRITE_OUT_BYTES {
                    let newest = portion.session.segments().last();
                    ahead.write_out(newest.and_then(|number| self.core.segment(*number)));
                    portion.bytes_written_out = portion.bytes;
                }
                self.go_on(Stage::Move)?;
            }
        }
        segment.let_go();
        Ok(())
    }

    /// Those of these records that have no good, committed copy outside of all victims.
    fn not_elsewhere(
        &self,
        portion: &mut Portion,
        live: Vec<Listed>,
        victims: &BTreeSet<u32>,
    ) -> Result<Vec<Listed>, StoreError> {
        let live =
            live.into_iter().filter(|(key, form, _)| !portion.settled.contains_key(&(*key, *form)));
        let live: Vec<Listed> = live.collect();
        let mut missing = Vec::new();
        let Some((_, form, _)) = live.first().copied() else { return Ok(missing) };
        let aside = self.core.aside(portion.tenant).without(victims);
        let keys: Vec<Key> = live.iter().map(|(key, ..)| *key).collect();
        let found = {
            let _looking = self.core.holds.looking();
            self.core.find_many(portion.tenant, form, &keys, &aside)?
        };
        for (record, found) in live.into_iter().zip(found) {
            match found.filter(|place| self.is_good(portion, place, &record)) {
                Some(place) => drop(portion.settled.insert((record.0, record.1), place)),
                None => missing.push(record),
            }
        }
        Ok(missing)
    }

    /// Whether the record of this length can be read at a place, and will be there after a crash.
    fn is_good(&self, portion: &mut Portion, place: &RecordPlace, record: &Listed) -> bool {
        let at = (place.segment, place.place);
        if !self.core.is_durable(place) || place.raw_bytes != record.2.raw_bytes {
            return false;
        }
        if let Some(known) = portion.good.get(&at) {
            return known.contains(&(record.0, record.1, place.slot));
        }
        let Ok(group) = self.store.group(portion.tenant, *place) else { return false };
        let slots = (0_u8..=255).zip(group.table());
        let known: BTreeSet<_> = slots.map(|(slot, row)| (row.key, group.form(), slot)).collect();
        let is_there = known.contains(&(record.0, record.1, place.slot));
        portion.good.insert(at, known);
        is_there
    }

    /// Moves the live records of a group: with their group as it lies, or, where they are few, put
    /// together with others.
    fn carry_group(
        &mut self,
        portion: &mut Portion,
        segment: &Segment,
        mut from: Group,
        live: Vec<Listed>,
    ) -> Result<(), StoreError> {
        let group = self.checked(segment, &mut from)?;
        let all = &from.records;
        let (raw, raw_live) = (raw_bytes(all.iter()), raw_bytes(live.iter()));
        if is_moved_whole(raw, raw_live, self.options.live_percent) {
            let (number, place) = portion.session.append_again(&group)?;
            // The dead ones too: what lies in a segment is to be found, or nobody knows of it.
            let settled = all.iter().map(|(key, form, old)| {
                ((*key, *form), RecordPlace { segment: number, place, ..*old })
            });
            portion.settled.extend(settled);
            self.count(portion, &group);
            return Ok(());
        }
        self.put_together(portion, &group, live)
    }

    /// Moves records of a group without the rest of it.
    fn put_together(
        &mut self,
        portion: &mut Portion,
        group: &CheckedGroup,
        live: Vec<Listed>,
    ) -> Result<(), StoreError> {
        let decoded = group.decoded()?;
        for (key, form, old) in live {
            let record = decoded.record(old.slot).unwrap_or_default();
            let rest = portion.rests.entry(form).or_default();
            if rest.bytes + record.len() > REST_BYTES || rest.records.len() >= GROUP_RECORDS_MAX {
                let full = std::mem::take(rest);
                self.write_rest(portion, form, full)?;
            }
            let rest = portion.rests.entry(form).or_default();
            if rest.records.iter().all(|(other, _)| *other != key) {
                rest.bytes += record.len();
                rest.records.push((key, record.to_vec()));
            }
        }
        Ok(())
    }

    /// A group of a victim, decoded, every record compared with its key. One that is damaged is put
    /// aside, and the run ends: what lies in it is alive.
    fn checked(&mut self, segment: &Segment, from: &mut Group) -> Result<CheckedGroup, StoreError> {
        let checked = from.checked(&self.core.place);
        let doing = StoreError::io(format!("read segment {:08x}", segment.number));
        let Some(group) = checked.map_err(doing).map_err(doubt)? else {
            self.core.doubt(segment.tenant, (segment.number, from.at));
            let place = u64::from(from.at) * PLACE_BYTES;
            let what = format!("segment {:08x}, group at {place}", segment.number);
            return Err(doubt(StoreError::Damaged(what)));
        };
        self.bytes_read += group.payload().len() as u64;
        Ok(group)
    }

    fn write_rest(
        &mut self,
        portion: &mut Portion,
        form: Form,
        rest: Rest,
    ) -> Result<(), StoreError> {
        if rest.records.is_empty() {
            return Ok(());
        }
        let records: Vec<(Key, &[u8])> =
            rest.records.iter().map(|(key, bytes)| (*key, &bytes[..])).collect();
        let group = CheckedGroup::encode(form, &records, self.options.level)?;
        let (segment, place) = portion.session.append_again(&group)?;
        for (slot, row) in (0_u8..=255).zip(group.table()) {
            let raw_bytes = row.raw_bytes;
            let place = RecordPlace { segment, place, slot, raw_bytes };
            portion.settled.insert((row.key, form), place);
        }
        self.count(portion, &group);
        Ok(())
    }

    fn count(&mut self, portion: &mut Portion, group: &CheckedGroup) {
        let bytes = group.payload().len() as u64;
        portion.bytes += bytes;
        self.report.bytes_moved += bytes;
    }

    /// Makes new places durable and lets look-ups find them in place of the old ones; the segments
    /// in which nothing is found any more. What somebody has come to need in a victim since it was
    /// moved is moved too, so often at most.
    fn settle(&mut self, mut portion: Portion) -> Result<Vec<u32>, StoreError> {
        let (tenant, mut emptied) = (portion.tenant, Vec::new());
        for n_left in (0..LATE_ROUNDS).rev() {
            portion = self.make_durable(portion)?;
            let mut late = Vec::new();
            for victim in std::mem::take(&mut portion.victims) {
                match self.empty_one(tenant, &victim.segment, &portion.settled)? {
                    Emptying::Done => emptied.push(victim.segment.number),
                    Emptying::Late(records) if n_left > 0 => late.push((victim, records)),
                    _ => self.keep(Kept::InUse, victim.garbage_bytes()),
                }
            }
            if late.is_empty() {
                break;
            }
            portion = Portion { settled: portion.settled, ..self.portion(tenant)? };
            for (victim, records) in late {
                match self.carry_late(&mut portion, &victim.segment, records) {
                    Ok(()) => portion.victims.push(victim),
                    Err(StoreError::NoSpace) if !self.store.is_poisoned() => {
                        self.keep(Kept::NoSpace, victim.garbage_bytes());
                        portion = self.abandon(portion)?;
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        drop(portion);
        self.core.write_runs(tenant);
        Ok(emptied)
    }

    /// Writes what is left to write; the portion without what the disk has no room for.
    fn make_durable(&mut self, mut portion: Portion) -> Result<Portion, StoreError> {
        let mut write = || {
            for (form, rest) in std::mem::take(&mut portion.rests) {
                self.write_rest(&mut portion, form, rest)?;
            }
            portion.session.keep()
        };
        match write() {
            Err(StoreError::NoSpace) if !self.store.is_poisoned() => self.abandon(portion),
            other => other.map(|()| portion),
        }
    }

    /// Moves records of a victim that nobody needed when the rest of it was moved, or that look now
    /// as if somebody did.
    fn carry_late(
        &mut self,
        portion: &mut Portion,
        segment: &Arc<Segment>,
        records: Vec<Listed>,
    ) -> Result<(), StoreError> {
        let mut groups: BTreeMap<u32, Vec<Listed>> = BTreeMap::new();
        for record in records {
            groups.entry(record.2.place).or_default().push(record);
        }
        for (at, records) in groups {
            let mut from = Group::unread(segment, at);
            let group = self.checked(segment, &mut from)?;
            self.put_together(portion, &group, records)?;
        }
        segment.let_go();
        Ok(())
    }

    /// Lets look-ups pass over a segment, unless somebody has come to need it since it was weighed.
    /// Nobody looks anything up while that is decided.
    fn empty_one(
        &mut self,
        tenant: TenantId,
        segment: &Arc<Segment>,
        settled: &BTreeMap<IndexKey, RecordPlace>,
    ) -> Result<Emptying, StoreError> {
        loop {
            let records = match self.live.n_late() {
                0 => None,
                _ => match self.list_of(segment)? {
                    None => return Ok(Emptying::InUse),
                    Some(contents) => Some(contents.records),
                },
            };
            let alone = self.core.holds.alone();
            if self.core.holds.is_told_unmarked(segment.number) {
                return Ok(Emptying::InUse);
            }
            match records {
                None if self.live.n_late() > 0 => continue,
                None => {}
                Some(records) => {
                    let live = self.live.select(tenant, records.into_iter(), |(key, ..)| *key);
                    let is_late = |(key, form, _): &Listed| !settled.contains_key(&(*key, *form));
                    let late: Vec<Listed> = live.into_iter().filter(is_late).collect();
                    if !late.is_empty() {
                        return Ok(Emptying::Late(late));
                    }
                }
            }
            let to = settled.values().map(|place| place.segment).collect();
            self.core.holds.moved(segment.number, &to);
            self.core.pass_over(tenant, segment.number, settled);
            drop(alone);
            return Ok(Emptying::Done);
        }
    }
}

impl crate::store::Core {
    /// From now on look-ups find the new places and nothing in the old segment.
    fn pass_over(&self, tenant: TenantId, segment: u32, settled: &BTreeMap<IndexKey, RecordPlace>) {
        self.quarantine.empty([segment]);
        lock(&self.trails).clear();
        // What the index loses here may have another copy that was not there when it was sought.
        lock(&self.nowhere).clear();
        let mut index = self.index.write().unwrap_or_else(PoisonError::into_inner);
        let index = index.entry(tenant).or_default();
        index.forget(&BTreeSet::from([segment]));
        // Also in place of what memory knew: that may lie in a segment that goes with its session.
        index.recent.extend(settled.iter().map(|(key, place)| (*key, *place)));
    }
}
