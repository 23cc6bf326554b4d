//! One pairing of this source: its machine, and the effects that the machine asks for.
//!
//! The machine decides and the driver here obeys, in order: what must be durable is durable before
//! the next effect. A call and a pause are tasks of their own; each is owned by the pairing and
//! replaced, never doubled.
//!
//! **Absent:** rules (`exchange::pairing::source`), TLS ([`crate::calls`]), words for people
//! ([`crate::view`]).

use std::collections::VecDeque;
use std::sync::Arc;

use offsite_exchange::pairing::source::{Call, Effect, Event as Told, Input, Source, Stage, Step};
use offsite_exchange::pairing::{IllegalMove, Moment, PublicKey};
use offsite_model::{Clock, Luck, Span};
use offsite_proto::admin::source::Pairing;
use offsite_proto::text::Text;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};

use crate::error::{Blame, Trouble};
use crate::event::{Event, PairingNumber, ReplyTo};
use crate::install::Keys;
use crate::line::{Line, Outcome, Speaker};
use crate::memory::{Identity, Memory, PairingRow};
use crate::poll::Waiter;
use crate::view::{Face, Scene, skew_words, view};

/// What every pairing works with.
pub struct Means {
    /// Real or simulated time.
    pub clock: Arc<dyn Clock>,
    /// Real or seeded randomness.
    pub luck: Arc<dyn Luck>,
    /// What survives a restart.
    pub memory: Memory,
    /// Private keys and what is installed.
    pub keys: Keys,
    /// The way to targets.
    pub line: Arc<dyn Line>,
    /// Who waits.
    pub waiter: Arc<dyn Waiter>,
    /// The rules of pairings, made of the settings.
    pub rules: offsite_exchange::pairing::Rules,
    /// Who this source is.
    pub identity: Identity,
}

/// A task that ends with its owner.
struct Task(AbortHandle);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A pairing and what is under way for it.
pub(crate) struct Slot {
    pub(crate) number: PairingNumber,
    pub(crate) row: PairingRow,
    /// What the target calls itself, once it told.
    pub(crate) target_name: Option<String>,
    pub(crate) face: Face,
    /// Who waits for the request to be filed.
    pub(crate) asker: Option<ReplyTo<Pairing>>,
    /// The first failure since somebody waits; it is his answer.
    pub(crate) failure: Option<Outcome>,
    call: Option<Task>,
    pause: Option<Task>,
    n_pauses: u64,
}

/// The tasks of all pairings and the door through which they report.
pub(crate) struct Tasks {
    pub(crate) running: JoinSet<()>,
    pub(crate) door: mpsc::Sender<Event>,
}

/// Why a step did not come to its end.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The machine knows no such move; nothing changed.
    Illegal(IllegalMove),
    /// The disk failed, or we did: the daemon must not go on as if nothing happened.
    Final(Trouble),
}

impl From<Trouble> for Fault {
    fn from(trouble: Trouble) -> Self {
        Self::Final(trouble)
    }
}

impl Slot {
    pub(crate) fn new(number: PairingNumber, row: PairingRow) -> Self {
        Self {
            number,
            row,
            target_name: None,
            face: Face::default(),
            asker: None,
            failure: None,
            call: None,
            pause: None,
            n_pauses: 0,
        }
    }

    pub(crate) fn stage(&self) -> &Stage {
        self.row.machine.stage()
    }

    /// Whether this pause is the one that is awaited.
    pub(crate) fn is_awaited(&self, pause: u64) -> bool {
        self.pause.is_some() && self.n_pauses == pause
    }

    /// The words for people.
    pub(crate) fn view(&self, agents: &[String]) -> Pairing {
        let mut view = view(&Scene {
            stage: self.stage(),
            trouble: self.row.machine.trouble(),
            face: &self.face,
            target: &self.row.target,
            agents,
        });
        view.target_id = view.target_id.or(self.row.target_core().map(Text));
        if let Some(name) = &self.target_name {
            view.target = Some(name.clone());
        }
        view
    }

    /// Hands an input to the machine and obeys, until nothing is left to obey but calls and pauses.
    pub(crate) async fn drive(
        &mut self,
        means: &Arc<Means>,
        tasks: &mut Tasks,
        input: Input,
    ) -> Result<(), Fault> {
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            let [low, high] = luck_bytes(&*means.luck);
            let moment = Moment { now: means.clock.now(), luck: u16::from_le_bytes([low, high]) };
            let step = self.row.machine.step(input, moment, &means.rules);
            let Step { source, effects } = step.map_err(Fault::Illegal)?;
            self.row.machine = source;
            if let Some(link) = self.stage().link() {
                let core = link.target_core;
                self.row.set_target_core(core);
            }
            for effect in effects {
                inputs.extend(self.obey(means, tasks, effect).await?);
            }
        }
        self.face.change = self.face.change.saturating_add(1);
        Ok(())
    }

    /// Obeys one effect; what comes of it at once is the next input.
    async fn obey(
        &mut self,
        means: &Arc<Means>,
        tasks: &mut Tasks,
        effect: Effect,
    ) -> Result<Option<Input>, Trouble> {
        match effect {
            Effect::Persist => {
                let (number, row) = (self.number, self.row.clone());
                off(means, move |means| Ok(means.memory.put_pairing(number, &row)?)).await?;
                Ok(None)
            }
            Effect::MakeKey => off(means, make_key).await.map(|key| Some(Input::KeyMade(key))),
            Effect::Install { key, artifacts } => {
                let named = key.clone();
                let installed = off(means, move |means| {
                    means.keys.install(&key, &artifacts.target_key, &artifacts, means.clock.now())
                });
                match installed.await {
                    Ok(()) => Ok(Some(Input::Installed(named))),
                    Err(trouble) if trouble.blame == Blame::Disk => Err(trouble),
                    // Certificates that installing judges more sternly than the machine did:
                    // nothing is in place, a person is told, and they are fetched again later.
                    Err(trouble) => {
                        let (pairing, target) = (self.number.0, self.row.target.as_str());
                        tracing::error!(pairing, target, cause = %trouble, "cannot install");
                        self.face.remark = Some(trouble.message);
                        self.start_pause(means, tasks, means.rules.poll_pause_max);
                        Ok(None)
                    }
                }
            }
            Effect::ForgetKey(key) => {
                off(means, move |means| means.keys.forget(&key)).await?;
                Ok(None)
            }
            Effect::Call(call) => {
                self.start_call(means, tasks, call);
                Ok(None)
            }
            Effect::WakeAfter(span) => {
                self.start_pause(means, tasks, span);
                Ok(None)
            }
            Effect::Tell(told) => {
                self.tell(&told);
                Ok(None)
            }
        }
    }

    fn start_call(&mut self, means: &Arc<Means>, tasks: &mut Tasks, call: Call) {
        self.pause = None;
        let (number, ticket, door) = (self.number, call.ticket, tasks.door.clone());
        let speaker = Speaker {
            core_id: means.identity.core_id(),
            name: means.identity.name.clone(),
            agents: self.row.agents(),
        };
        let underway = Arc::clone(&means.line).call(call, speaker);
        self.call = Some(Task(tasks.running.spawn(async move {
            let outcome = underway.await;
            // A closed door means that the daemon stops: nobody needs the answer.
            drop(door.send(Event::Answered(number, ticket, outcome)).await);
        })));
    }

    fn start_pause(&mut self, means: &Arc<Means>, tasks: &mut Tasks, span: Span) {
        self.n_pauses = self.n_pauses.saturating_add(1);
        let (number, pause, door) = (self.number, self.n_pauses, tasks.door.clone());
        let wait = means.waiter.wait(span);
        self.pause = Some(Task(tasks.running.spawn(async move {
            wait.await;
            drop(door.send(Event::Woken(number, pause)).await);
        })));
    }

    /// Keeps what a call showed besides its answer. A name is kept on disk before it is shown.
    pub(crate) async fn look_at(
        &mut self,
        means: &Arc<Means>,
        outcome: &Outcome,
    ) -> Result<(), Trouble> {
        if let Some(name) = &outcome.target_name
            && self.target_name.as_ref() != Some(name)
        {
            let (number, kept) = (self.number, name.clone());
            off(means, move |means| Ok(means.memory.set_target_name(number, &kept)?)).await?;
            self.target_name = Some(name.clone());
        }
        let is_answered = is_answered(outcome);
        self.face.is_answered = Some(is_answered);
        if is_answered {
            self.face.last_answer_at = Some(means.clock.now());
        }
        self.face.hint.clone_from(&outcome.hint);
        if outcome.skew_secs.is_some() {
            self.face.skew_secs = outcome.skew_secs;
        }
        if outcome.remark.is_some() {
            self.face.remark.clone_from(&outcome.remark);
        }
        if outcome.result.is_err() && self.asker.is_some() && self.failure.is_none() {
            self.failure = Some(outcome.clone());
        }
        Ok(())
    }

    /// Tells the log; people read the view.
    fn tell(&mut self, told: &Told) {
        let (pairing, target) = (self.number.0, self.row.target.as_str());
        match told {
            Told::Filed { request, code } => {
                tracing::info!(pairing, target, %request, check_code = %code, "request filed");
            }
            Told::Accepted { message } => {
                self.face.remark.clone_from(message);
                tracing::info!(pairing, target, "request accepted");
            }
            Told::Rejected { message } => {
                tracing::warn!(pairing, target, cause = ?message, "request rejected");
            }
            Told::Refused { code, message } => {
                tracing::warn!(pairing, target, %code, cause = ?message, "request refused");
            }
            Told::NoAnswer => tracing::warn!(pairing, target, "request expired without an answer"),
            Told::Active => {
                self.face.remark = None;
                tracing::info!(pairing, target, "pairing active");
            }
            Told::Renewed => {
                self.face.remark = None;
                tracing::info!(pairing, target, "certificate renewed");
            }
            Told::TooLateToChange => {
                self.face.remark = Some(
                    "the target had decided on the earlier request before this one reached it"
                        .to_owned(),
                );
                tracing::warn!(pairing, target, "request decided before it was changed");
            }
            Told::Alarm(cause) => {
                tracing::error!(pairing, target, ?cause, "alarm: the target is not who it was");
            }
            Told::EndedByTarget => tracing::warn!(pairing, target, "pairing ended by the target"),
            Told::Left => tracing::info!(pairing, target, "the target knows that this source left"),
            Told::ClocksDiffer { skew_secs } => {
                self.face.skew_secs = Some(*skew_secs);
                let cause = skew_words(*skew_secs, target);
                tracing::warn!(pairing, target, skew_secs, cause, "clocks differ");
            }
        }
    }
}

/// Whether the target itself spoke.
fn is_answered(outcome: &Outcome) -> bool {
    use offsite_exchange::pairing::source::Failure;
    matches!(outcome.result, Ok(_) | Err(Failure::Refused { .. }))
}

/// The key that `init` made if it is unused, else a new one.
fn make_key(means: &Means) -> Result<PublicKey, Trouble> {
    if let Some(prepared) = means.memory.take_prepared_key()? {
        match means.keys.private(&prepared) {
            Ok(_) => return Ok(prepared),
            Err(error) => tracing::warn!(cause = %error, "the prepared key cannot be used"),
        }
    }
    means.keys.make()
}

fn luck_bytes(luck: &dyn Luck) -> [u8; 2] {
    let mut bytes = [0; 2];
    luck.fill(&mut bytes);
    bytes
}

/// Does blocking work off the runtime's threads.
pub(crate) async fn off<T: Send + 'static>(
    means: &Arc<Means>,
    work: impl FnOnce(&Means) -> Result<T, Trouble> + Send + 'static,
) -> Result<T, Trouble> {
    let means = Arc::clone(means);
    match tokio::task::spawn_blocking(move || work(&means)).await {
        Ok(result) => result,
        Err(error) => {
            Err(Trouble::us(format!("work on the disk did not come to its end: {error}")))
        }
    }
}

/// A pairing that was never asked.
pub(crate) fn unpaired() -> Source {
    Source::new()
}
