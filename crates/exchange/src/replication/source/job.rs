//! One agent's replication: everything is asked at once, planned, and sent image by image.

use std::collections::{BTreeMap, BTreeSet};

use offsite_model::Digest;
use offsite_proto::error::{ErrorCode, Refusal};

use super::words::{Failure, Outcome, Stop};
use crate::replication::Runs;
use crate::replication::plan::{ImageName, Ours, Plan, Theirs, Work, plan};

/// The limits of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JobRules {
    /// Images on their way at once.
    pub transfers_max: usize,
}

impl Default for JobRules {
    fn default() -> Self {
        Self { transfers_max: 4 }
    }
}

/// What a job asks before it begins; all of it goes out together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ask {
    /// Row 45: are we still paired.
    Pairing,
    /// Row 22: may this agent's replication start.
    MayStart,
    /// Row 13: is there room.
    FreeSpace,
    /// Row 1: which seed drives arrived. The driver closes those and marks the rest with
    /// [`Ours::is_seeded`].
    SeedDrives,
    /// Row 29: the mirror.
    Mirror,
    /// Row 21, all its pages.
    Images,
    /// Row 20, all its pages.
    Orphans,
    /// Row 52, or 8, of the image that was on its way last.
    Transferred(ImageName),
}

/// What came of one question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is well, or did not matter.
    Fine,
    /// Row 22 said no, for this reason.
    MayNotStart(Refusal),
    /// Rows 21 and 20.
    Images(Vec<Theirs>),
    /// Row 1: images that seed drives still carry.
    Seeded(Vec<ImageName>),
    /// Rows 52 and 8.
    Transferred(Runs),
}

/// What a job is begun with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Preflight {
    /// Our images of the agent.
    pub ours: Vec<Ours>,
    /// The image that was on its way when the last job ended, if it did not end well.
    pub unfinished: Option<ImageName>,
}

/// What happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// Begin.
    Start,
    /// A question was answered.
    Answered(Ask, Result<Answer, Failure>),
    /// The transfer of this work was given its session.
    Opened(usize),
    /// It is over.
    Ended(usize, Outcome),
    /// Stop at the next safe point.
    Stop(Stop),
}

/// What must be done, in the order of the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobEffect {
    /// Ask; questions of one list go out together.
    Ask(Ask),
    /// The plan is made; for display.
    Planned(Plan),
    /// Make a [`super::Transfer`] for this work and start it.
    Begin {
        /// The work's index in the plan.
        index: usize,
        /// The work.
        work: Work,
        /// What the preflight's bitmap says of it.
        known: Runs,
    },
    /// Tell this transfer that it may commit.
    MayCommit(usize),
    /// Tell this transfer to stop.
    StopTransfer(usize, Stop),
    /// It is over: the mirror is told (row 30).
    End(JobOutcome),
}

/// How a job ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobOutcome {
    /// All that was planned is on the target.
    Succeeded,
    /// It was stopped.
    Stopped(Stop),
    /// It could not begin.
    NotStarted(Failure),
    /// Some images are on the target, and these works are not.
    Partly(Vec<(usize, Outcome)>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Stage {
    New,
    Asking,
    Sending,
    Ended,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Waiting,
    Begun,
    Opened,
    /// Told to stop, since its parent did not arrive.
    Stopping,
    Committed,
    Failed,
}

/// One agent's replication.
#[derive(Clone, Debug)]
pub struct Job {
    rules: JobRules,
    preflight: Preflight,
    stage: Stage,
    awaited: BTreeSet<Ask>,
    failure: Option<Failure>,
    theirs: BTreeMap<(ImageName, Digest), Theirs>,
    known: Runs,
    plan: Plan,
    states: Vec<State>,
    failures: Vec<(usize, Outcome)>,
    stop: Option<Stop>,
}

impl Job {
    /// A job that was not begun.
    #[must_use]
    pub fn new(preflight: Preflight, rules: JobRules) -> Self {
        Self {
            rules,
            preflight,
            stage: Stage::New,
            awaited: BTreeSet::new(),
            failure: None,
            theirs: BTreeMap::new(),
            known: Runs::new(),
            plan: Plan::default(),
            states: Vec::new(),
            failures: Vec::new(),
            stop: None,
        }
    }

    /// What is sent; empty until everything was answered.
    #[must_use]
    pub const fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Takes one thing that happened; says what must be done about it, in order.
    pub fn step(&mut self, event: Event) -> Vec<JobEffect> {
        let mut effects = Vec::new();
        match event {
            Event::Start if self.stage == Stage::New => self.ask(&mut effects),
            Event::Answered(ask, answer) if self.awaited.remove(&ask) => self.answered(ask, answer),
            Event::Opened(index) if self.state(index) == State::Begun => {
                self.set(index, State::Opened);
            }
            Event::Opened(_) => {}
            Event::Ended(index, outcome) => self.ended(index, outcome, &mut effects),
            Event::Stop(stop) => self.stop(stop, &mut effects),
            Event::Start | Event::Answered(..) => {}
        }
        if self.stage == Stage::Asking && self.awaited.is_empty() {
            self.planned(&mut effects);
        }
        if self.stage == Stage::Sending {
            self.begin(&mut effects);
        }
        effects
    }

    fn ask(&mut self, effects: &mut Vec<JobEffect>) {
        self.stage = Stage::Asking;
        let unfinished = self.preflight.unfinished.map(Ask::Transferred);
        self.awaited = [
            Ask::Pairing,
            Ask::MayStart,
            Ask::FreeSpace,
            Ask::SeedDrives,
            Ask::Mirror,
            Ask::Images,
            Ask::Orphans,
        ]
        .into_iter()
        .chain(unfinished)
        .collect();
        effects.extend(self.awaited.iter().copied().map(JobEffect::Ask));
    }

    fn answered(&mut self, ask: Ask, answer: Result<Answer, Failure>) {
        match answer {
            Ok(Answer::Fine) => {}
            Ok(Answer::MayNotStart(refusal)) => {
                self.failure.get_or_insert(Failure::Refused(refusal));
            }
            Ok(Answer::Images(images)) => {
                for image in images {
                    // Row 20 repeats items of row 21; either may know of the orphan first.
                    let kept = self.theirs.entry((image.name, image.digest)).or_insert(image);
                    kept.is_orphaned |= image.is_orphaned;
                }
            }
            Ok(Answer::Seeded(names)) => {
                let names: BTreeSet<ImageName> = names.into_iter().collect();
                for image in &mut self.preflight.ours {
                    image.is_seeded = names.contains(&image.name);
                }
            }
            Ok(Answer::Transferred(known)) => self.known = known,
            Err(failure) => {
                if !is_harmless(ask, &failure) {
                    self.failure.get_or_insert(failure);
                }
            }
        }
    }

    fn planned(&mut self, effects: &mut Vec<JobEffect>) {
        if let Some(failure) = self.failure.take() {
            return self.end(JobOutcome::NotStarted(failure), effects);
        }
        let theirs: Vec<Theirs> = self.theirs.values().copied().collect();
        self.plan = plan(&self.preflight.ours, &theirs);
        self.states = vec![State::Waiting; self.plan.work.len()];
        self.stage = Stage::Sending;
        effects.push(JobEffect::Planned(self.plan.clone()));
    }

    /// Begins what may begin: a child once its parent has a session, so that the target knows of
    /// it.
    fn begin(&mut self, effects: &mut Vec<JobEffect>) {
        let is_on_its_way =
            |state: &&State| matches!(state, State::Begun | State::Opened | State::Stopping);
        let mut n_begun = self.states.iter().filter(is_on_its_way).count();
        for (index, work) in self.plan.work.clone().into_iter().enumerate() {
            if n_begun >= self.rules.transfers_max || self.stop.is_some() {
                break;
            }
            let parent = work.after.map(|after| self.state(after));
            let may_begin = matches!(parent, None | Some(State::Opened | State::Committed));
            if self.state(index) != State::Waiting || !may_begin {
                continue;
            }
            self.set(index, State::Begun);
            n_begun = n_begun.saturating_add(1);
            let name = self.preflight.ours.get(work.image).map(|image| image.name);
            let is_unfinished = name.is_some() && name == self.preflight.unfinished;
            let known = if is_unfinished { self.known.clone() } else { Runs::new() };
            effects.push(JobEffect::Begin { index, work, known });
            if matches!(parent, None | Some(State::Committed)) {
                effects.push(JobEffect::MayCommit(index));
            }
        }
        let is_over = |state: &State| match state {
            State::Committed | State::Failed => true,
            State::Waiting => self.stop.is_some(),
            State::Begun | State::Opened | State::Stopping => false,
        };
        if self.states.iter().all(is_over) {
            let outcome = match self.stop {
                Some(stop) => JobOutcome::Stopped(stop),
                None if self.failures.is_empty() => JobOutcome::Succeeded,
                None => JobOutcome::Partly(std::mem::take(&mut self.failures)),
            };
            self.end(outcome, effects);
        }
    }

    fn ended(&mut self, index: usize, outcome: Outcome, effects: &mut Vec<JobEffect>) {
        if !matches!(self.state(index), State::Begun | State::Opened | State::Stopping) {
            return;
        }
        if outcome == Outcome::Committed {
            self.set(index, State::Committed);
            for (child, work) in self.plan.work.iter().enumerate() {
                let is_begun = matches!(self.state(child), State::Begun | State::Opened);
                if work.after == Some(index) && is_begun {
                    effects.push(JobEffect::MayCommit(child));
                }
            }
            return;
        }
        self.set(index, State::Failed);
        self.failures.push((index, outcome));
        self.drop_children(index, effects);
    }

    /// What waits for a parent that did not arrive cannot be committed; what it sent stays for
    /// resume.
    fn drop_children(&mut self, parent: usize, effects: &mut Vec<JobEffect>) {
        // Parents stand before their children, so one pass reaches the end of every chain.
        let mut dropped = BTreeSet::from([parent]);
        for child in parent..self.plan.work.len() {
            let after = self.plan.work.get(child).and_then(|work| work.after);
            if !after.is_some_and(|after| dropped.contains(&after)) {
                continue;
            }
            match self.state(child) {
                State::Waiting => {
                    self.set(child, State::Failed);
                    let refusal = Refusal::new(ErrorCode::BaseMissing, "its parent was not sent");
                    self.failures.push((child, Outcome::Refused(refusal)));
                    dropped.insert(child);
                }
                State::Begun | State::Opened => {
                    self.set(child, State::Stopping);
                    effects.push(JobEffect::StopTransfer(child, Stop::Pause));
                    dropped.insert(child);
                }
                State::Stopping | State::Committed | State::Failed => {}
            }
        }
    }

    fn stop(&mut self, stop: Stop, effects: &mut Vec<JobEffect>) {
        match self.stage {
            Stage::New | Stage::Asking => self.end(JobOutcome::Stopped(stop), effects),
            Stage::Sending => {
                self.stop = Some(stop);
                for (index, state) in self.states.iter().enumerate() {
                    if matches!(state, State::Begun | State::Opened | State::Stopping) {
                        effects.push(JobEffect::StopTransfer(index, stop));
                    }
                }
            }
            Stage::Ended => {}
        }
    }

    fn end(&mut self, outcome: JobOutcome, effects: &mut Vec<JobEffect>) {
        self.stage = Stage::Ended;
        effects.push(JobEffect::End(outcome));
    }

    fn state(&self, index: usize) -> State {
        self.states.get(index).copied().unwrap_or(State::Failed)
    }

    fn set(&mut self, index: usize, state: State) {
        if let Some(place) = self.states.get_mut(index)
            && (*place != State::Committed && *place != State::Failed)
        {
            *place = state;
        }
    }
}

/// Whether a job can do without this answer.
fn is_harmless(ask: Ask, failure: &Failure) -> bool {
    let Failure::Refused(refusal) = failure else { return false };
    match ask {
        Ask::Transferred(_) => matches!(
            refusal.code,
            ErrorCode::ImageUnknown | ErrorCode::SessionUnknown | ErrorCode::SessionExpired
        ),
        // An older target may not know seed drives or mirrors; neither is needed to send.
        Ask::SeedDrives | Ask::Mirror | Ask::FreeSpace => refusal.code == ErrorCode::NotImplemented,
        Ask::Pairing | Ask::MayStart | Ask::Images | Ask::Orphans => false,
    }
}
