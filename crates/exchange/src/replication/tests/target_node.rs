//! The target of a world: its disk, its memory, and what it answers.

use std::collections::BTreeSet;

use offsite_model::{Key, ListDigest, SessionId, Span};
use offsite_proto::bitmap::Bitmap;
use offsite_proto::error::{ErrorCode, Refusal};
use offsite_proto::group::GroupEntry;
use offsite_proto::window::{ListEntry, Wanted};

use super::storm::target_rules;
use super::world::{CallAnswer, Disk, Down, Draft, Happens, Live, Up, World, show};
use crate::replication::Runs;
use crate::replication::plan::{ImageName, Theirs};
use crate::replication::source::{Answer, Ask, Call, Failure, Given};
use crate::replication::target::{
    self, CommitFault, Known, Opening, ParentStanding, Session, Spec, StageFault, Standing,
};

impl World {
    pub(super) fn kill_target(&mut self) {
        self.note(|| "--- the target is killed".into());
        self.tally.n_target_kills += 1;
        self.boot += 1;
        self.conn += 1;
        self.sessions.clear();
        self.store.retain(|_, is_durable| *is_durable);
        for draft in self.drafts.values_mut() {
            draft.entries.truncate(draft.n_durable);
        }
        self.fail_everything();
    }

    /// Frees whatever no committed image, no draft and no live session refers to (what the
    /// collector may do).
    pub(super) fn collect(&mut self) {
        if self.sessions.values().any(|live| live.machine.is_deciding()) {
            return;
        }
        let mut roots: BTreeSet<Key> = BTreeSet::new();
        roots.extend(self.committed.values().flat_map(|(_, list)| list.iter().map(ListEntry::key)));
        for draft in self.drafts.values() {
            roots.extend(draft.entries.iter().take(draft.n_durable).map(ListEntry::key));
        }
        roots.extend(self.sessions.values().flat_map(|live| live.staged.iter().copied()));
        let before = self.store.len();
        self.store.retain(|key, is_durable| !*is_durable || roots.contains(key));
        self.tally.n_collected += (before - self.store.len()) as u64;
    }

    pub(super) fn answer_ask(&self, ask: Ask) -> Result<Answer, Failure> {
        Ok(match ask {
            Ask::Images => Answer::Images(self.theirs()),
            Ask::Orphans => Answer::Images(
                self.theirs().into_iter().filter(|image| image.is_orphaned).collect(),
            ),
            Ask::Transferred(name) => match self.bitmap(name) {
                Some(known) => Answer::Transferred(known),
                None => {
                    let refusal = Refusal::new(ErrorCode::ImageUnknown, "there is no such image");
                    return Err(Failure::Refused(refusal));
                }
            },
            _ => Answer::Fine,
        })
    }

    fn theirs(&self) -> Vec<Theirs> {
        let previous = |name: ImageName| {
            let image = self.images.iter().find(|image| image.ours.name == name);
            image.and_then(|image| image.ours.parent).map(|(epoch, _)| epoch)
        };
        let mut theirs = Vec::new();
        for (name, (digest, _)) in &self.committed {
            let previous = previous(*name);
            let is_orphaned =
                previous.is_some_and(|epoch| !self.committed.contains_key(&(name.0, epoch)));
            theirs.push(Theirs { name: *name, digest: *digest, previous, is_orphaned });
        }
        theirs
    }

    fn session_of(&self, name: ImageName) -> Option<SessionId> {
        self.sessions.iter().filter(|(_, live)| live.name == name).map(|(id, _)| *id).next_back()
    }

    /// Rows 52 and 8.
    pub(super) fn bitmap(&self, name: ImageName) -> Option<Runs> {
        let bytes = match self.session_of(name).and_then(|id| self.sessions.get(&id)) {
            Some(live) => live.machine.transferred().ok()?,
            None => {
                let draft = self.drafts.get(&name)?;
                let mut machine = Session::new(
                    SessionId::from_bytes([0; 16]),
                    draft.spec.clone(),
                    target_rules(),
                    Span::ZERO,
                );
                machine.restore(&self.known(draft)).ok()?;
                machine.bitmap()
            }
        };
        let mut known = Runs::new();
        Bitmap::read(&bytes).unwrap().runs(|run| known.insert(run)).unwrap();
        Some(known)
    }

    fn known(&self, draft: &Draft) -> Vec<Known> {
        let known = |entry: &ListEntry| Known {
            entry: *entry,
            is_held: self.store.get(&entry.key()) == Some(&true),
        };
        draft.entries.iter().take(draft.n_durable).map(known).collect()
    }

    pub(super) fn serve(&mut self, sender: usize, call: Call) -> Option<CallAnswer> {
        let name = self.images[self.senders[sender].image].ours.name;
        let unknown =
            || Failure::Refused(Refusal::new(ErrorCode::SessionUnknown, "no such session"));
        let session = self.senders[sender].session.filter(|id| self.sessions.contains_key(id));
        Some(match call {
            Call::Open => {
                let spec =
                    Spec::check(self.images[self.senders[sender].image].open.clone()).unwrap();
                CallAnswer::Opened(self.open(&spec, name).map_err(Failure::Refused))
            }
            Call::Transferred(_) => {
                CallAnswer::Transferred(Ok(self.bitmap(name).unwrap_or_default()))
            }
            Call::BeginCommit => CallAnswer::Begun(match session {
                None => Err(unknown()),
                Some(session) => {
                    self.tell_target(session, target::Input::End { commit: true });
                    let answer =
                        self.sessions.get_mut(&session).and_then(|live| live.answer.take());
                    answer.map_or(Err(unknown()), |answer| {
                        answer.map(|_| ()).map_err(Failure::Refused)
                    })
                }
            }),
            Call::Poke(_) => CallAnswer::Poked(match session {
                None => Err(unknown()),
                Some(session) => self.sessions[&session].machine.poke().map_err(Failure::Refused),
            }),
            Call::Abort => {
                if let Some(session) = session {
                    self.tell_target(session, target::Input::End { commit: false });
                }
                return None;
            }
        })
    }

    fn open(&mut self, spec: &Spec, name: ImageName) -> Result<Given, Refusal> {
        let parent = spec.open().previous_epoch_number.map(|epoch| (name.0, epoch));
        let parent = parent.map_or(ParentStanding::Absent, |parent| {
            match (self.committed.get(&parent), self.session_of(parent)) {
                (Some((digest, _)), _) => ParentStanding::Committed(*digest),
                (None, Some(id)) if self.sessions[&id].machine.stage().leaves_draft() => {
                    ParentStanding::Transferring(self.sessions[&id].machine.spec().digest())
                }
                _ => ParentStanding::Absent,
            }
        });
        let live = self.session_of(name);
        let standing = Standing {
            is_agent_known: true,
            is_paused: false,
            has_space: true,
            is_available: true,
            parent,
            committed: self.committed.get(&name).map(|(digest, _)| *digest),
            session: live.and_then(|id| self.sessions.get(&id)).map(|live| &live.machine),
            draft: self.drafts.get(&name).map(|draft| &draft.spec),
        };
        let opening = target::decide(spec, &standing)?;
        self.note(|| format!("  {} is opened: {opening:?}", show(name)));
        let at = Span::from_micros(self.now);
        let id = match opening {
            Opening::Live => {
                let id = live.unwrap();
                self.tell_target(id, target::Input::Reopened);
                id
            }
            _ => {
                self.sessions.retain(|_, live| live.name != name);
                let id = SessionId::from_bytes(u128::from(self.next_session).to_be_bytes());
                self.next_session += 1;
                let mut machine = Session::new(id, spec.clone(), target_rules(), at);
                match opening {
                    Opening::Committed => {
                        machine = Session::committed(id, spec.clone(), target_rules(), at);
                    }
                    Opening::FromDraft => {
                        // The barrier at session open.
                        let draft = self.drafts.get_mut(&name).unwrap();
                        draft.n_durable = draft.entries.len();
                        for entry in &draft.entries {
                            if let Some(is_durable) = self.store.get_mut(&entry.key()) {
                                *is_durable = true;
                            }
                        }
                        let known = self.known(&self.drafts[&name]);
                        machine.restore(&known).unwrap();
                    }
                    _ => {
                        let draft = Draft { spec: spec.clone(), entries: Vec::new(), n_durable: 0 };
                        self.drafts.insert(name, draft);
                    }
                }
                let live = Live {
                    machine,
                    name,
                    streams: 0,
                    staged: BTreeSet::new(),
                    arriving: None,
                    answer: None,
                };
                self.sessions.insert(id, live);
                id
            }
        };
        let machine = &self.sessions[&id].machine;
        Ok(Given {
            session: id,
            state: machine.state(),
            is_resumed: opening != Opening::Fresh,
            window_keys: target_rules().window_keys,
            windows_in_flight: target_rules().windows_in_flight,
            streams_max: target_rules().parallel_streams_max,
            credit: machine.granted_bytes(),
        })
    }

    pub(super) fn take_up(&mut self, sender: usize, session: SessionId, streams: u64, up: Up) {
        let Some(live) = self.sessions.get_mut(&session) else { return };
        if live.streams != streams {
            return;
        }
        match up {
            Up::Keys { window, first_ordinal, entries } => {
                self.tell_target(session, target::Input::Keys { window, first_ordinal, entries });
            }
            Up::Group { table, is_wrong, bytes } => {
                live.arriving = Some((table.iter().map(GroupEntry::key).collect(), is_wrong));
                self.tell_target(
                    session,
                    target::Input::Group { table, is_encrypted: false, bytes },
                );
            }
            Up::End(stream) => {
                // The answer ends once everything that came on the stream is staged; staging is
                // quick, so a moment later.
                let is_quiet = live.machine.staging_bytes() == 0;
                if stream.is_some() && !is_quiet {
                    let (line, conn) = (self.senders[sender].line, self.conn);
                    let up =
                        Happens::Up { sender, line, conn, session, streams, up: Up::End(stream) };
                    return self.after(500, up);
                }
                self.send_down(session, Down::Ended(stream));
            }
        }
    }

    fn send_down(&mut self, session: SessionId, down: Down) {
        let Some(sender) = self.senders.iter().position(|s| s.session == Some(session)) else {
            return;
        };
        let (line, opening) = (self.senders[sender].line, self.senders[sender].opening);
        self.in_order((false, sender, line, 0), Happens::Down { sender, line, opening, down });
    }

    pub(super) fn tell_target(&mut self, session: SessionId, input: target::Input) {
        let at = Span::from_micros(self.now);
        let Some(live) = self.sessions.get_mut(&session) else { return };
        let effects = live.machine.step(input, at);
        let staging = live.machine.staging_bytes();
        self.promise(staging <= target_rules().credit_bytes, || {
            format!("{staging} bytes in memory, more than was ever granted (E-07)")
        });
        for effect in effects {
            self.do_target(session, effect);
        }
        if let Some(wake) = self.sessions.get(&session).and_then(|live| live.machine.wake_at()) {
            let tick = Happens::Tick { boot: self.boot, session };
            self.at(wake.as_micros().max(self.now + 1_000_000), tick);
        }
    }

    fn do_target(&mut self, session: SessionId, effect: target::Effect) {
        let boot = self.boot;
        let Some(live) = self.sessions.get_mut(&session) else { return };
        let name = live.name;
        let disk = |disk| Happens::Disk { boot, session, disk };
        match effect {
            target::Effect::LookUp { ticket, keys } => {
                self.after(300, disk(Disk::LookUp { ticket, keys }))
            }
            target::Effect::WriteDraft {
                ticket,
                first_ordinal,
                n_known,
                entries,
                is_awaited,
                ..
            } => {
                let draft = self.drafts.get_mut(&name).unwrap();
                let first = first_ordinal as usize;
                let known = &draft.entries[first..first + n_known as usize];
                if known != &entries[..n_known as usize] {
                    let ordinal = first_ordinal;
                    return self.tell_target(session, target::Input::DraftDiffers { ordinal });
                }
                draft.entries.extend(&entries[n_known as usize..]);
                let n = draft.entries.len();
                if is_awaited {
                    self.after(400, disk(Disk::Draft { ticket, n }));
                }
            }
            target::Effect::Reply(answer) => {
                self.check_answer(session, &answer);
                self.note(|| {
                    let bits: String =
                        answer.iter().map(|wanted| if wanted { '1' } else { '0' }).collect();
                    format!("  {} WANTED {}: {bits}", show(name), answer.window)
                });
                self.send_down(session, Down::Wanted(answer));
            }
            target::Effect::Grant(granted) => self.send_down(session, Down::Credit(granted)),
            target::Effect::Flushed(flushed) => {
                self.note(|| format!("  {} FLUSHED through {}", show(name), flushed.through));
                self.send_down(session, Down::Flushed(flushed));
            }
            target::Effect::Stage { group } => {
                let (keys, is_wrong) = live.arriving.take().unwrap();
                self.after(300, disk(Disk::Stage { group, keys, is_wrong }));
            }
            target::Effect::Barrier { number } => {
                let keys = live.staged.clone();
                let n = self.drafts[&name].entries.len();
                self.after(3_000, disk(Disk::Barrier { number, keys, n }));
            }
            target::Effect::Fail(refusal) => {
                self.note(|| format!("  {} FAIL {refusal}", show(name)));
                self.send_down(session, Down::Fail(refusal));
            }
            target::Effect::EndStreams => live.streams += 1,
            target::Effect::Answer(answer) => live.answer = Some(answer),
            target::Effect::Commit => self.after(2_000, disk(Disk::Commit)),
            target::Effect::DropStaging => {
                self.drafts.remove(&name);
            }
            target::Effect::Suspend => {}
        }
    }

    /// No "have" without a hold: what is not wanted is in the durable draft and in the store, or
    /// owed under another ordinal of this very session (B-08, B-14).
    fn check_answer(&mut self, session: SessionId, answer: &Wanted) {
        let live = &self.sessions[&session];
        let draft = &self.drafts[&live.name];
        let n_durable = draft.n_durable as u64;
        let mut faults = Vec::new();
        let mut n_held = 0;
        for (ordinal, wanted) in (answer.first_ordinal..).zip(answer.iter()) {
            let entry = draft.entries[ordinal as usize];
            if wanted || entry.is_zeros() {
                continue;
            }
            let in_store = self.store.contains_key(&entry.key());
            let is_owed = live.machine.owes(&entry.key());
            if is_owed {
                continue;
            }
            n_held += 1;
            if !in_store || ordinal >= n_durable {
                faults.push((ordinal, in_store, n_durable));
            }
        }
        self.tally.n_held += n_held;
        self.promise(faults.is_empty(), || {
            format!(
                "held without a durable hold (ordinal, in the store, draft durable to): \
                {faults:?} (B-08)"
            )
        });
    }

    pub(super) fn disk(&mut self, session: SessionId, disk: Disk) {
        if self.sessions.contains_key(&session) && self.strikes(self.plan.disk_fault) {
            return self.fail_disk(session, disk);
        }
        let Some(live) = self.sessions.get_mut(&session) else { return };
        let name = live.name;
        match disk {
            Disk::LookUp { ticket, keys } => {
                let held = keys.iter().map(|key| self.store.contains_key(key)).collect();
                self.tell_target(session, target::Input::LookedUp { ticket, held });
            }
            Disk::Draft { ticket, n } => {
                if let Some(draft) = self.drafts.get_mut(&name) {
                    draft.n_durable = draft.n_durable.max(n);
                }
                self.tell_target(session, target::Input::DraftWritten { ticket });
            }
            Disk::Stage { group, keys, is_wrong } => {
                let outcome = if is_wrong {
                    self.tally.n_wrong_groups += 1;
                    Err(StageFault::HashMismatch)
                } else {
                    for key in keys {
                        self.store.entry(key).or_insert(false);
                        live.staged.insert(key);
                    }
                    Ok(())
                };
                self.tell_target(session, target::Input::Staged { group, outcome });
            }
            Disk::Barrier { number, keys, n } => {
                for key in keys {
                    self.store.insert(key, true);
                }
                if let Some(draft) = self.drafts.get_mut(&name) {
                    draft.n_durable = draft.n_durable.max(n);
                }
                self.tell_target(session, target::Input::Flushed { number });
            }
            Disk::Commit => {
                let outcome = self.commit(session, name);
                self.note(|| format!("  {} is stored: {outcome:?}", show(name)));
                self.tell_target(session, target::Input::Stored(outcome));
            }
        }
    }

    /// The disk refuses a piece of work. A store that could not sync writes no more until it has
    /// been opened again; a full one goes on.
    fn fail_disk(&mut self, session: SessionId, disk: Disk) {
        self.tally.n_disk_faults += 1;
        let is_full = self.luck.chance(1, 2);
        let fault = if is_full { CommitFault::NoSpace } else { CommitFault::Unavailable };
        let input = match disk {
            // What cannot be looked up is not held.
            Disk::LookUp { ticket, .. } => target::Input::LookedUp { ticket, held: Vec::new() },
            Disk::Stage { group, .. } => {
                let fault = if is_full { StageFault::NoSpace } else { StageFault::Unavailable };
                target::Input::Staged { group, outcome: Err(fault) }
            }
            Disk::Draft { .. } | Disk::Barrier { .. } => target::Input::NotKept(fault),
            Disk::Commit => target::Input::Stored(Err(fault)),
        };
        self.tell_target(session, input);
        if !is_full {
            self.at(self.now, Happens::KillTarget);
        }
    }

    /// The model's commit: derives the digest again, checks every reference, publishes at once.
    fn commit(&mut self, session: SessionId, name: ImageName) -> Result<(), CommitFault> {
        let spec = self.sessions[&session].machine.spec().clone();
        let parent = spec.open().previous_epoch_number;
        if parent.is_some_and(|epoch| !self.committed.contains_key(&(name.0, epoch)))
            && !spec.open().allow_orphan
        {
            return Err(CommitFault::BaseMissing);
        }
        if self.lease_lost_next > 0 {
            self.lease_lost_next -= 1;
            return Err(CommitFault::LeaseLost);
        }
        let draft = &self.drafts[&name];
        let mut digest = ListDigest::new();
        for entry in &draft.entries {
            digest.entry(entry.offset(), entry.bytes(), &entry.key());
        }
        if digest.finish() != spec.digest() || draft.entries.len() as u64 != spec.n_entries() {
            return Err(CommitFault::HashMismatch);
        }
        let entries = draft.entries.clone();
        let records: Vec<Key> =
            entries.iter().filter(|entry| !entry.is_zeros()).map(ListEntry::key).collect();
        if let Some(gone) = records.iter().find(|key| !self.store.contains_key(*key)) {
            let gone = *gone;
            self.promise(false, || format!("a held record is gone at the commit: {gone:?} (B-08)"));
            return Err(CommitFault::LeaseLost);
        }
        for key in records {
            self.store.insert(key, true);
        }
        let asked = self.asked_to_commit.contains(&name);
        self.promise(asked, || format!("{name:?} was committed and never asked for (phantom)"));
        let before = self.committed.insert(name, (spec.digest(), entries));
        self.promise(before.is_none(), || format!("{name:?} was committed twice (E-11)"));
        self.drafts.remove(&name);
        Ok(())
    }
}
