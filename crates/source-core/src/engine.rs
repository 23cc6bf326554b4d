//! The engine: one owner of all pairings; select → apply → settle.
//!
//! ```text
//!   operator ─┐
//!   calls   ──┼─► select ─► apply ─► settle ─► views (watch)
//!   pauses  ──┘      ▲                 │
//!                    └─────────────────┘
//! ```
//!
//! `apply` hands one event to one pairing; `settle` restores what always holds: whoever waits for
//! an outcome that is there gets it, and everybody sees the newest views. A disk that fails ends
//! the engine: what could not be kept must not be acted upon.
//!
//! **Absent:** rules of pairings, sockets, time of its own.

mod orders;

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::sync::Arc;

use offsite_exchange::pairing::source::{Input, Stage};
use offsite_model::AgentId;
use offsite_proto::admin::source::Pairing;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::error::Trouble;
use crate::event::{Event, Order, PairingNumber};
use crate::pairing::{Fault, Means, Slot, Tasks, off};

/// Events that may wait; whoever brings one more waits himself.
const EVENTS_MAX: usize = 256;

/// The door of a running engine: orders in, views out.
#[derive(Clone)]
pub struct Handle {
    door: mpsc::Sender<Event>,
    shown: watch::Receiver<Vec<Pairing>>,
}

impl Handle {
    /// Brings an order to the engine. Its answer comes where the order says.
    ///
    /// # Errors
    /// The engine has ended.
    pub async fn order(&self, order: Order) -> Result<(), Trouble> {
        self.door
            .send(Event::Ordered(order))
            .await
            .map_err(|_| Trouble::us("the daemon is stopping and takes no more orders"))
    }

    /// All pairings as they are now, the newest last.
    #[must_use]
    pub fn pairings(&self) -> Vec<Pairing> {
        self.shown.borrow().clone()
    }

    /// Ends when a view changed since this handle last looked.
    pub async fn changed(&mut self) {
        if self.shown.changed().await.is_err() {
            // The engine has ended: nothing will change any more.
            std::future::pending::<()>().await;
        }
    }
}

/// All pairings of this source and what is under way for them.
pub struct Engine {
    means: Arc<Means>,
    slots: BTreeMap<PairingNumber, Slot>,
    /// Numbers are never used twice while the engine lives, so that a late event finds nobody else.
    next_number: u32,
    agent_names: HashMap<AgentId, String>,
    tasks: Tasks,
    inbox: mpsc::Receiver<Event>,
    shown: watch::Sender<Vec<Pairing>>,
    /// Answers to orders, held back until the views show what they tell of.
    answers: Vec<Box<dyn FnOnce() + Send + Sync>>,
}

impl Engine {
    /// Loads what the last run left, and removes keys that belong to nothing. Blocks.
    ///
    /// # Errors
    /// The disk's.
    pub fn load(means: Arc<Means>) -> Result<(Self, Handle), Trouble> {
        let pairings = means.memory.pairings()?;
        let next_number = pairings.last().map_or(1, |(number, _)| number.0.saturating_add(1));
        let mut slots: BTreeMap<_, _> =
            pairings.into_iter().map(|(number, row)| (number, Slot::new(number, row))).collect();
        for (number, slot) in &mut slots {
            slot.target_name = means.memory.target_name(*number)?;
        }
        let prepared = means.memory.prepared_key()?;
        let in_use = slots.values().flat_map(|slot| slot.stage().keys()).chain(&prepared);
        means.keys.sweep(in_use)?;
        let (door, inbox) = mpsc::channel(EVENTS_MAX);
        let (shown, watched) = watch::channel(Vec::new());
        let tasks = Tasks { running: JoinSet::new(), door: door.clone() };
        let agent_names = HashMap::new();
        let answers = Vec::new();
        let mut engine =
            Self { means, slots, next_number, agent_names, tasks, inbox, shown, answers };
        engine.read_agent_names()?;
        engine.show();
        Ok((engine, Handle { door, shown: watched }))
    }

    /// Works until told to stop. What is under way then is abandoned: every call may be repeated.
    ///
    /// # Errors
    /// The disk's, after which nothing may be believed that is not on it.
    pub async fn run(mut self, stop: CancellationToken) -> Result<(), Trouble> {
        let ended = self.work(&stop).await;
        self.tasks.running.shutdown().await;
        if let Err(trouble) = &ended {
            tracing::error!(cause = %trouble, "the engine stops");
        }
        ended
    }

    async fn work(&mut self, stop: &CancellationToken) -> Result<(), Trouble> {
        let numbers: Vec<_> = self.slots.keys().copied().collect();
        for number in numbers {
            self.hand(number, Input::Start).await?;
        }
        self.settle().await?;
        loop {
            let event = self.select(stop).await;
            tracing::debug!(event = event.kind(), "woken");
            if matches!(event, Event::Stop) {
                return Ok(());
            }
            self.apply(event).await?;
            self.settle().await?;
        }
    }

    async fn select(&mut self, stop: &CancellationToken) -> Event {
        tokio::select! {
            biased;
            () = stop.cancelled() => Event::Stop,
            event = self.inbox.recv() => event.unwrap_or(Event::Stop),
        }
    }

    async fn apply(&mut self, event: Event) -> Result<(), Trouble> {
        match event {
            Event::Ordered(order) => self.obey_order(order).await,
            Event::Answered(number, ticket, outcome) => {
                if let Some(slot) = self.slots.get_mut(&number) {
                    slot.look_at(&self.means, &outcome).await?;
                }
                self.hand(number, Input::Answered(ticket, outcome.result)).await
            }
            Event::Woken(number, pause) => {
                if !self.slots.get(&number).is_some_and(|slot| slot.is_awaited(pause)) {
                    return Ok(());
                }
                self.hand(number, Input::Woken).await
            }
            Event::Stop => Ok(()),
        }
    }

    /// Hands an input to a pairing. A move that its stage does not know has come too late and is no
    /// fault.
    async fn hand(&mut self, number: PairingNumber, input: Input) -> Result<(), Trouble> {
        let Some(slot) = self.slots.get_mut(&number) else { return Ok(()) };
        match slot.drive(&self.means, &mut self.tasks, input).await {
            Ok(()) => Ok(()),
            Err(Fault::Illegal(illegal)) => {
                tracing::debug!(pairing = number.0, cause = %illegal, "ignored");
                Ok(())
            }
            Err(Fault::Final(trouble)) => Err(trouble),
        }
    }

    /// Restores what always holds after an event.
    async fn settle(&mut self) -> Result<(), Trouble> {
        while self.tasks.running.try_join_next().is_some() {}
        let numbers: Vec<_> = self.slots.keys().copied().collect();
        for number in numbers {
            self.answer_asker(number).await?;
        }
        self.show();
        self.answers.drain(..).for_each(|answer| answer());
        Ok(())
    }

    fn show(&self) {
        let views = self.slots.values().map(|slot| self.view_of(slot)).collect();
        self.shown.send_if_modified(|shown| {
            let is_new = *shown != views;
            *shown = views;
            is_new
        });
    }

    fn view_of(&self, slot: &Slot) -> Pairing {
        let agents: Vec<_> = slot.row.agents().iter().map(|id| self.agent_name(*id)).collect();
        slot.view(&agents)
    }

    fn agent_name(&self, id: AgentId) -> String {
        self.agent_names.get(&id).cloned().unwrap_or_else(|| id.to_string())
    }

    fn read_agent_names(&mut self) -> Result<(), Trouble> {
        let agents = self.means.memory.agents()?;
        self.agent_names = agents.into_iter().map(|agent| (agent.agent_id(), agent.name)).collect();
        Ok(())
    }

    /// Forgets a pairing of which nothing was filed. Its key is bound to nothing, so the next
    /// request uses it: the fingerprint that `init` printed stays true through a typing error.
    async fn give_up_unmet(&mut self, number: PairingNumber) -> Result<(), Trouble> {
        let Some(slot) = self.slots.remove(&number) else { return Ok(()) };
        let key = slot.stage().keys().first().map(|key| (*key).clone());
        off(&self.means, move |means| {
            means.memory.remove_pairing(number)?;
            match (key, means.memory.prepared_key()?) {
                (Some(key), None) => Ok(means.memory.set_prepared_key(&key)?),
                (Some(key), Some(_)) => means.keys.forget(&key),
                (None, _) => Ok(()),
            }
        })
        .await
    }

    /// Forgets a pairing at this side: its row first, so that no row ever names a key that is gone.
    async fn drop_slot(&mut self, number: PairingNumber) -> Result<(), Trouble> {
        let Some(slot) = self.slots.remove(&number) else { return Ok(()) };
        let keys: Vec<_> = slot.stage().keys().into_iter().cloned().collect();
        off(&self.means, move |means| {
            means.memory.remove_pairing(number)?;
            keys.iter().try_for_each(|key| means.keys.forget(key))
        })
        .await
    }
}

/// Whether a pairing may still change by itself or by the target's decision.
fn is_open(stage: &Stage) -> bool {
    !matches!(
        stage,
        Stage::Unpaired
            | Stage::Rejected(_)
            | Stage::Refused(_)
            | Stage::Expired(_)
            | Stage::Withdrawn
            | Stage::Ended(_)
    )
}
