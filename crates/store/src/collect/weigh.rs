//! Where garbage lies: every segment's own list against what is alive, and which segments are
//! emptied.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use offsite_model::Key;

use super::run::{Kept, Run, Stage, doubt};
use crate::error::StoreError;
use crate::group::Form;
use crate::rows::SegmentRow;
use crate::segment::{Contents, RecordPlace, Segment};

/// A record as a segment's list names it.
pub(super) type Listed = (Key, Form, RecordPlace);

/// A segment and how much of it stays when it is emptied, in bytes of records: what is alive, and
/// what is moved with it because its group is.
pub(super) struct Victim {
    pub(super) segment: Arc<Segment>,
    /// Something in it is damaged, and has good copies elsewhere where it is alive.
    is_hurt: bool,
    raw_bytes: u64,
    live_bytes: u64,
    dead_bytes: u64,
}

/// Whether a group is moved as it lies, and not its live records alone.
pub(super) fn is_moved_whole(raw_bytes: u64, live_bytes: u64, live_percent: u8) -> bool {
    let live = u128::from(live_bytes) * 100;
    live_bytes > 0 && live >= u128::from(raw_bytes) * u128::from(live_percent.min(100))
}

impl Victim {
    /// Stored bytes of what is alive, about.
    fn stored_live(&self) -> u64 {
        self.stored(self.live_bytes)
    }

    /// Stored bytes of what nobody needs, about.
    pub(super) fn garbage_bytes(&self) -> u64 {
        self.stored(self.dead_bytes)
    }

    fn stored(&self, raw_bytes: u64) -> u64 {
        let share = u128::from(self.segment.bytes()) * u128::from(raw_bytes);
        u64::try_from(share / u128::from(self.raw_bytes.max(1))).unwrap_or(u64::MAX)
    }

    /// Whether nothing in it is needed, so that it goes without being read.
    pub(super) const fn is_dead(&self) -> bool {
        self.live_bytes == 0 && !self.is_hurt
    }

    fn is_worth(&self, live_percent: u8) -> bool {
        let live = u128::from(self.live_bytes) * 100;
        self.is_dead()
            || self.is_hurt
            || (live < u128::from(self.raw_bytes) * u128::from(live_percent)
                && self.live_bytes < self.raw_bytes)
    }
}

pub(super) fn raw_bytes<'a>(records: impl Iterator<Item = &'a Listed>) -> u64 {
    records.map(|(_, _, place)| u64::from(place.raw_bytes)).sum()
}

impl Run<'_> {
    /// The victims of this run, those with least alive first.
    pub(super) fn weigh(&mut self, rows: &[(u32, SegmentRow)]) -> Result<Vec<Victim>, StoreError> {
        let mut victims = Vec::new();
        self.n_left = rows.len() as u64;
        for (number, _) in rows {
            self.go_on(Stage::Weigh)?;
            self.n_left -= 1;
            let Some(segment) = self.core.segment(*number) else { continue };
            if let Some(victim) = self.weigh_one(segment)? {
                victims.push(victim);
            }
        }
        let share = |victim: &Victim| victim.live_bytes as f64 / victim.raw_bytes.max(1) as f64;
        victims.sort_by(|a, b| share(a).total_cmp(&share(b)));
        let mut left = self.options.moved_bytes_max;
        let mut chosen = Vec::new();
        for victim in victims {
            if !victim.is_worth(self.options.live_percent) {
                if victim.dead_bytes > 0 {
                    self.keep(Kept::MostlyAlive, victim.garbage_bytes());
                }
            } else if victim.stored_live() > left {
                self.keep(Kept::NextRun, victim.garbage_bytes());
            } else {
                left -= victim.stored_live();
                chosen.push(victim);
            }
        }
        Ok(chosen)
    }

    fn weigh_one(&mut self, segment: Arc<Segment>) -> Result<Option<Victim>, StoreError> {
        let (bytes, is_closed) = segment.extent();
        if !is_closed || segment.bytes_committed() < bytes {
            self.keep(Kept::Open, 0);
            return Ok(None);
        }
        if self.core.holds.is_told_unmarked(segment.number) {
            self.keep(Kept::InUse, 0);
            return Ok(None);
        }
        let Some(contents) = self.list_of(&segment)? else {
            self.keep(Kept::Damaged, 0);
            return Ok(None);
        };
        let hurt: Vec<u32> = self.core.aside(segment.tenant).groups_of(segment.number).collect();
        if !self.can_spare(&segment, &contents, &hurt)? {
            self.keep(Kept::PutAside, 0);
            return Ok(None);
        }
        let mut groups: BTreeMap<u32, (u64, u64)> = BTreeMap::new();
        for (_, _, place) in &contents.records {
            groups.entry(place.place).or_default().0 += u64::from(place.raw_bytes);
        }
        let live = self.live.select(segment.tenant, contents.records.iter(), |(key, ..)| *key);
        for (_, _, place) in live.into_iter().filter(|(_, _, place)| !hurt.contains(&place.place)) {
            groups.entry(place.place).or_default().1 += u64::from(place.raw_bytes);
        }
        let is_hurt = !hurt.is_empty();
        let mut victim = Victim { segment, is_hurt, raw_bytes: 0, live_bytes: 0, dead_bytes: 0 };
        for (raw, live) in groups.into_values() {
            let is_whole = is_moved_whole(raw, live, self.options.live_percent);
            victim.raw_bytes += raw;
            victim.dead_bytes += raw - live;
            victim.live_bytes += if is_whole { raw } else { live };
        }
        Ok(Some(victim))
    }

    /// What a segment holds; none where that cannot be told whole. Such a segment is kept, which
    /// is never wrong.
    pub(super) fn list_of(&mut self, segment: &Segment) -> Result<Option<Contents>, StoreError> {
        let place = &self.core.place;
        let read = || -> io::Result<Option<Contents>> {
            if segment.file(place)?.bytes()? < segment.bytes() {
                return Ok(None);
            }
            Ok(Some(segment.contents(place)?).filter(|contents| contents.is_whole))
        };
        let contents = match read() {
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof
                ) =>
            {
                None
            }
            Err(error) => {
                let doing = format!("read segment {:08x}", segment.number);
                return Err(doubt(StoreError::io(doing)(error)));
            }
            Ok(contents) => contents,
        };
        segment.let_go();
        let n = contents.as_ref().map_or(0, |contents| contents.records.len() as u64);
        self.bytes_read += n * 36;
        Ok(contents)
    }

    /// Whether what is alive in damaged groups of a segment has good copies elsewhere. Where it has
    /// not, the segment stays as it is; that is no doubt about any other.
    fn can_spare(
        &self,
        segment: &Segment,
        contents: &Contents,
        hurt: &[u32],
    ) -> Result<bool, StoreError> {
        if hurt.iter().any(|group| contents.groups.binary_search(group).is_err()) {
            return Ok(false);
        }
        let records = contents.records.iter();
        let records = records.filter(|(_, _, place)| hurt.contains(&place.place));
        for (key, form, _) in self.live.select(segment.tenant, records, |(key, ..)| *key) {
            if self.store.find(segment.tenant, *form, key).map_err(doubt)?.is_none() {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
