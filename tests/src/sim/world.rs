//! The world: one queue of events in the order of simulated time, and what each of them does.

use std::collections::{BTreeMap, VecDeque};

use offsite_exchange::pairing::source::{Answer, Call, Failure, Ticket};
use offsite_exchange::pairing::target::{Input as TargetInput, Order};
use offsite_exchange::pairing::{PublicKey, Rules};
use offsite_model::{Digest, Luck, Span, Timestamp};
use offsite_testkit::SeededLuck;

use super::network::Hazards;
use super::oracle::Oracle;
use super::source_node::SourceNode;
use super::target_node::TargetNode;
use super::workload::Act;

/// What kind of world it is.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Decides everything.
    pub seed: u64,
    /// Sources beside the one target.
    pub n_sources: usize,
    /// How long things go wrong.
    pub storm: Span,
    /// How long they go right afterwards, before both sides must agree.
    pub calm: Span,
    /// What goes wrong during the storm.
    pub hazards: Hazards,
    /// Kills the program that is about to perform the n-th effect of the world, once.
    pub crash_at: Option<u64>,
    /// The rules of both machines.
    pub rules: Rules,
}

impl Plan {
    /// A storm of some days over two sources, with certificates short enough to be renewed in it.
    #[must_use]
    pub fn storm(seed: u64) -> Self {
        Self {
            seed,
            n_sources: 2,
            storm: Span::from_days(4),
            calm: Span::from_days(4),
            hazards: Hazards::STORM,
            crash_at: None,
            rules: Rules {
                request_life: Span::from_days(2),
                poll_pause_max: Span::from_secs(1_800),
                certificate_life: Span::from_days(3),
                renew_after_expiry: Span::from_days(6),
                sync_pause: Span::from_hours(2),
                ..Rules::shipped()
            },
        }
    }

    /// A calm world of some hours, in which everything is asked for and granted.
    #[must_use]
    pub fn calm(seed: u64) -> Self {
        Self {
            n_sources: 1,
            storm: Span::ZERO,
            calm: Span::from_days(2),
            hazards: Hazards::CALM,
            ..Self::storm(seed)
        }
    }
}

/// What a world came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Digest of everything that happened.
    pub trace: Digest,
    /// Events.
    pub n_events: u64,
    /// Effects performed by either program, those of the last hour not counted.
    pub n_effects: u64,
    /// Programs killed.
    pub n_crashes: u64,
    /// Pairings that became active.
    pub n_active: u64,
    /// Keys renewed.
    pub n_renewals: u64,
    /// Decisions that took effect.
    pub n_decisions: u64,
}

/// Something that will happen.
#[derive(Clone, Debug)]
pub(super) enum Event {
    /// A source's timer.
    SourceWoken { source: usize, boot: u64, timer: u64 },
    /// A key lies on a source's disk.
    KeyMade { source: usize, boot: u64, key: PublicKey },
    /// A bundle lies on a source's disk.
    Installed { source: usize, boot: u64, key: PublicKey },
    /// A call arrives at the target.
    Arrives {
        source: usize,
        boot: u64,
        call: Box<Call>,
        serial: Option<[u8; 16]>,
        answer: Option<Span>,
    },
    /// An answer arrives at a source, or its patience ends.
    Answered { source: usize, boot: u64, ticket: Ticket, outcome: Box<Result<Answer, Failure>> },
    /// A timer of a row.
    RowWoken { row: PublicKey, boot: u64, timer: u64 },
    /// A certificate was signed.
    Signed { row: PublicKey, boot: u64, order: Box<Order> },
    /// A program starts again.
    SourceStarts(usize),
    /// The target's program starts again.
    TargetStarts,
    /// Somebody does something.
    Act(Act),
}

/// One world.
pub struct World {
    pub(super) plan: Plan,
    pub(super) luck: SeededLuck,
    pub(super) now: Timestamp,
    pub(super) is_storm: bool,
    pub(super) sources: Vec<SourceNode>,
    pub(super) target: TargetNode,
    pub(super) oracle: Oracle,
    n_effects: u64,
    n_effects_early: u64,
    pub(super) n_crashes: u64,
    queue: BTreeMap<(Timestamp, u64), Event>,
    n_scheduled: u64,
    n_events: u64,
    trace: Digest,
    last_lines: VecDeque<String>,
}

const LINES_KEPT: usize = 60;

/// Who dies later than this before the end may still be down in the end.
const LAST_HOUR: Span = Span::from_hours(1);

impl World {
    /// The world of a plan, before anything happened.
    #[must_use]
    pub fn new(plan: Plan) -> Self {
        let luck = SeededLuck::new(plan.seed);
        let sources = (0..plan.n_sources).map(SourceNode::new).collect();
        let mut world = Self {
            luck,
            now: Timestamp::from_secs(1_800_000_000),
            is_storm: plan.storm > Span::ZERO,
            sources,
            target: TargetNode::new(),
            oracle: Oracle::default(),
            n_effects: 0,
            n_effects_early: 0,
            n_crashes: 0,
            queue: BTreeMap::new(),
            n_scheduled: 0,
            n_events: 0,
            trace: Digest::ZERO,
            last_lines: VecDeque::new(),
            plan,
        };
        world.begin_workload();
        world
    }

    /// Lets it happen.
    ///
    /// # Errors
    ///
    /// The first broken promise, with the last lines of the trace.
    pub fn run(mut self) -> Result<Outcome, String> {
        let start = self.now;
        let storm_ends = start + self.plan.storm;
        let ends = storm_ends + self.plan.calm;
        while let Some(((at, _), event)) = self.queue.pop_first() {
            if at > ends {
                break;
            }
            if self.is_storm && at >= storm_ends {
                self.is_storm = false;
                self.now = storm_ends;
                self.note(|| "calm".to_owned());
                self.calm_down();
            }
            self.now = at;
            self.n_events += 1;
            self.happen(event);
            if at < ends - LAST_HOUR {
                self.n_effects_early = self.n_effects;
            }
            if let Some(broken) = self.oracle.broken() {
                return Err(self.report(&broken));
            }
        }
        self.check_agreement();
        if let Some(broken) = self.oracle.broken() {
            return Err(self.report(&broken));
        }
        Ok(Outcome {
            trace: self.trace,
            n_events: self.n_events,
            n_effects: self.n_effects_early,
            n_crashes: self.n_crashes,
            n_active: self.oracle.n_active,
            n_renewals: self.oracle.n_renewals,
            n_decisions: self.oracle.n_decisions,
        })
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::SourceWoken { source, boot, timer } => self.source_woken(source, boot, timer),
            Event::KeyMade { source, boot, key } => self.source_key_made(source, boot, key),
            Event::Installed { source, boot, key } => self.source_installed(source, boot, key),
            Event::Arrives { source, boot, call, serial, answer } => {
                self.target_called(source, boot, *call, serial, answer);
            }
            Event::Answered { source, boot, ticket, outcome } => {
                self.source_answered(source, boot, ticket, *outcome);
            }
            Event::RowWoken { row, boot, timer } => {
                if self.target.boot == boot && self.target.timers.get(&row) == Some(&timer) {
                    self.row_step(&row, TargetInput::Woken);
                }
            }
            Event::Signed { row, boot, order } => self.target_signed(&row, boot, &order),
            Event::SourceStarts(source) => self.source_starts(source),
            Event::TargetStarts => self.target_starts(),
            Event::Act(act) => self.act(act),
        }
    }

    pub(super) fn schedule(&mut self, after: Span, event: Event) {
        self.n_scheduled += 1;
        // Nothing happens at once, so no event can overtake its own cause.
        let at = self.now + Span::from_micros(after.as_micros().max(1));
        self.queue.insert((at, self.n_scheduled), event);
    }

    pub(super) fn hazards(&self) -> Hazards {
        if self.is_storm { self.plan.hazards } else { Hazards::CALM }
    }

    /// Whether the program about to perform an effect dies before it.
    pub(super) fn dies_now(&mut self) -> bool {
        self.n_effects += 1;
        let dies = self.plan.crash_at == Some(self.n_effects)
            || self.luck.chance(self.hazards().crash, 1_000);
        self.n_crashes += u64::from(dies);
        dies
    }

    pub(super) fn random_bytes<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        self.luck.fill(&mut bytes);
        bytes
    }

    /// Adds a line to the trace.
    pub(super) fn note(&mut self, line: impl FnOnce() -> String) {
        let line = format!("{:?} {}", self.now, line());
        let mut bytes = self.trace.as_bytes().to_vec();
        bytes.extend_from_slice(line.as_bytes());
        self.trace = Digest::of(&bytes);
        if self.last_lines.len() == LINES_KEPT {
            self.last_lines.pop_front();
        }
        self.last_lines.push_back(line);
    }

    fn report(&self, broken: &str) -> String {
        let lines: Vec<&str> = self.last_lines.iter().map(String::as_str).collect();
        format!("seed {}: {broken}\nlast of the trace:\n{}", self.plan.seed, lines.join("\n"))
    }
}
