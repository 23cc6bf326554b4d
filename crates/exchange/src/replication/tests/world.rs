//! A world of one source and one target: machines that die, a line that is cut, a store and a draft that lose what
//! was not synced. Everything is decided by a seed, and each promise is watched while it can be broken.
//!
//! **Absent:** bytes of records. A record is its key; that groups decode to their keys is the store's to prove, so a
//! wrong group is one that is marked so.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use offsite_model::{
    AgentId, Digest, ImageId, JobId, Key, ListDigest, Luck as _, PointId, SessionId, Span,
    Timestamp, VolumeId,
};
use offsite_proto::bitmap::Bitmap;
use offsite_proto::error::{ErrorCode, Refusal};
use offsite_proto::group::GroupEntry;
use offsite_proto::session::{CommitToken, ImageType, OpenSession};
use offsite_proto::stream::Flushed;
use offsite_proto::text::{Big, Text};
use offsite_proto::window::{ListEntry, Wanted};
use offsite_testkit::SeededLuck;

use crate::replication::Runs;
use crate::replication::plan::{ImageName, Ours, Theirs};
use crate::replication::source::{
    self, Answer, Ask, Call, Event, Failure, Given, Job, JobEffect, JobOutcome, JobRules, Listed,
    Parcel, Place, Preflight, Transfer,
};
use crate::replication::target::{
    self, CommitFault, Ending, Known, Opening, ParentStanding, Session, Spec, StageFault, Standing,
};

pub(super) const RECORD: u32 = 4096;

/// What may happen, and how often: once in so many chances; 0 = never.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    pub(super) seed: u64,
    pub(super) n_volumes: u64,
    pub(super) n_epochs: u64,
    pub(super) n_records: u64,
    pub(super) cut: u64,
    pub(super) kill_target: u64,
    pub(super) kill_source: u64,
    pub(super) wrong_group: u64,
    pub(super) collect: u64,
    pub(super) lost_answer: u64,
    /// After so many events nothing bad happens any more.
    pub(super) calm_after: u64,
    pub(super) jitter: u64,
    pub(super) trace: bool,
}

impl Plan {
    pub(super) fn calm(seed: u64) -> Self {
        Self {
            seed,
            n_volumes: 1,
            n_epochs: 1,
            n_records: 12,
            cut: 0,
            kill_target: 0,
            kill_source: 0,
            wrong_group: 0,
            collect: 0,
            lost_answer: 0,
            calm_after: 0,
            jitter: 0,
            trace: true,
        }
    }

    pub(super) fn storm(seed: u64) -> Self {
        let luck = SeededLuck::new(seed).split("plan");
        let some = |n: u64| if luck.chance(1, 4) { 0 } else { luck.between(n, n * 6) };
        Self {
            seed,
            n_volumes: luck.between(1, 3),
            n_epochs: luck.between(1, 4),
            n_records: luck.between(1, 200),
            cut: some(60),
            kill_target: some(90),
            kill_source: some(90),
            wrong_group: some(8),
            collect: some(15),
            lost_answer: some(10),
            calm_after: luck.between(50, 1_500),
            jitter: luck.between(1, 50_000),
            trace: false,
        }
    }
}

pub(super) fn target_rules() -> target::Rules {
    target::Rules {
        window_keys: 16,
        windows_in_flight: 3,
        credit_bytes: 16 * 6_000,
        parallel_streams_max: 3,
        barrier_bytes: 32 * 4_096,
        barrier_after: Span::from_secs(10),
        idle: Span::from_hours(1),
        owed_keys_max: 64,
    }
}

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
    }
}

#[derive(Clone, Debug)]
pub(super) struct Image {
    pub(super) ours: Ours,
    pub(super) open: OpenSession,
    pub(super) list: Vec<Listed>,
}

#[derive(Clone, Debug)]
struct Draft {
    spec: Spec,
    entries: Vec<ListEntry>,
    n_durable: usize,
}

struct Live {
    machine: Session,
    name: ImageName,
    /// Streams of an earlier number are over.
    streams: u64,
    staged: BTreeSet<Key>,
    /// The group whose input the machine is being told.
    arriving: Option<(Vec<Key>, bool)>,
    answer: Option<Result<Ending, Refusal>>,
}

struct Sender {
    machine: Transfer,
    image: usize,
    /// Grows with every drop of streams, so that nothing of earlier ones is told.
    line: u64,
    session: Option<SessionId>,
    opening: u32,
}

#[derive(Clone, Debug)]
enum Up {
    Keys { window: u32, first_ordinal: u64, entries: Vec<ListEntry> },
    Group { table: Vec<GroupEntry>, is_wrong: bool, bytes: u64 },
    End(Option<u32>),
}

#[derive(Clone, Debug)]
enum Down {
    Wanted(Wanted),
    Credit(u64),
    Flushed(Flushed),
    Fail(Refusal),
    Ended(Option<u32>),
}

#[derive(Clone, Debug)]
enum Disk {
    LookUp { ticket: u64, keys: Vec<Key> },
    Draft { ticket: u64, n: usize },
    Stage { group: u64, keys: Vec<Key>, is_wrong: bool },
    Barrier { number: u64, keys: BTreeSet<Key>, n: usize },
    Commit,
}

#[derive(Clone, Debug)]
enum Happens {
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
enum CallAnswer {
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
    pub(super) n_collected: u64,
    pub(super) n_resumed: u64,
    pub(super) n_held: u64,
    pub(super) n_commit_asked_again: u64,
    pub(super) bytes_sent: u64,
    pub(super) bytes_sent_again: u64,
    pub(super) digest: Option<Digest>,
}

pub(super) struct World {
    plan: Plan,
    luck: SeededLuck,
    now: u64,
    seq: u64,
    queue: BTreeMap<(u64, u64), Happens>,
    fifo: BTreeMap<(bool, usize, u64, u32), u64>,
    pub(super) images: Vec<Image>,
    // The target's disk.
    pub(super) store: BTreeMap<Key, bool>,
    drafts: BTreeMap<ImageName, Draft>,
    pub(super) committed: BTreeMap<ImageName, (Digest, Vec<ListEntry>)>,
    // The target's memory.
    boot: u64,
    sessions: BTreeMap<SessionId, Live>,
    next_session: u64,
    // The source's memory.
    job: Option<Job>,
    job_number: u64,
    senders: Vec<Sender>,
    by_work: BTreeMap<usize, usize>,
    conn: u64,
    // Kept by the source across its deaths.
    unfinished: Option<ImageName>,
    asked_to_commit: BTreeSet<ImageName>,
    sent_before: BTreeSet<(ImageName, u64)>,
    pub(super) trace: String,
    hash: Vec<u8>,
    pub(super) tally: Tally,
    /// Scripted: cut when this many windows were sent.
    pub(super) cut_after_windows: Option<u64>,
    pub(super) wrong_next: u64,
    n_windows: u64,
    pub(super) broken: Option<String>,
}

pub(super) fn volume(n: u64) -> VolumeId {
    VolumeId::from_bytes([n as u8 + 1; 16])
}

impl World {
    pub(super) fn new(plan: Plan) -> Self {
        let luck = SeededLuck::new(plan.seed);
        let images = images(&plan, &luck.split("images"));
        // What points that are deleted by now have left behind: it can be found, and nothing refers to it.
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
            wrong_next: 0,
            n_windows: 0,
            broken: None,
        }
    }

    fn note(&mut self, line: impl FnOnce() -> String) {
        let line = line();
        self.hash.extend_from_slice(Digest::of(line.as_bytes()).as_bytes());
        if self.hash.len() > 1 << 16 {
            self.hash = Digest::of(&self.hash).as_bytes().to_vec();
        }
        if self.plan.trace {
            let _ = writeln!(self.trace, "{line}");
        }
    }

    fn promise(&mut self, holds: bool, message: impl FnOnce() -> String) {
        if !holds && self.broken.is_none() {
            self.broken = Some(format!("seed {}: {}", self.plan.seed, message()));
        }
    }

    fn after(&mut self, micros: u64, happens: Happens) {
        let jitter = self.luck.below(self.plan.jitter + 1);
        self.at(self.now + micros + jitter, happens);
    }

    fn at(&mut self, time: u64, happens: Happens) {
        self.seq += 1;
        self.queue.insert((time, self.seq), happens);
    }

    /// Like `after`, never before what went the same way earlier.
    fn in_order(&mut self, lane: (bool, usize, u64, u32), happens: Happens) {
        let time = self.now + 1_000 + self.luck.below(self.plan.jitter + 1);
        let last = self.fifo.get(&lane).copied().unwrap_or(0);
        let time = time.max(last);
        self.fifo.insert(lane, time);
        self.at(time, happens);
    }

    fn is_calm(&self) -> bool {
        self.tally.n_events >= self.plan.calm_after
    }

    fn strikes(&self, once_in: u64) -> bool {
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
        // E-09: a cut link or a killed source costs what was under way; a killed target also what was not durable.
        let rules = target_rules();
        let n_images = self.images.len() as u64;
        let cuts = self.tally.n_cuts + self.tally.n_source_kills + self.tally.n_wrong_groups;
        let bound = n_images.min(4)
            * ((cuts + self.tally.n_target_kills) * rules.credit_bytes
                + self.tally.n_target_kills * (rules.barrier_bytes + rules.credit_bytes));
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
                    CallAnswer::Begun(answer) => source::Input::CommitBegun(answer),
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

    fn is_line(&self, sender: usize, line: u64) -> bool {
        self.job.is_some() && self.senders.get(sender).is_some_and(|s| s.line == line)
    }

    fn work_of(&self, sender: usize) -> Option<usize> {
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
        self.after(200, Happens::Sent { sender, line, opening, stream, bytes });
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

    fn fail_everything(&mut self) {
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

    // The target.

    fn kill_target(&mut self) {
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

    /// Frees whatever no committed image, no draft and no live session refers to (what the collector may do).
    fn collect(&mut self) {
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

    fn answer_ask(&self, ask: Ask) -> Result<Answer, Failure> {
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
    fn bitmap(&self, name: ImageName) -> Option<Runs> {
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
            is_held: self.store.contains_key(&entry.key()),
        };
        draft.entries.iter().map(known).collect()
    }

    fn serve(&mut self, sender: usize, call: Call) -> Option<CallAnswer> {
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

    fn take_up(&mut self, sender: usize, session: SessionId, streams: u64, up: Up) {
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
                // The answer ends once everything that came on the stream is staged; staging is quick, so a moment later.
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

    fn tell_target(&mut self, session: SessionId, input: target::Input) {
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

    /// No "have" without a hold: what is not wanted is in the durable draft and in the store, or owed under another
    /// ordinal of this very session (B-08, B-14).
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
            format!("held without a durable hold (ordinal, in the store, draft durable to): {faults:?} (B-08)")
        });
    }

    fn disk(&mut self, session: SessionId, disk: Disk) {
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

    /// The model's commit: derives the digest again, checks every reference, publishes at once.
    fn commit(&mut self, session: SessionId, name: ImageName) -> Result<(), CommitFault> {
        let spec = self.sessions[&session].machine.spec().clone();
        let parent = spec.open().previous_epoch_number;
        if parent.is_some_and(|epoch| !self.committed.contains_key(&(name.0, epoch)))
            && !spec.open().allow_orphan
        {
            return Err(CommitFault::BaseMissing);
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

fn images(plan: &Plan, luck: &SeededLuck) -> Vec<Image> {
    let mut images = Vec::new();
    let mut group = 0;
    for n in 0..plan.n_volumes {
        let n_positions = plan.n_records.max(1);
        let mut parent: Option<(u32, Digest, ImageId)> = None;
        for epoch in 0..plan.n_epochs as u32 {
            let mut list: Vec<Listed> = Vec::new();
            let mut position = 0;
            while position < n_positions {
                let is_changed = epoch == 0 || luck.chance(1, 3);
                let offset = position * u64::from(RECORD);
                let n_zeros = luck.between(1, 6).min(n_positions - position);
                if !is_changed {
                    position += 1;
                } else if luck.chance(1, 6) {
                    let entry = ListEntry::zeros(offset, n_zeros as u32 * RECORD);
                    list.push(Listed { entry, place: None });
                    position += n_zeros;
                } else {
                    // Few contents, so that images and volumes share records and repeat them.
                    let content = luck.below(n_positions * 2);
                    let key = Key::of(&content.to_le_bytes());
                    list.push(Listed {
                        entry: ListEntry::record(offset, RECORD, key),
                        place: None,
                    });
                    position += 1;
                }
            }
            place_groups(&mut list, luck, &mut group);
            let mut digest = ListDigest::new();
            for listed in &list {
                digest.entry(listed.entry.offset(), listed.entry.bytes(), &listed.entry.key());
            }
            let (name, digest) = ((volume(n), epoch), digest.finish());
            let taken_at = Timestamp::from_secs(i64::from(epoch) * 3_600);
            let mut id = [epoch as u8 + 1; 16];
            id[0] = n as u8 + 1;
            let open = OpenSession {
                agent_id: Text(AgentId::from_bytes([9; 16])),
                job_id: Text(JobId::from_bytes([8; 16])),
                recovery_point_id: Text(PointId::from_bytes([epoch as u8 + 1; 16])),
                image_id: Text(ImageId::from_bytes(id)),
                volume_driver_id: Text(name.0),
                epoch_number: epoch,
                previous_epoch_number: parent.map(|(epoch, ..)| epoch),
                parent_image_id: parent.map(|(.., id)| Text(id)),
                parent_image_digest: parent.map(|(_, digest, _)| Text(digest)),
                image_type: if parent.is_none() { ImageType::Base } else { ImageType::Incremental },
                size_bytes: Big(n_positions * u64::from(RECORD)),
                record_size: RECORD,
                record_count: Big(list.len() as u64),
                image_digest: Text(digest),
                encryption_key_id: None,
                rollup_granularity_cell: Default::default(),
                utc_created_timestamp: taken_at.into(),
                volume_image_count: plan.n_volumes as u32,
                commit_token: Text(CommitToken::from_bytes(id)),
                header_hash: None,
                volume_image_hash: None,
                allow_orphan: false,
                display_name: None,
            };
            let ours = Ours {
                name,
                digest,
                parent: parent.map(|(epoch, digest, _)| (epoch, digest)),
                taken_at,
                is_seeded: false,
            };
            images.push(Image { ours, open, list });
            parent = Some((epoch, digest, ImageId::from_bytes(id)));
        }
    }
    images
}

/// Puts runs of records into groups of up to four, as a source's own store would have them.
fn place_groups(list: &mut [Listed], luck: &SeededLuck, group: &mut u64) {
    let mut index = 0;
    while index < list.len() {
        let n = luck.between(1, 5) as usize;
        let n = list[index..].iter().take(n).take_while(|listed| !listed.entry.is_zeros()).count();
        *group += 1;
        for slot in 0..n {
            list[index + slot].place = Some(Place {
                group: *group,
                slot: slot as u8,
                n_records: n as u16,
                stored_bytes: n as u32 * 3_000,
            });
        }
        index += n.max(1);
    }
}
