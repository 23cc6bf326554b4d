//! One source's machine: a disk that keeps what was persisted, and a driver that obeys effects.

use std::collections::BTreeMap;

use offsite_exchange::pairing::source::{
    Answer, Artifacts, Ask, Call, Effect, Event as Told, Failure, Input, Shown, Source, Stage,
    Ticket,
};
use offsite_exchange::pairing::{Moment, PublicKey};
use offsite_model::{Span, Timestamp};

use super::network::{TIMEOUT, fate, jitter};
use super::world::{Event, World};

/// One source.
pub(super) struct SourceNode {
    /// What survives: the machine as it was last persisted.
    kept: Vec<u8>,
    /// Private keys on the disk.
    pub(super) keys: Vec<PublicKey>,
    /// Installed bundles, by key.
    pub(super) bundles: BTreeMap<PublicKey, Artifacts>,
    /// The running program's machine; none while it is down.
    pub(super) live: Option<Source>,
    /// Counts starts of the program, so that nothing reaches a later one by mistake.
    pub(super) boot: u64,
    timer: u64,
    n_keys: u64,
    /// Its clock less the world's, in seconds.
    pub(super) skew_secs: i64,
}

impl SourceNode {
    pub(super) fn new(_index: usize) -> Self {
        let source = Source::new();
        Self {
            kept: postcard::to_stdvec(&source).expect("plain values can be kept"),
            keys: Vec::new(),
            bundles: BTreeMap::new(),
            live: Some(source),
            boot: 0,
            timer: 0,
            n_keys: 0,
            skew_secs: 0,
        }
    }

    /// The machine as a restart would find it.
    pub(super) fn kept(&self) -> Source {
        postcard::from_bytes(&self.kept).expect("what was kept can be read")
    }
}

/// A clock that is off by so many seconds.
pub(super) fn skewed(now: Timestamp, skew_secs: i64) -> Timestamp {
    let skew = Span::from_secs(skew_secs.unsigned_abs());
    if skew_secs < 0 { now - skew } else { now + skew }
}

impl World {
    pub(super) fn source_input(&mut self, index: usize, input: Input) {
        let Some(live) = self.sources[index].live.clone() else { return };
        let at = Moment {
            now: skewed(self.now, self.sources[index].skew_secs),
            luck: jitter(&self.luck),
        };
        let is_order = matches!(input, Input::Operator(_));
        let line = format!("source {index} {} <- {input:?}", live.stage().name());
        let step = match live.step(input, at, &self.plan.rules) {
            Ok(step) => step,
            Err(illegal) => {
                if !is_order {
                    self.oracle.break_promise(format!("source {index}: {illegal}: {line}"));
                }
                return;
            }
        };
        let (before, after) = (live.stage().clone(), step.source.stage().clone());
        self.note(|| format!("{line} -> {}", after.name()));
        self.check_source_move(index, &before, &after);
        self.sources[index].live = Some(step.source);
        for effect in step.effects {
            if self.dies_now() {
                self.source_dies(index);
                return;
            }
            self.source_effect(index, effect);
        }
    }

    fn source_effect(&mut self, index: usize, effect: Effect) {
        let boot = self.sources[index].boot;
        match effect {
            Effect::Persist => {
                let live = self.sources[index].live.as_ref().expect("it is running");
                self.sources[index].kept =
                    postcard::to_stdvec(live).expect("plain values can be kept");
            }
            Effect::MakeKey => {
                self.sources[index].n_keys += 1;
                let n = self.sources[index].n_keys;
                let key = PublicKey::from_der(format!("key {n} of source {index}"));
                self.sources[index].keys.push(key.clone());
                self.schedule(Span::from_millis(5), Event::KeyMade { source: index, boot, key });
            }
            Effect::Call(call) => self.source_calls(index, call),
            Effect::Install { key, artifacts } => {
                self.check_install(index, &key, &artifacts);
                // One rename: there is no state between.
                self.sources[index].bundles.insert(key.clone(), *artifacts);
                self.schedule(Span::from_millis(5), Event::Installed { source: index, boot, key });
            }
            Effect::ForgetKey(key) => {
                self.sources[index].keys.retain(|kept| *kept != key);
                self.sources[index].bundles.remove(&key);
            }
            Effect::Tell(told) => {
                if told == Told::Active {
                    self.oracle.n_active += 1;
                }
                if told == Told::Renewed {
                    self.oracle.n_renewals += 1;
                }
                self.note(|| format!("source {index} tells {told:?}"));
            }
            Effect::WakeAfter(span) => {
                self.sources[index].timer += 1;
                let timer = self.sources[index].timer;
                self.schedule(span, Event::SourceWoken { source: index, boot, timer });
            }
        }
    }

    fn source_calls(&mut self, index: usize, call: Call) {
        let boot = self.sources[index].boot;
        // A call clears the timer.
        self.sources[index].timer += 1;
        self.check_call(index, &call);
        let ticket = call.ticket;
        let outcome = |outcome| Box::new(outcome);
        let seen = self.target.key_on_the_wire();
        let answer_at = Span::from_millis(self.luck.between(1, 900));
        if call.pin.as_ref().is_some_and(|pin| *pin != seen) {
            let outcome = outcome(Err(Failure::TargetKeyChanged { seen }));
            return self
                .schedule(answer_at, Event::Answered { source: index, boot, ticket, outcome });
        }
        let reason = "no answer in time".to_owned();
        let late = outcome(Err(Failure::Unreachable { reason }));
        self.schedule(TIMEOUT, Event::Answered { source: index, boot, ticket, outcome: late });
        if self.target.is_imposter_there {
            if matches!(call.ask, Ask::Meet(_)) {
                let outcome =
                    outcome(Ok(Answer::Met { target_key: seen, target_core: self.target.core }));
                self.schedule(answer_at, Event::Answered { source: index, boot, ticket, outcome });
            }
            return;
        }
        let fate = fate(&self.luck, &self.hazards());
        let bundle = self.sources[index].bundles.get(&call.key);
        let serial = match call.shown {
            Shown::SelfSigned => None,
            Shown::Issued => match bundle {
                Some(bundle) => Some(super::target_node::serial_of(&bundle.certificate_pem)),
                None => {
                    self.oracle.break_promise(format!(
                        "source {index} shows a certificate it has not installed"
                    ));
                    return;
                }
            },
        };
        for arrival in fate.arrivals {
            let call = Box::new(call.clone());
            let answer = fate.answer;
            self.schedule(arrival, Event::Arrives { source: index, boot, call, serial, answer });
        }
    }

    pub(super) fn source_dies(&mut self, index: usize) {
        self.note(|| format!("source {index} dies"));
        let node = &mut self.sources[index];
        node.live = None;
        node.boot += 1;
        let down = Span::from_secs(self.luck.between(1, 600));
        self.schedule(down, Event::SourceStarts(index));
    }

    pub(super) fn source_starts(&mut self, index: usize) {
        if self.sources[index].live.is_some() {
            return;
        }
        let source = self.sources[index].kept();
        // Private keys that no stage needs are swept at the start.
        let needed: Vec<PublicKey> = source.stage().keys().into_iter().cloned().collect();
        let node = &mut self.sources[index];
        node.keys.retain(|key| needed.contains(key));
        node.bundles.retain(|key, _| needed.contains(key));
        node.live = Some(source);
        let missing = needed.iter().find(|key| !node.keys.contains(key));
        if let Some(key) = missing {
            self.oracle.break_promise(format!(
                "A-12: source {index} needs {key:?}, which is not on its disk"
            ));
        }
        self.source_input(index, Input::Start);
    }

    pub(super) fn source_woken(&mut self, index: usize, boot: u64, timer: u64) {
        let node = &self.sources[index];
        if node.boot == boot && node.timer == timer {
            self.source_input(index, Input::Woken);
        }
    }

    pub(super) fn source_key_made(&mut self, index: usize, boot: u64, key: PublicKey) {
        if self.sources[index].boot == boot {
            self.source_input(index, Input::KeyMade(key));
        }
    }

    pub(super) fn source_installed(&mut self, index: usize, boot: u64, key: PublicKey) {
        if self.sources[index].boot == boot {
            self.source_input(index, Input::Installed(key));
        }
    }

    pub(super) fn source_answered(
        &mut self,
        index: usize,
        boot: u64,
        ticket: Ticket,
        outcome: Result<Answer, Failure>,
    ) {
        if self.sources[index].boot == boot {
            self.source_input(index, Input::Answered(ticket, outcome));
        }
    }

    /// Whether a source has come to rest in a stage where only its operator can go on.
    pub(super) fn is_aside(stage: &Stage) -> bool {
        matches!(
            stage,
            Stage::Unpaired
                | Stage::Rejected(_)
                | Stage::Refused(_)
                | Stage::Expired(_)
                | Stage::Alarmed(_)
                | Stage::Withdrawn
                | Stage::Ended(_)
        )
    }
}
