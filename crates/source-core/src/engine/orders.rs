//! What operators order about pairings, and how they get their answers.

use offsite_exchange::pairing::source::{Failure, Input, Order as Move, Stage};
use offsite_exchange::pairing::{EnrolmentCode, Wish, WishedAgent};
use offsite_model::AgentId;
use offsite_proto::admin::source::{EndPairing, Pairing, RequestPairing, ResetDone};
use offsite_proto::error::ErrorCode;
use offsite_proto::limits::{NAME_BYTES_MAX, REQUEST_AGENTS_MAX};

use super::{Engine, is_open};
use crate::address;
use crate::agents;
use crate::choose::choose;
use crate::error::{Blame, Trouble};
use crate::event::{Order, PairingNumber, ReplyTo};
use crate::line::Outcome;
use crate::memory::{AgentRow, PairingRow};
use crate::pairing::{Fault, Slot, off, unpaired};
use crate::view::refusal_hint;

/// Bytes of a comment.
const COMMENT_BYTES_MAX: usize = 1 << 10;

impl Engine {
    pub(super) async fn obey_order(&mut self, order: Order) -> Result<(), Trouble> {
        match order {
            Order::Request(request, reply) => self.request(request, reply).await,
            Order::Withdraw(target, reply) => {
                self.direct(target.as_deref(), Move::Withdraw, "withdraw", true, reply).await
            }
            Order::Renew(target, reply) => {
                self.direct(target.as_deref(), Move::Renew, "renew", false, reply).await
            }
            Order::Retry(target, reply) => {
                self.direct(target.as_deref(), Move::Resume, "retry", false, reply).await
            }
            Order::End(EndPairing { target, delete_recovery_points }, reply) => {
                let leave = Move::Unpair { delete_points: delete_recovery_points };
                self.direct(Some(&target), leave, "end", true, reply).await
            }
            Order::Reset(target, reply) => self.reset(target.as_deref(), reply).await,
        }
    }

    /// Files a request, or changes one that is not decided. The answer comes with the target's.
    async fn request(
        &mut self,
        request: RequestPairing,
        reply: ReplyTo<Pairing>,
    ) -> Result<(), Trouble> {
        let (target, agents) = match self.read_request(&request).await {
            Ok(read) => read,
            Err(trouble) => return self.answer_or_end(reply, trouble),
        };
        let ids: Vec<_> = agents.iter().map(AgentRow::agent_id).collect();
        self.agent_names.extend(agents.iter().map(|agent| (agent.agent_id(), agent.name.clone())));
        let number = match self.place_for(&target, &ids).await {
            Ok(number) => number,
            Err(trouble) => return self.answer_or_end(reply, trouble),
        };
        let Some(slot) = self.slots.get_mut(&number) else {
            return self
                .answer(reply, Err(Trouble::us("a pairing vanished while it was asked for")));
        };
        let order = Move::Request { target, wish: wish(request, &agents) };
        let (earlier, agents_before) = (slot.asker.replace(reply), slot.row.agents());
        slot.failure = None;
        // Kept together with the machine, by the first effect of its step.
        slot.row.set_agents(&ids);
        let driven = slot.drive(&self.means, &mut self.tasks, Input::Operator(order)).await;
        match driven {
            Ok(()) => earlier.map_or(Ok(()), |earlier| self.answer(earlier, Err(superseded()))),
            Err(fault) => {
                slot.row.set_agents(&agents_before);
                let asker = std::mem::replace(&mut slot.asker, earlier);
                let trouble = self.end_or_explain(number, "request", fault)?;
                asker.map_or(Ok(()), |reply| self.answer(reply, Err(trouble)))
            }
        }
    }

    async fn read_request(
        &self,
        request: &RequestPairing,
    ) -> Result<(String, Vec<AgentRow>), Trouble> {
        let target = address::read(&request.url)?;
        check_words(request)?;
        let names = request.agents.clone();
        let found = off(&self.means, move |means| {
            names
                .iter()
                .map(|name| agents::find(&means.memory, name))
                .collect::<Result<Vec<_>, _>>()
        });
        let mut agents = found.await?;
        agents.sort_by_key(AgentRow::agent_id);
        agents.dedup_by_key(|agent| agent.agent_id());
        Ok((target, agents))
    }

    /// The pairing that a request to this target goes to: one that is being asked for already, or a
    /// new one. One that has ended makes room.
    async fn place_for(
        &mut self,
        target: &str,
        agents: &[AgentId],
    ) -> Result<PairingNumber, Trouble> {
        let known: Vec<_> = self
            .slots
            .values()
            .filter(|slot| slot.row.target == target)
            .map(|slot| (slot.number, is_open(slot.stage())))
            .collect();
        for (number, is_open) in known {
            if !is_open {
                self.drop_slot(number).await?;
                continue;
            }
            return match self.slots.get(&number).map(Slot::stage) {
                Some(Stage::Alarmed(_) | Stage::AwaitForgotten(_)) => Err(Trouble::operator(
                    ErrorCode::WrongState,
                    format!("the earlier pairing with {target} is not settled"),
                    format!("see offsite-source pair status --target {target}"),
                )),
                Some(
                    Stage::Active(_)
                    | Stage::AwaitFirstSync(_)
                    | Stage::AwaitArtifacts(_)
                    | Stage::AwaitInstalled(_),
                ) => Err(Trouble::operator(
                    ErrorCode::AlreadyExists,
                    format!("this source is paired with {target} already"),
                    format!("see offsite-source pair status --target {target}"),
                )),
                _ => Ok(number),
            };
        }
        if self.slots.len() >= crate::memory::PAIRINGS_MAX {
            return Err(Trouble::operator(
                ErrorCode::TooLarge,
                "there are too many pairings",
                "forget ended ones with: offsite-source pair reset --target TARGET",
            ));
        }
        let number = PairingNumber(self.next_number);
        self.next_number = self.next_number.saturating_add(1);
        let now = self.means.clock.now();
        let row = PairingRow::new(unpaired(), target.to_owned(), agents, now);
        self.slots.insert(number, Slot::new(number, row));
        Ok(number)
    }

    /// Hands an operator's move to the pairing he means.
    async fn direct(
        &mut self,
        target: Option<&str>,
        order: Move,
        word: &'static str,
        does_wait: bool,
        reply: ReplyTo<Pairing>,
    ) -> Result<(), Trouble> {
        let number = match self.find(target) {
            Ok(number) => number,
            Err(trouble) => return self.answer(reply, Err(trouble)),
        };
        let Some(slot) = self.slots.get_mut(&number) else { return Ok(()) };
        slot.failure = None;
        match slot.drive(&self.means, &mut self.tasks, Input::Operator(order)).await {
            Ok(()) if does_wait => match slot.asker.replace(reply) {
                Some(earlier) => self.answer(earlier, Err(superseded())),
                None => Ok(()),
            },
            Ok(()) => match self.slots.get(&number) {
                Some(slot) => self.answer(reply, Ok(self.view_of(slot))),
                None => Ok(()),
            },
            Err(fault) => {
                let trouble = self.end_or_explain(number, word, fault)?;
                self.answer(reply, Err(trouble))
            }
        }
    }

    /// Forgets a pairing at this side only, and says what that gives up.
    async fn reset(
        &mut self,
        target: Option<&str>,
        reply: ReplyTo<ResetDone>,
    ) -> Result<(), Trouble> {
        let number = match self.find(target) {
            Ok(number) => number,
            Err(trouble) => return self.answer(reply, Err(trouble)),
        };
        let Some(slot) = self.slots.get(&number) else { return Ok(()) };
        let instead = match slot.stage() {
            Stage::Active(active) if !active.is_key_refused => Some("unpair"),
            Stage::AwaitFirstSync(_) | Stage::AwaitArtifacts(_) | Stage::AwaitInstalled(_) => {
                Some("unpair")
            }
            Stage::AwaitDecision(_) | Stage::AwaitSubmitted(_) => Some("pair withdraw --target"),
            _ => None,
        };
        if let Some(instead) = instead {
            let target = &slot.row.target;
            let trouble = Trouble::operator(
                ErrorCode::WrongState,
                format!(
                    "nothing is wrong with the pairing with {target}; a reset would leave it \
                        behind there"
                ),
                format!("end it on both sides with: offsite-source {instead} {target}"),
            );
            return self.answer(reply, Err(trouble));
        }
        let given_up = given_up(slot.stage(), &slot.row.target);
        self.drop_slot(number).await?;
        let pairing =
            self.slots.values().next_back().map_or_else(Pairing::none, |slot| self.view_of(slot));
        self.answer(reply, Ok(ResetDone { pairing, given_up }))
    }

    fn find(&self, target: Option<&str>) -> Result<PairingNumber, Trouble> {
        let index = match target {
            Some(target) => {
                let views: Vec<_> = self.slots.values().map(|slot| self.view_of(slot)).collect();
                Some(choose(target, &views)?)
            }
            None => self.slots.len().checked_sub(1),
        };
        index.and_then(|index| self.slots.keys().nth(index).copied()).ok_or_else(|| {
            Trouble::operator(
                ErrorCode::SystemUnknown,
                "there is no pairing",
                "see offsite-source status",
            )
        })
    }

    /// Whoever waits for an outcome that is there gets it.
    pub(super) async fn answer_asker(&mut self, number: PairingNumber) -> Result<(), Trouble> {
        let Some(slot) = self.slots.get_mut(&number) else { return Ok(()) };
        if slot.asker.is_none() {
            return Ok(());
        }
        let target = slot.row.target.clone();
        let refused = match slot.stage() {
            Stage::Refused(refused) => Some(Trouble::peer(
                refused.code,
                format!("{target} refused the request: {}", refused.message),
                refusal_hint(refused.code),
            )),
            Stage::Alarmed(_) => {
                let view = slot.view(&[]);
                let message = view.message.unwrap_or_default();
                Some(Trouble::peer(
                    ErrorCode::TargetChanged,
                    message,
                    view.next.unwrap_or_default(),
                ))
            }
            Stage::AwaitKey(_) | Stage::AwaitMeeting(_) => {
                slot.failure.as_ref().map(|outcome| not_met(outcome, &target))
            }
            _ => None,
        };
        // Whoever was refused or met nobody has filed nothing, so nothing is left behind by giving
        // up. A key that the target says it knows already is not used again.
        let gives_up = match slot.stage() {
            Stage::AwaitKey(_) | Stage::AwaitMeeting(_) => true,
            Stage::Refused(refused) => refused.code != ErrorCode::AlreadyExists,
            _ => false,
        };
        let is_settled = slot.failure.is_some()
            || !matches!(
                slot.stage(),
                Stage::AwaitKey(_)
                    | Stage::AwaitMeeting(_)
                    | Stage::AwaitSubmitted(_)
                    | Stage::AwaitForgotten(_)
            );
        if refused.is_none() && !is_settled {
            return Ok(());
        }
        let Some(reply) = slot.asker.take() else { return Ok(()) };
        slot.failure = None;
        match refused {
            Some(trouble) => {
                if gives_up {
                    self.give_up_unmet(number).await?;
                }
                self.answer(reply, Err(trouble))
            }
            None => match self.slots.get(&number) {
                Some(slot) => self.answer(reply, Ok(self.view_of(slot))),
                None => Ok(()),
            },
        }
    }

    /// Keeps an answer until the views show what it tells of; whoever asked may have gone, which
    /// changes nothing.
    fn answer<T: Send + Sync + 'static>(
        &mut self,
        reply: ReplyTo<T>,
        result: Result<T, Trouble>,
    ) -> Result<(), Trouble> {
        self.answers.push(Box::new(move || drop(reply.send(result))));
        Ok(())
    }

    /// Tells an operator about his mistake; a failing disk is told and ends the engine too.
    fn answer_or_end<T: Send + Sync + 'static>(
        &mut self,
        reply: ReplyTo<T>,
        trouble: Trouble,
    ) -> Result<(), Trouble> {
        if trouble.blame == Blame::Disk {
            drop(reply.send(Err(trouble.clone())));
            return Err(trouble);
        }
        self.answer(reply, Err(trouble))
    }

    /// A move that the stage does not know, in words; what is final is handed on.
    fn end_or_explain(
        &self,
        number: PairingNumber,
        word: &str,
        fault: Fault,
    ) -> Result<Trouble, Trouble> {
        match fault {
            Fault::Final(trouble) => Err(trouble),
            Fault::Illegal(_) => {
                let slot = self.slots.get(&number);
                let state =
                    slot.map_or("unpaired", |slot| crate::view::state(slot.stage()).as_str());
                Ok(Trouble::operator(
                    ErrorCode::WrongState,
                    format!("cannot {word} a pairing that is {state}"),
                    "see offsite-source pair status",
                ))
            }
        }
    }
}

/// For whoever waited for an order that a later one took the place of.
fn superseded() -> Trouble {
    Trouble::operator(
        ErrorCode::WrongState,
        "a later order took the place of this one",
        "see offsite-source pair status",
    )
}

fn check_words(request: &RequestPairing) -> Result<(), Trouble> {
    if request.agents.is_empty() || request.agents.len() > REQUEST_AGENTS_MAX {
        return Err(Trouble::operator(
            ErrorCode::BadRequest,
            format!(
                "a request names 1 to {REQUEST_AGENTS_MAX} agents, not {}",
                request.agents.len()
            ),
            "name each with --agent NAME",
        ));
    }
    let code = request.enrolment_code.as_deref().unwrap_or_default();
    for (what, text, bytes_max) in [
        ("customer number", request.customer_id.as_str(), NAME_BYTES_MAX),
        ("e-mail address", &request.email, NAME_BYTES_MAX),
        ("comment", &request.comment, COMMENT_BYTES_MAX),
        ("enrolment code", code, NAME_BYTES_MAX),
    ] {
        if text.len() > bytes_max || text.chars().any(char::is_control) {
            return Err(Trouble::operator(
                ErrorCode::BadRequest,
                format!("the {what} is longer than {bytes_max} bytes or holds a control character"),
                "shorten it to one plain line",
            ));
        }
    }
    Ok(())
}

fn wish(request: RequestPairing, agents: &[AgentRow]) -> Wish {
    let agents = agents.iter().map(|agent| WishedAgent {
        id: agent.agent_id(),
        display_name: agent.name.clone(),
        host_name: String::new(),
        logical_bytes: agent.logical_bytes(),
    });
    Wish {
        agents: agents.collect(),
        customer_id: request.customer_id,
        email_address: request.email,
        comments: request.comment,
        use_seed_drive: false,
        enrolment_code: request.enrolment_code.map(EnrolmentCode),
    }
}

/// Why the first meeting failed, for the person who asked for it.
fn not_met(outcome: &Outcome, target: &str) -> Trouble {
    let hint = |otherwise: &str| match outcome.hint.as_str() {
        "" => otherwise.to_owned(),
        hint => hint.to_owned(),
    };
    match &outcome.result {
        Ok(_) => Trouble::us("an answer was taken for a failure"),
        Err(Failure::Unreachable { reason }) => Trouble::peer(
            ErrorCode::TargetUnreachable,
            reason.clone(),
            hint("check the address and the network; offsite-source doctor URL looks at each step"),
        ),
        Err(Failure::Unreadable { reason }) => Trouble::peer(
            ErrorCode::NotATarget,
            reason.clone(),
            hint("check the address and the port; offsite-source doctor URL looks at each step"),
        ),
        Err(Failure::Refused { code, message, .. }) => {
            Trouble::peer(*code, format!("{target} refused: {message}"), hint(refusal_hint(*code)))
        }
        Err(Failure::TargetKeyChanged { .. }) => Trouble::peer(
            ErrorCode::TargetChanged,
            format!("{target} answered with two different keys"),
            hint("ask the target's operator whether several machines answer there"),
        ),
    }
}

fn given_up(stage: &Stage, target: &str) -> Vec<String> {
    match stage {
        Stage::Alarmed(alarmed) => given_up(&alarmed.before, target),
        Stage::Active(_)
        | Stage::AwaitFirstSync(_)
        | Stage::AwaitArtifacts(_)
        | Stage::AwaitInstalled(_) => vec![
            format!("the key and the certificate for {target}, and the memory of its key"),
            format!(
                "the way to the recovery points at {target}, until this source is paired with it \
                    anew"
            ),
            format!("{target} still counts this source as paired: ask its operator to revoke it"),
        ],
        Stage::AwaitSubmitted(_) | Stage::AwaitDecision(_) => vec![
            format!("the request at {target}: whatever its operator decides, nobody fetches it"),
            format!(
                "the memory of the key of {target}: the next request trusts whoever answers first"
            ),
        ],
        Stage::AwaitForgotten(_) => vec![format!(
            "telling {target} that the pairing has ended: ask its operator to revoke this source"
        )],
        _ => Vec::new(),
    }
}
