//! What is done to the store besides locking and deleting: protecting, receiving, reading,
//! collecting, looking for damage.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use offsite_model::{Key, Luck, SessionId, Timestamp};

use super::super::collect::ALL;
use super::super::scene::*;
use super::locks::agent;
use super::{Flying, Open, POOL, Reader, Receiving, World};
use crate::group::{CheckedGroup, Form};
use crate::{CollectOptions, GroupCache, PointSpec, ScrubProgress, StoreError};

impl World {
    fn volume(&self) -> Vec<u8> {
        // Neighbours in the pool stay neighbours, so that groups are shared as wholes and in part.
        let start = self.dice.below(POOL);
        let n = 1 + self.dice.below(12);
        (start..start + n).flat_map(|i| self.pool[(i % POOL) as usize].clone()).collect()
    }

    /// The point as it is committed now, which is in flight from here on.
    fn spec(&mut self, number: u64, tenant: u8, bytes: &[u8]) -> PointSpec {
        let volumes = Volumes::from([(1, bytes.to_vec())]);
        let expected = Expected { tenant, volumes, is_deleted: false };
        self.flying = Some(Flying::Commit { number, expected });
        let committed_at = self.locks.moment();
        PointSpec { agent: agent(number), committed_at, ..point_spec(number, 1) }
    }

    /// What was in flight was answered.
    fn committed(&mut self) {
        if let Some(Flying::Commit { number, expected }) = self.flying.take() {
            self.locks.received(number);
            self.model.insert(number, expected);
        }
    }

    pub(super) fn begin(&mut self) -> Result<(), StoreError> {
        let owner = 1 + self.dice.below(2) as u8;
        let session = self.store().session(tenant(owner))?;
        let number = self.number();
        let mut bytes = self.volume();
        let parent =
            self.a_point(|expected| expected.tenant == owner).filter(|_| self.dice.one_in(2));
        let mut writer = None;
        if let Some(parent) = parent {
            let before = self.model[&parent].volumes[&1].clone();
            bytes = before.clone();
            for record in bytes.chunks_mut(RECORD).filter(|_| self.dice.one_in(3)) {
                record.copy_from_slice(&self.pool[self.dice.below(POOL) as usize]);
            }
            let spec = image_spec(number, 1, bytes.len() as u64);
            writer = Some((session.image(spec, Some(point(parent)), None)?, before));
        }
        let (parent, told) = (writer, BTreeSet::new());
        self.open.push(Open { session, tenant: owner, number, bytes, parent, told });
        Ok(())
    }

    pub(super) fn abort(&mut self) -> Result<(), StoreError> {
        if let Some(at) = self.one(self.open.len()) {
            drop(self.open.swap_remove(at));
        }
        Ok(())
    }

    /// Asks for some records of an open session, and appends some that are missing.
    pub(super) fn go_on(&mut self) -> Result<(), StoreError> {
        let Some(at) = self.one(self.open.len()) else { return Ok(()) };
        let Self { dice, open, .. } = self;
        let open = &mut open[at];
        let mut missing: Vec<(Key, &[u8])> = Vec::new();
        for record in open.bytes.chunks(RECORD).filter(|_| dice.one_in(2)) {
            let key = Key::of(record);
            if open.session.find(Form::Plain, &key)?.is_some() {
                open.told.insert(key);
            } else if missing.len() < 3 && missing.iter().all(|(other, _)| *other != key) {
                missing.push((key, record));
            }
        }
        if !missing.is_empty() {
            open.session.append(&CheckedGroup::encode(Form::Plain, &missing, 1)?)?;
            open.told.extend(missing.iter().map(|(key, _)| *key));
        }
        Ok(())
    }

    pub(super) fn commit(&mut self) -> Result<(), StoreError> {
        let Some(at) = self.one(self.open.len()) else { return Ok(()) };
        let Open { mut session, tenant, number, bytes, parent, told } = self.open.swap_remove(at);
        let list = list_of(&bytes, parent.as_ref().map(|(_, before)| &before[..]));
        for entry in &list {
            let is_found = session.find(Form::Plain, &entry.key)?.is_some();
            let was_told = told.contains(&entry.key);
            assert!(is_found || !was_told, "told of {}, and it is gone", entry.key);
        }
        append_missing(&mut session, &bytes, &list)?;
        let spec = image_spec(number, 1, bytes.len() as u64);
        let mut image = match parent {
            Some((image, _)) => image,
            None => session.image(spec, None, None)?,
        };
        list.iter().try_for_each(|entry| image.push(*entry))?;
        let spec = self.spec(number, tenant, &bytes);
        session.commit(spec, vec![(image, None)])?;
        self.committed();
        Ok(())
    }

    pub(super) fn receive(&mut self) -> Result<(), StoreError> {
        let id = 1 + self.dice.below(3) as u8;
        let session = SessionId::from_bytes([id; 16]);
        let store = self.store();
        if !self.receiving.contains_key(&id) {
            let owner = 1 + self.dice.below(2) as u8;
            let (number, bytes, held) = (self.number(), self.volume(), BTreeSet::new());
            let receiving = Receiving { draft: None, tenant: owner, number, bytes, held };
            self.receiving.insert(id, receiving);
            self.flying = Some(Flying::Draft { id });
            let draft = store.draft(tenant(owner), session, Vec::new())?;
            self.flying = None;
            self.receiving.get_mut(&id).unwrap().draft = Some(draft);
        }
        // Taken out, and put back unless it ends: an error leaves what was held.
        let receiving = self.receiving.get_mut(&id).unwrap();
        let owner = tenant(receiving.tenant);
        if receiving.draft.is_none() {
            receiving.draft = Some(store.resume(owner, session)?);
        }
        let n_listed = receiving.draft.as_ref().map_or(0, crate::Draft::n_listed) as usize;
        let list = list_of(&receiving.bytes, None);
        match self.dice.below(8) {
            0 => receiving.draft = None,
            1..5 if n_listed < list.len() => self.offer(id)?,
            1..6 => self.send(id)?,
            6 if n_listed == list.len() => {
                self.land(id)?;
                self.end_draft(id)?;
            }
            _ if self.dice.one_in(3) => self.end_draft(id)?,
            _ => {}
        }
        Ok(())
    }

    fn end_draft(&mut self, id: u8) -> Result<(), StoreError> {
        self.flying = Some(Flying::Draft { id });
        let owner = tenant(self.receiving[&id].tenant);
        self.store().end_draft(owner, SessionId::from_bytes([id; 16]))?;
        self.receiving.remove(&id);
        Ok(())
    }

    /// A window of the list, answered after a promise.
    fn offer(&mut self, id: u8) -> Result<(), StoreError> {
        let Self { dice, receiving, .. } = self;
        let Some(Receiving { draft: Some(own), bytes, held, .. }) = receiving.get_mut(&id) else {
            return Ok(());
        };
        let list = list_of(bytes, None);
        let first = own.n_listed();
        let window: Vec<_> = list[first as usize..].iter().take(4).copied().collect();
        let keys: Vec<Key> = window.iter().map(|entry| entry.key).collect();
        let is_late = dice.one_in(2);
        if is_late {
            own.list(first, &window)?;
        }
        let found = own.find_many(Form::Plain, &keys)?;
        if !is_late {
            own.list(first, &window)?;
        }
        own.promise()?;
        let answered = keys.iter().zip(found).filter(|(_, found)| found.is_some());
        held.extend(answered.map(|(key, _)| *key));
        Ok(())
    }

    /// Some of what was wanted, and a barrier.
    fn send(&mut self, id: u8) -> Result<(), StoreError> {
        let Self { dice, receiving, .. } = self;
        let Some(Receiving { draft: Some(own), bytes, held, .. }) = receiving.get_mut(&id) else {
            return Ok(());
        };
        for record in bytes.chunks(RECORD).take(own.n_listed() as usize) {
            let group = CheckedGroup::encode(Form::Plain, &[(Key::of(record), record)], 1)?;
            if !held.contains(&Key::of(record)) && dice.one_in(2) {
                own.append(&group)?;
            }
        }
        own.barrier()
    }

    /// The rest of it, and the commit.
    fn land(&mut self, id: u8) -> Result<(), StoreError> {
        let Some(mut receiving) = self.receiving.remove(&id) else { return Ok(()) };
        let landed = self.land_taken(&mut receiving);
        self.receiving.insert(id, receiving);
        landed
    }

    fn land_taken(&mut self, receiving: &mut Receiving) -> Result<(), StoreError> {
        let Receiving { draft: Some(own), tenant: owner, number, bytes, held } = receiving else {
            return Ok(());
        };
        for record in bytes.chunks(RECORD) {
            let key = Key::of(record);
            let is_there = own.find_many(Form::Plain, &[key])?[0].is_some();
            assert!(is_there || !held.contains(&key), "held, and it is gone");
            own.append(&CheckedGroup::encode(Form::Plain, &[(key, record)], 1)?)?;
        }
        let spec = image_spec(*number, 1, bytes.len() as u64);
        let mut image = own.session().image(spec, None, None)?;
        list_of(bytes, None).iter().try_for_each(|entry| image.push(*entry))?;
        let spec = self.spec(*number, *owner, bytes);
        own.commit(spec, vec![(image, None)])?;
        self.committed();
        Ok(())
    }

    pub(super) fn read(&mut self) -> Result<(), StoreError> {
        if self.dice.one_in(2) || self.readers.is_empty() {
            let Some(number) = self.a_point(|_| true) else { return Ok(()) };
            let expected = &self.model[&number];
            let owner = tenant(expected.tenant);
            let image = self.store().image(owner, point(number), volume(1))?;
            let list = image.list(0).collect::<Result<Vec<_>, _>>()?;
            let fetches = self.store().plan(owner, &image, &list)?;
            self.readers.push(Reader { image, fetches, bytes: expected.volumes[&1].clone() });
            return Ok(());
        }
        let Some(at) = self.one(self.readers.len()) else { return Ok(()) };
        let Reader { image, fetches, bytes } = self.readers.swap_remove(at);
        let (mut found, cache) = (vec![0; bytes.len()], GroupCache::default());
        for fetch in fetches {
            fetch.read(&self.store(), &cache, &mut found[..])?;
        }
        assert!(found == bytes, "wrong bytes");
        // Its pages are held as well.
        let list = image.list(0).collect::<Result<Vec<_>, _>>()?;
        assert_eq!(list, list_of(&bytes, None));
        Ok(())
    }

    pub(super) fn collect(&mut self) -> Result<(), StoreError> {
        let options = CollectOptions {
            live_percent: [0, 50, 75, 100][self.dice.below(4) as usize],
            moved_bytes_max: if self.dice.one_in(3) { 3 << 14 } else { u64::MAX },
            tenant: [None, Some(tenant(1)), Some(tenant(2))][self.dice.below(3) as usize],
            n_threads: [1, 1, 1, 2][self.dice.below(4) as usize],
            ..ALL
        };
        let mut left = if self.dice.one_in(3) { self.dice.below(60) } else { u64::MAX };
        let collected = self.store().collect(&options, &mut |_| {
            left = left.saturating_sub(1);
            if left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        match collected {
            Ok(_) | Err(StoreError::Interrupted) => Ok(()),
            // Only the tail of a draft that a cut has torn and nobody has resumed.
            Err(StoreError::Doubt(what)) if what.contains("draft") => Ok(()),
            Err(error) => Err(error),
        }
    }

    pub(super) fn verify(&mut self) -> Result<(), StoreError> {
        let report = self.store().verify(&mut |_, _| ControlFlow::Continue(()))?;
        assert!(report.damage.is_empty() || self.disk.is_cut(), "{:?}", report.damage);
        Ok(())
    }

    /// A part of a pass, or the rest of it.
    pub(super) fn scrub(&mut self) -> Result<(), StoreError> {
        let mut left = if self.dice.one_in(3) { u64::MAX } else { 1 + self.dice.below(40) };
        let mut progress = |_: &ScrubProgress| {
            left = left.saturating_sub(1);
            if left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        match self.store().scrub(&|| Timestamp::from_secs(1), &mut progress) {
            Ok(pass) => {
                assert!(pass.damage.is_empty() || self.disk.is_cut(), "{:?}", pass.damage);
                Ok(())
            }
            Err(StoreError::Interrupted) => Ok(()),
            Err(error) => Err(error),
        }
    }
}
