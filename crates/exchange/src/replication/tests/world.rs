//! A world of one source and one target: machines that die, a line that is cut, a store and a draft
//! that lose what was not synced. Everything is decided by a seed, and each promise is watched
//! while it can be broken.
//!
//! **Absent:** bytes of records. A record is its key; that groups decode to their keys is the
//! store's to prove, so a wrong group is one that is marked so.

use std::collections::{BTreeMap, BTreeSet};

use offsite_model::{Digest, Key, Luck as _, SessionId, VolumeId};
use offsite_proto::error::Refusal;
use offsite_proto::group::GroupEntry;
use offsite_proto::session::OpenSession;
use offsite_proto::stream::Flushed;
use offsite_proto::window::{ListEntry, Wanted};
use offsite_testkit::SeededLuck;

use super::images::images;
use super::storm::{Plan, target_rules};
use crate::replication::Runs;
use crate::replication::plan::{ImageName, Ours};
use crate::replication::source::{
    self, Answer, Ask, Call, Event, Failure, Given, Job, JobEffect, JobOutcome, JobRules, Listed,
    Parcel, Preflight, Transfer,
};
use crate::replication::target::{self, Ending, Session, Spec};

pub(super) const RECORD: u32 = 4096;

fn source_rules() -> source::Rules {
    source::Rules {
        transfer_bytes_max: 400_000,
        attempts_max: 5,
        part_bytes: 16 << 10,
        part_records: 4,
        queued_bytes_max: 128 << 10,
        parcels_ahead: 2,
        gap_entries: 3,
        poke_wait_secs: 30,
        first_window_keys: 16,
    }
}

#[derive(Clone, Debug)]
pub(super) struct Image {
    pub(super) ours: Ours,
    pub(super) open: OpenSession,
    pub(super) list: Vec<Listed>,
}

#[derive(Clone, Debug)]
pub(super) struct Draft {
    pub(super) spec: Spec,
    pub(super) entries: Vec<ListEntry>,
    pub(super) n_durable: usize,
}

pub(super) struct Live {
    pub(super) machine: Session,
    pub(super) name: ImageName,
    /// Streams of an earlier number are over.
    pub(super) streams: u64,
    pub(super) staged: BTreeSet<Key>,
    /// The group whose input the machine is being told.
    pub(super) arriving: Option<(Vec<Key>, bool)>,
    pub(super) answer: Option<Result<Ending, Refusal>>,
}

pub(super) struct Sender {
    pub(super) machine: Transfer,
    pub(super) image: usize,
    /// Grows with every drop of streams, so that nothing of earlier ones is told.
    pub(super) line: u64,
    pub(super) session: Option<SessionId>,
    pub(super) opening: u32,
}

#[derive(Clone, Debug)]
pub(super) enum Up {
    Keys { window: u32, first_ordinal: u64, entries: Vec<ListEntry> },
    Group { table: Vec<GroupEntry>, is_wrong: bool, bytes: u64 },
    End(Option<u32>),
}

#[derive(Clone, Debug)]
pub(super) enum Down {
    Wanted(Wanted),
    Credit(u64),
    Flushed(Flushed),
    Fail(Refusal),
    Ended(Option<u32>),
}

#[derive(Clone, Debug)]
pub(super) enum Disk {
    LookUp { ticket: u64, keys: Vec<Key> },
    Draft { ticket: u64, n: usize },
    Stage { group: u64, keys: Vec<Key>, is_wrong: bool },
    Barrier { number: u64, keys: BTreeSet<Key>, n: usize },
    Commit,
}

#[derive(Clone, Debug)]
pub(super) enum Happens {
    Up { sender: usize, line: u64, conn: u64, session: SessionId, streams: u64, up: Up },
    Down { sender: usize, line: u64, opening: u32, down: Down },
    CallArrives { sender: usize, line: u64, conn: u64, call: Call },
    CallAnswered { sender: usize, line: u64, answer: CallAnswer },
    AskArrives { job: u64, conn: u64, ask: Ask },
    AskAnswered { job: u64, ask: Ask, answer: Result<Answer, Failure> },
    Read { sender: usize, line: u64, opening: u32, first: u64, n: u64 },
    Sent { sender: usize, line: u64, opening: u32, stream: u32, bytes: u64 },
    Rested { sender: usize, line: u64 },
    Disk { boot: u64, session: SessionId, disk: Disk },
    Tick { boot: u64, session: SessionId },
    NewJob,
    KillTarget,
    KillSource,
    Cut,
}

#[derive(Clone, Debug)]
pub(super) enum CallAnswer {
    Opened(Result<Given, Failure>),
    Transferred(Result<Runs, Failure>),
    Begun(Result<(), Failure>),
    Poked(Result<bool, Failure>),
}

/// What a world came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) n_events: u64,
    pub(super) n_cuts: u64,
    pub(super) n_target_kills: u64,
    pub(super) n_source_kills: u64,
    pub(super) n_wrong_groups: u64,
    pub(super) n_lost_answers: u64,
    pub(super) n_disk_faults: u64,
    pub(super) n_collected: u64,
    pub(super) n_resumed: u64,
    pub(super) n_held: u64,
    pub(super) n_commit_asked_again: u64,
    pub(super) bytes_sent: u64,
    pub(super) bytes_sent_again: u64,
    pub(super) digest: Option<Digest>,
}

pub(super) struct World {
    pub(super) plan: Plan,
    pub(super) luck: SeededLuck,
    pub(super) now: u64,
    pub(super) seq: u64,
    pub(super) queue: BTreeMap<(u64, u64), Happens>,
    pub(super) fifo: BTreeMap<(bool, usize, u64, u32), u64>,
    pub(super) images: Vec<Image>,
    // The target's disk.
    pub(super) store: BTreeMap<Key, bool>,
    pub(super) drafts: BTreeMap<ImageName, Draft>,
    pub(super) committed: BTreeMap<ImageName, (Digest, Vec<ListEntry>)>,
    // The target's memory.
    pub(super) boot: u64,
    pub(super) sessions: BTreeMap<SessionId, Live>,
    pub(super) next_session: u64,
    // The source's memory.
    pub(super) job: Option<Job>,
    pub(super) job_number: u64,
    pub(super) senders: Vec<Sender>,
    pub(super) by_work: BTreeMap<usize, usize>,
    pub(super) conn: u64,
    // Kept by the source across its deaths.
    pub(super) unfinished: Option<ImageName>,
    pub(super) asked_to_commit: BTreeSet<ImageName>,
    pub(super) sent_before: BTreeSet<(ImageName, u64)>,
    pub(super) trace: String,
    pub(super) hash: Vec<u8>,
    pub(super) tally: Tally,
    /// Scripted: cut when this many windows were sent.
    pub(super) cut_after_windows: Option<u64>,
    /// Scripted: the target dies when this many windows were sent.
    pub(super) kill_after_windows: Option<u64>,
    /// Scripted: so many commits find that another writer took over.
    pub(super) lease_lost_next: u64,
    pub(super) wrong_next: u64,
    pub(super) n_windows: u64,
    pub(super) broken: Option<String>,
}

pub(super) fn volume(n: u64) -> VolumeId {
    VolumeId::from_bytes([n as u8 + 1; 16])
}

impl World {
    pub(super) fn new(plan: Plan) -> Self {
        let luck = SeededLuck::new(plan.seed);
        let images = images(&plan, &luck.split("images"));
        // What points that are deleted by now have left behind: it can be found, and nothing refers
        // to it.
        let mut store = BTreeMap::new();
        if plan.collect > 0 {
            let records = images.iter().flat_map(|image| &image.list).map(|listed| listed.entry);
            let records = records.filter(|entry| !entry.is_zeros());
            store.extend(records.filter(|_| luck.chance(1, 3)).map(|entry| (entry.key(), true)));
        }
        Self {
            plan,
            luck,
            now: 0,
            seq: 0,
            queue: BTreeMap::new(),
            fifo: BTreeMap::new(),
            images,
            store,
            drafts: BTreeMap::new(),
            committed: BTreeMap::new(),
            boot: 0,
            sessions: BTreeMap::new(),
            next_session: 1,
            job: None,
            job_number: 0,
            senders: Vec::new(),
            by_work: BTreeMap::new(),
            conn: 0,
            unfinished: None,
            asked_to_commit: BTreeSet::new(),
            sent_before: BTreeSet::new(),
            trace: String::new(),
            hash: Vec::new(),
            tally: Tally::default(),
            cut_after_windows: None,
            kill_after_windows: None,
            lease_lost_next: 0,
            wrong_next: 0,
            n_windows: 0,
            broken: None,
        }
    }

    pub(super) fn note(&mut self, line: impl FnOnce() -> String) {
        let line = line();
        self.hash.extend_from_slice(Digest::of(line.as_bytes()).as_bytes());
        if self.hash.len() > 1 << 16 {
            self.hash = Digest::of(&self.hash).as_bytes().to_vec();
        }
        if self.plan.trace {
            self.trace.push_str(&line);
            self.trace.push('\n');
        }
    }

    pub(super) fn promise(&mut self, holds: bool, message: impl FnOnce() -> String) {
        if !holds && self.broken.is_none() {
            self.broken = Some(format!("seed {}: {}", self.plan.seed, message()));
        }
    }

    pub(super) fn after(&mut self, micros: u64, happens: Happens) {
        let jitter = self.luck.below(self.plan.jitter + 1);
        self.at(self.now + micros + jitter, happens);
    }

    pub(super) fn at(&mut self, time: u64, happens: Happens) {
        self.seq += 1;
        self.queue.insert((time, self.seq), happens);
    }

    /// Like `after`, never before what went the same way earlier.
    pub(super) fn in_order(&mut self, lane: (bool, usize, u64, u32), happens: Happens) {
        let time = self.now + 1_000 + self.luck.below(self.plan.jitter + 1);
        let last = self.fifo.get(&lane).copied().unwrap_or(0);
        let time = time.max(last);
        self.fifo.insert(lane, time);
        self.at(time, happens);
    }

    fn is_calm(&self) -> bool {
        self.tally.n_events >= self.plan.calm_after
    }

    pub(super) fn strikes(&self, once_in: u64) -> bool {
        once_in > 0 && !self.is_calm() && self.luck.chance(1, once_in)
    }

    /// Runs until everything is on the target.
    pub(super) fn run(&mut self) -> Result<Tally, String> {
        self.at(0, Happens::NewJob);
        while let Some(((time, _), happens)) = self.queue.pop_first() {
            self.now = time;
            self.tally.n_events += 1;
            if self.tally.n_events > 400_000 {
                return Err(format!("seed {}: no end\n{}", self.plan.seed, self.where_we_are()));
            }
            self.happen(happens);
            if let Some(broken) = self.broken.take() {
                return Err(broken);
            }
            if self.is_done() {
                break;
            }
            for (once_in, happens) in [
                (self.plan.cut, Happens::Cut),
                (self.plan.kill_target, Happens::KillTarget),
                (self.plan.kill_source, Happens::KillSource),
            ] {
                if self.strikes(once_in) {
                    self.at(self.now, happens);
                }
            }
            if self.strikes(self.plan.collect) {
                self.collect();
            }
        }
        self.judge()
    }

    fn is_done(&self) -> bool {
        self.job.is_none() && self.images.iter().all(|i| self.committed.contains_key(&i.ours.name))
    }

    fn where_we_are(&self) -> String {
        let senders: Vec<_> =
            self.senders.iter().map(|s| (s.machine.progress(), s.machine.is_ended())).collect();
        let sessions: Vec<_> =
            self.sessions.values().map(|live| format!("{:?}", live.machine)).collect();
        format!("{senders:#?}\n{sessions:#?}")
    }

    fn judge(&mut self) -> Result<Tally, String> {
        let seed = self.plan.seed;
        for image in &self.images {
            let Some((digest, list)) = self.committed.get(&image.ours.name) else {
                return Err(format!("seed {seed}: {:?} never arrived", image.ours.name));
            };
            let ours: Vec<ListEntry> = image.list.iter().map(|listed| listed.entry).collect();
            if *digest != image.ours.digest || *list != ours {
                return Err(format!("seed {seed}: {:?} arrived changed", image.ours.name));
            }
            for entry in list.iter().filter(|entry| !entry.is_zeros()) {
                if !self.store.contains_key(&entry.key()) {
                    return Err(format!("seed {seed}: {:?} does not restore", image.ours.name));
                }
            }
        }
        // E-09: a cut link or a killed source costs what was under way; a killed target also what
        // was not durable.
        let rules = target_rules();
        let n_images = self.images.len() as u64;
        // A lost answer or a refused group ends streams as a cut does.
        let cuts = self.tally.n_cuts
            + self.tally.n_source_kills
            + self.tally.n_wrong_groups
            + self.tally.n_disk_faults
            + self.tally.n_lost_answers;
        let bound = n_images.min(4)
            * ((cuts + self.tally.n_target_kills) * rules.credit_bytes
                + self.tally.n_target_kills
                    * (rules.barrier_bytes + rules.behind_bytes + rules.credit_bytes));
        if self.plan.collect == 0 && self.tally.bytes_sent_again > bound {
            return Err(format!(
                "seed {seed}: {} bytes sent again, bound {bound}: {:?}",
                self.tally.bytes_sent_again, self.tally
            ));
        }
        self.tally.digest = Some(Digest::of(&self.hash));
        Ok(self.tally.clone())
    }

    fn happen(&mut self, happens: Happens) {
        match happens {
            Happens::NewJob => self.new_job(),
            Happens::Cut => self.cut(),
            Happens::KillTarget => self.kill_target(),
            Happens::KillSource => self.kill_source(),
            Happens::AskArrives { job, conn, ask } if conn == self.conn => {
                let answer = self.answer_ask(ask);
                self.after(1_000, Happens::AskAnswered { job, ask, answer });
            }
            Happens::AskAnswered { job, ask, answer } if job == self.job_number => {
                self.job_event(Event::Answered(ask, answer));
            }
            Happens::CallArrives { sender, line, conn, call }
                if conn == self.conn && self.is_line(sender, line) =>
            {
                let answer = self.serve(sender, call);
                let is_lost = self.strikes(self.plan.lost_answer);
                self.tally.n_lost_answers += u64::from(is_lost);
                if let Some(answer) = answer {
                    let answer = if is_lost { lost(&answer) } else { answer };
                    self.after(1_000, Happens::CallAnswered { sender, line, answer });
                }
            }
            Happens::CallAnswered { sender, line, answer } if self.is_line(sender, line) => {
                let input = match answer {
                    CallAnswer::Opened(given) => {
                        if let Ok(given) = &given {
                            self.senders[sender].session = Some(given.session);
                            self.tally.n_resumed += u64::from(given.is_resumed);
                        }
                        let is_ok = given.is_ok();
                        self.tell_source(sender, source::Input::Opened(given));
                        if is_ok && let Some(work) = self.work_of(sender) {
                            self.job_event(Event::Opened(work));
                        }
                        return;
                    }
                    CallAnswer::Transferred(known) => source::Input::Transferred(known),
                    CallAnswer::Begun(answer) => source::Input::CommitBegun(answer.map(|()| false)),
                    CallAnswer::Poked(answer) => source::Input::Poked(answer),
                };
                self.tell_source(sender, input);
            }
            Happens::Read { sender, line, opening, first, n } if self.is_line(sender, line) => {
                let list = &self.images[self.senders[sender].image].list;
                let through = (first + n).min(list.len() as u64) as usize;
                let entries = list[first as usize..through].to_vec();
                self.tell_source(sender, source::Input::Listed { opening, entries });
            }
            Happens::Sent { sender, line, opening, stream, bytes }
                if self.is_line(sender, line) =>
            {
                self.tell_source(sender, source::Input::Sent { opening, stream, bytes });
            }
            Happens::Rested { sender, line } if self.is_line(sender, line) => {
                self.tell_source(sender, source::Input::Rested);
            }
            Happens::Up { sender, line, conn, session, streams, up }
                if conn == self.conn && self.is_line(sender, line) =>
            {
                self.take_up(sender, session, streams, up);
            }
            Happens::Down { sender, line, opening, down } if self.is_line(sender, line) => {
                let input = match down {
                    Down::Wanted(answer) => source::Input::Wanted { opening, answer },
                    Down::Credit(granted) => source::Input::Credit { opening, granted },
                    Down::Flushed(flushed) => source::Input::Flushed { opening, flushed },
                    Down::Fail(refusal) => {
                        source::Input::Cut { opening, failure: Failure::Refused(refusal) }
                    }
                    Down::Ended(stream) => source::Input::Ended { opening, stream },
                };
                self.tell_source(sender, input);
            }
            Happens::Disk { boot, session, disk } if boot == self.boot => self.disk(session, disk),
            Happens::Tick { boot, session } if boot == self.boot => {
                self.tell_target(session, target::Input::Tick);
            }
            _ => {}
        }
    }

    // The source.

    fn new_job(&mut self) {
        if self.is_done() || self.job.is_some() {
            return;
        }
        self.job_number += 1;
        self.senders.clear();
        self.by_work.clear();
        let ours = self.images.iter().map(|image| image.ours).collect();
        let preflight = Preflight { ours, unfinished: self.unfinished };
        self.job = Some(Job::new(preflight, JobRules { transfers_max: 3 }));
        self.job_event(Event::Start);
    }

    fn job_event(&mut self, event: Event) {
        let Some(job) = &mut self.job else { return };
        for effect in job.step(event) {
            match effect {
                JobEffect::Ask(ask) => {
                    self.note(|| format!("source asks {ask:?}"));
                    let (job, conn) = (self.job_number, self.conn);
                    self.after(1_000, Happens::AskArrives { job, conn, ask });
                }
                JobEffect::Planned(plan) => {
                    self.note(|| format!("plan: {} to send", plan.work.len()))
                }
                JobEffect::Begin { index, work, known } => {
                    let image = &self.images[work.image];
                    let machine =
                        Transfer::new(RECORD, image.list.len() as u64, known, source_rules());
                    self.unfinished = Some(image.ours.name);
                    let sender = Sender {
                        machine,
                        image: work.image,
                        line: self.seq,
                        session: None,
                        opening: 0,
                    };
                    self.senders.push(sender);
                    let sender = self.senders.len() - 1;
                    self.by_work.insert(index, sender);
                    self.tell_source(sender, source::Input::Streams(2));
                    self.tell_source(sender, source::Input::Start);
                }
                JobEffect::MayCommit(index) => {
                    if let Some(sender) = self.by_work.get(&index).copied() {
                        self.tell_source(sender, source::Input::MayCommit);
                    }
                }
                JobEffect::StopTransfer(index, stop) => {
                    if let Some(sender) = self.by_work.get(&index).copied() {
                        self.tell_source(sender, source::Input::Stop(stop));
                    }
                }
                JobEffect::End(outcome) => {
                    self.note(|| match &outcome {
                        JobOutcome::Partly(failures) => {
                            format!("job ends: {} failed", failures.len())
                        }
                        outcome => format!("job ends: {outcome:?}"),
                    });
                    if outcome == JobOutcome::Succeeded {
                        self.unfinished = None;
                    }
                    self.job = None;
                    self.job_number += 1;
                    self.after(60_000_000, Happens::NewJob);
                    return;
                }
            }
            if self.job.is_none() {
                return;
            }
        }
    }

    pub(super) fn is_line(&self, sender: usize, line: u64) -> bool {
        self.job.is_some() && self.senders.get(sender).is_some_and(|s| s.line == line)
    }

    pub(super) fn work_of(&self, sender: usize) -> Option<usize> {
        self.by_work.iter().find(|(_, s)| **s == sender).map(|(work, _)| *work)
    }

    fn tell_source(&mut self, sender: usize, input: source::Input) {
        let effects = self.senders[sender].machine.step(input);
        for effect in effects {
            self.do_source(sender, effect);
            if self.senders.get(sender).is_none() {
                return;
            }
        }
        let (spent, credit) = self.senders[sender].machine.spent_and_credit();
        self.promise(spent <= credit, || format!("{spent} bytes sent, {credit} granted (E-07)"));
    }

    fn do_source(&mut self, sender: usize, effect: source::Effect) {
        let line = self.senders[sender].line;
        let conn = self.conn;
        let name = self.images[self.senders[sender].image].ours.name;
        match effect {
            source::Effect::Call(call) => {
                self.note(|| format!("  {} {call:?}", show(name)));
                if matches!(call, Call::BeginCommit) && !self.asked_to_commit.insert(name) {
                    self.tally.n_commit_asked_again += 1;
                }
                self.after(1_000, Happens::CallArrives { sender, line, conn, call });
            }
            source::Effect::OpenKeys { opening } | source::Effect::OpenRecords { opening, .. } => {
                self.senders[sender].opening = opening;
            }
            source::Effect::Read { opening, first_ordinal, n_entries } => {
                let read =
                    Happens::Read { sender, line, opening, first: first_ordinal, n: n_entries };
                self.after(100, read);
            }
            source::Effect::SendKeys { window, first_ordinal, entries } => {
                self.note(|| {
                    format!(
                        "  {} KEYS {window}: {} from {first_ordinal}",
                        show(name),
                        entries.len()
                    )
                });
                self.n_windows += 1;
                if self.cut_after_windows == Some(self.n_windows) {
                    self.at(self.now + 3_500, Happens::Cut);
                }
                if self.kill_after_windows == Some(self.n_windows) {
                    self.at(self.now + 3_500, Happens::KillTarget);
                }
                self.send_up(sender, 0, Up::Keys { window, first_ordinal, entries });
            }
            source::Effect::EndKeys { .. } => self.send_up(sender, 0, Up::End(None)),
            source::Effect::Send { stream, parcel } => self.send_parcel(sender, stream, &parcel),
            source::Effect::EndRecords { stream } => {
                self.send_up(sender, stream + 1, Up::End(Some(stream)));
            }
            source::Effect::DropStreams => {
                self.seq += 1;
                self.senders[sender].line = self.seq;
            }
            source::Effect::Rest { n_failed, .. } => {
                self.note(|| format!("  {} rests after failure {n_failed}", show(name)));
                self.after(1_000_000 * u64::from(n_failed), Happens::Rested { sender, line });
            }
            source::Effect::End(outcome) => {
                self.note(|| format!("  {} ends: {outcome:?}", show(name)));
                if let Some(work) = self.work_of(sender) {
                    self.job_event(Event::Ended(work, outcome));
                }
            }
        }
    }

    fn send_parcel(&mut self, sender: usize, stream: u32, parcel: &Parcel) {
        let (line, opening) = (self.senders[sender].line, self.senders[sender].opening);
        let image = self.senders[sender].image;
        let name = self.images[image].ours.name;
        let list = &self.images[image].list;
        let table: Vec<GroupEntry> = parcel
            .ordinals()
            .iter()
            .map(|ordinal| (*ordinal, list[*ordinal as usize].entry))
            .map(|(ordinal, entry)| GroupEntry::new(ordinal, entry.key(), entry.bytes()))
            .collect();
        let is_raw = matches!(parcel, Parcel::Part { is_raw: true, .. });
        // A group made anew compresses a little better than feared.
        let bytes = if is_raw || matches!(parcel, Parcel::Whole { .. }) {
            parcel.bytes()
        } else {
            parcel.bytes() * 7 / 8
        };
        let mut is_wrong = !is_raw && self.strikes(self.plan.wrong_group);
        if self.wrong_next > 0 && !is_raw {
            self.wrong_next -= 1;
            is_wrong = true;
        }
        let is_whole = matches!(parcel, Parcel::Whole { .. });
        self.note(|| {
            let how = match (is_whole, is_raw, is_wrong) {
                (true, _, false) => "group as it lies",
                (false, false, false) => "group made anew",
                (_, true, _) => "group made raw",
                (_, _, true) => "WRONG group",
            };
            format!("  {} {how}: {:?}", show(name), parcel.ordinals())
        });
        let n_again =
            parcel.ordinals().iter().filter(|o| !self.sent_before.insert((name, **o))).count()
                as u64;
        self.tally.bytes_sent += bytes;
        self.tally.bytes_sent_again += bytes * n_again / parcel.ordinals().len() as u64;
        self.send_up(sender, stream + 1, Up::Group { table, is_wrong, bytes });
        let sent = Happens::Sent { sender, line, opening, stream, bytes };
        self.in_order((true, sender, line, u32::MAX - stream), sent);
    }

    fn send_up(&mut self, sender: usize, lane: u32, up: Up) {
        let Some(session) = self.senders[sender].session else { return };
        let line = self.senders[sender].line;
        let streams = self.sessions.get(&session).map_or(0, |live| live.streams);
        let conn = self.conn;
        let up = Happens::Up { sender, line, conn, session, streams, up };
        self.in_order((true, sender, line, lane), up);
    }

    fn cut(&mut self) {
        self.note(|| "--- the link is cut".into());
        self.conn += 1;
        self.tally.n_cuts += 1;
        self.fail_everything();
    }

    pub(super) fn fail_everything(&mut self) {
        let awaited: Vec<Ask> = all_asks(self.unfinished);
        for ask in awaited {
            self.job_event(Event::Answered(ask, Err(Failure::Cut)));
        }
        if self.job.is_none() {
            return;
        }
        for sender in 0..self.senders.len() {
            let opening = self.senders[sender].machine.opening();
            // Whichever of these it waits for; it ignores the others.
            for input in [
                source::Input::Cut { opening, failure: Failure::Cut },
                source::Input::Opened(Err(Failure::Cut)),
                source::Input::CommitBegun(Err(Failure::Cut)),
                source::Input::Poked(Err(Failure::Cut)),
            ] {
                if self.job.is_none() {
                    return;
                }
                self.tell_source(sender, input);
            }
        }
    }

    fn kill_source(&mut self) {
        if self.job.is_none() {
            return;
        }
        self.note(|| "--- the source is killed".into());
        self.tally.n_source_kills += 1;
        self.conn += 1;
        self.job = None;
        self.job_number += 1;
        self.after(5_000_000, Happens::NewJob);
    }
}

fn all_asks(unfinished: Option<ImageName>) -> Vec<Ask> {
    [
        Ask::Pairing,
        Ask::MayStart,
        Ask::FreeSpace,
        Ask::SeedDrives,
        Ask::Mirror,
        Ask::Images,
        Ask::Orphans,
    ]
    .into_iter()
    .chain(unfinished.map(Ask::Transferred))
    .collect()
}

fn lost(answer: &CallAnswer) -> CallAnswer {
    match answer {
        CallAnswer::Opened(_) => CallAnswer::Opened(Err(Failure::Cut)),
        CallAnswer::Transferred(_) => CallAnswer::Transferred(Err(Failure::Cut)),
        CallAnswer::Begun(_) => CallAnswer::Begun(Err(Failure::Cut)),
        CallAnswer::Poked(_) => CallAnswer::Poked(Err(Failure::Cut)),
    }
}

pub(super) fn show(name: ImageName) -> String {
    format!("v{}e{}", name.0.to_bytes()[0], name.1)
}
