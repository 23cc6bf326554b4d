//! The driver of `exchange::pairing::target`: keeps what a step leads to, and does what it asks.
//!
//! One step is one transaction: the row, everything derived from it (placement, system, tenant,
//! names), and its audit entries. Only then is anything else done: certificates ordered,
//! connections closed, the call answered. A step that keeps nothing writes nothing.
//!
//! **Absent:** which input a call means (`submit`, `accept`, `routes`), signatures (`issue`).

use offsite_exchange::pairing::target::{
    Audit, Effect, EndedBy, Input, Order, Reply, Stage, Step as Turned,
};
use offsite_exchange::pairing::{IllegalMove, Moment, PublicKey};
use offsite_model::{CoreId, Luck};
use offsite_proto::error::{ErrorCode, Refusal};

use crate::Target;
use crate::audit::Event;
use crate::deed::Deed;
use crate::failure::Failure;
use crate::peers::Step;
use crate::peers::tables::{LapsedRow, PeerRow, Placement, Role, SystemRow, thumbprint_of};
use crate::principal::Principal;
use crate::{storage_list, tenants};

/// What is left to do once a step is kept.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    reply: Option<Result<Reply, Refusal>>,
    orders: Vec<Order>,
    closes: Vec<PublicKey>,
    withdrawn: Vec<PublicKey>,
}

impl Outcome {
    /// Takes out the keys whose connections are to end, for whoever has an answer to send first.
    pub(crate) fn take_closes(&mut self) -> Vec<PublicKey> {
        std::mem::take(&mut self.closes)
    }
}

impl Target {
    /// A moment for the machine.
    pub(crate) fn moment(&self) -> Moment {
        let luck = u16::try_from(self.world().luck.below(1 << 16)).unwrap_or_default();
        Moment { now: self.now(), luck }
    }

    /// A deed of this principal, now.
    pub(crate) fn deed<'a>(&'a self, by: &'a Principal) -> Deed<'a> {
        Deed { by, at: self.now(), luck: &*self.world().luck }
    }

    /// Steps a row with one input, keeps what comes of it, and does the rest.
    ///
    /// `find` finds the row and makes the input, inside the transaction.
    ///
    /// # Errors
    /// What `find` says, what the machine replies, or `internal`.
    pub(crate) fn advance(
        &self,
        by: &Principal,
        find: impl FnOnce(&mut Step<'_>) -> Result<(PeerRow, Input), Failure>,
    ) -> Result<Reply, Refusal> {
        self.advance_with(by, |step| {
            let (row, input) = find(step)?;
            self.stepped(row, input)
        })
    }

    /// As [`Target::advance`], for a step that is made by `turn`.
    ///
    /// # Errors
    /// As [`Target::advance`].
    pub(crate) fn advance_with(
        &self,
        by: &Principal,
        turn: impl FnOnce(&mut Step<'_>) -> Result<(PeerRow, Turned), Failure>,
    ) -> Result<Reply, Refusal> {
        let outcome = self.turn(by, turn)?;
        self.carry_out(outcome)
    }

    /// Keeps what a step leads to and leaves the rest to [`Target::carry_out`].
    ///
    /// # Errors
    /// What `turn` says, or the catalog.
    pub(crate) fn turn(
        &self,
        by: &Principal,
        turn: impl FnOnce(&mut Step<'_>) -> Result<(PeerRow, Turned), Failure>,
    ) -> Result<Outcome, Failure> {
        self.register().step(|step| {
            let (row, turned) = turn(step)?;
            self.keep(step, by, row, turned)
        })
    }

    /// Steps a row with one input, inside a transaction.
    ///
    /// # Errors
    /// `internal` where the driver told the machine something that cannot have happened.
    pub(crate) fn stepped(&self, row: PeerRow, input: Input) -> Result<(PeerRow, Turned), Failure> {
        let turned = row.machine.step(input, self.moment(), &self.settings().rules());
        Ok((row, turned.map_err(illegal)?))
    }

    /// Keeps what a step leads to, inside the transaction.
    pub(crate) fn keep(
        &self,
        step: &mut Step<'_>,
        by: &Principal,
        mut row: PeerRow,
        turned: Turned,
    ) -> Result<Outcome, Failure> {
        let mut outcome = Outcome::default();
        let before = row.clone();
        row.machine = turned.row;
        for effect in turned.effects {
            match effect {
                Effect::Persist(entries) => {
                    self.derive(step, by, &before, &mut row, &entries)?;
                    for entry in &entries {
                        self.record(step, by, &row, entry)?;
                    }
                    self.put(step, &row, &mut outcome)?;
                }
                Effect::Issue(order) => outcome.orders.push(order),
                Effect::Close(key) => outcome.closes.push(key),
                Effect::Reply(reply) => outcome.reply = Some(reply),
                // The housekeeping finds by itself what is due.
                Effect::WakeAfter(_) => {}
            }
        }
        Ok(outcome)
    }

    fn put(
        &self,
        step: &mut Step<'_>,
        row: &PeerRow,
        outcome: &mut Outcome,
    ) -> Result<(), Failure> {
        match row.machine.stage() {
            // What strangers can make and take back must leave nothing behind, or they could fill
            // the disk.
            Stage::Withdrawn(_) => {
                outcome.withdrawn.push(row.machine.key().clone());
                step.remove_peer(row)?;
            }
            Stage::Expired(pending) => {
                step.remove_peer(row)?;
                let lapsed = LapsedRow { request: pending.request.into(), at: self.now().into() };
                step.put_lapsed(row.number, &lapsed)?;
            }
            _ => step.put_peer(row)?,
        }
        Ok(())
    }

    /// What follows from a new stage: tenant and system at an acceptance, a new generation where
    /// rights changed.
    fn derive(
        &self,
        step: &mut Step<'_>,
        by: &Principal,
        before: &PeerRow,
        row: &mut PeerRow,
        entries: &[Audit],
    ) -> Result<(), Failure> {
        if before.machine.stage().name() != row.machine.stage().name() {
            row.generation = row.generation.saturating_add(1);
        }
        if !entries.iter().any(|entry| matches!(entry, Audit::Accepted { .. })) {
            return Ok(());
        }
        let Stage::AwaitIssued(waiting) = row.machine.stage() else {
            return Err(broken("an acceptance ordered no certificate"));
        };
        let grants = &waiting.acceptance.grants;
        let subject = waiting.order.subject;
        let storage = storage_list::find(step.rows(), grants.storage)?;
        let earlier = row.place.as_ref().filter(|place| place.has_own_tenant);
        let (tenant, has_own_tenant) = match (grants.tenant, earlier) {
            (Some(tenant), _) => (offsite_model::TenantId::from_bytes(tenant), false),
            (None, Some(place)) => (place.tenant.0, true),
            (None, None) => {
                let deed = self.deed(by);
                let name = &row.asked().host_name;
                (tenants::add_for_source(step.rows(), &deed, name)?.id, true)
            }
        };
        let sid = self.system(step, row)?;
        row.place = Some(Placement {
            subject: subject.into(),
            tenant: tenant.into(),
            has_own_tenant,
            sid,
            storage: storage.number.into(),
            repository: storage.repository.into(),
        });
        Ok(())
    }

    /// The system of an accepted source: the one it already is, or a new one.
    fn system(&self, step: &mut Step<'_>, row: &PeerRow) -> Result<i64, Failure> {
        let core = row.asked().core_id;
        if let Some(place) = &row.place {
            return Ok(place.sid);
        }
        let managed = self.managed_system(step, core)?;
        let (sid, role) = match managed {
            Some(system) => (system.sid, Role::ReplicatingSource),
            None => (step.next_sid()?, Role::NonManagedSource),
        };
        let name = row.asked().host_name.clone();
        let system = SystemRow { sid, core: core.into(), name, role, peer: Some(row.number) };
        step.put_system(&system)?;
        Ok(sid)
    }

    /// The system that this target manages otherwise and that has this core id.
    fn managed_system(
        &self,
        step: &mut Step<'_>,
        core: CoreId,
    ) -> Result<Option<SystemRow>, Failure> {
        Ok(step.systems()?.into_iter().find(|system| {
            system.core.0 == core && system.role == Role::Managed && system.peer.is_none()
        }))
    }

    fn record(
        &self,
        step: &mut Step<'_>,
        by: &Principal,
        row: &PeerRow,
        entry: &Audit,
    ) -> Result<(), Failure> {
        let (event, mut facts) = told(entry);
        facts.push(("number", row.number.to_string()));
        facts.push(("request", row.pending().request.to_string()));
        facts.push(("name", row.asked().host_name.clone()));
        facts.push(("address", row.arrival.address.clone()));
        if let Some(place) = &row.place {
            facts.push(("source", place.subject.0.to_string()));
        }
        let tenant = row.place.as_ref().map(|place| place.tenant.0);
        let tenant = tenant.or(row.arrival.tenant.map(|tenant| tenant.0));
        self.deed(by).record(step.rows(), event, tenant, &facts)?;
        Ok(())
    }

    /// Does what is left once a step is kept.
    ///
    /// # Errors
    /// What the machine replies.
    pub(crate) fn carry_out(&self, outcome: Outcome) -> Result<Reply, Refusal> {
        for key in &outcome.withdrawn {
            self.register().remember_withdrawn(thumbprint_of(key));
        }
        for key in &outcome.closes {
            self.register().close(&thumbprint_of(key));
        }
        if !outcome.orders.is_empty() {
            self.order(outcome.orders);
        }
        outcome.reply.unwrap_or(Ok(Reply::Done))
    }
}

/// How the audit log tells what happened.
fn told(entry: &Audit) -> (Event, Vec<(&'static str, String)>) {
    match entry {
        Audit::Filed => (Event::RequestSubmitted, Vec::new()),
        Audit::Changed { is_approval_void } => (
            Event::RequestSubmitted,
            vec![("changed", true.to_string()), ("approval_void", is_approval_void.to_string())],
        ),
        Audit::Unlocked => (Event::RequestSubmitted, vec![("unlocked", true.to_string())]),
        Audit::WrongCode { is_locked, .. } => (
            Event::CheckCodeEntered,
            vec![("right", false.to_string()), ("locked", is_locked.to_string())],
        ),
        Audit::Accepted { with_code, .. } => {
            (Event::RequestAccepted, vec![("check_code_compared", with_code.to_string())])
        }
        Audit::Rejected { .. } => (Event::RequestRejected, Vec::new()),
        Audit::Expired => (Event::RequestExpired, Vec::new()),
        Audit::Withdrawn => (Event::RequestWithdrawn, Vec::new()),
        Audit::Published => (Event::CertificateIssued, Vec::new()),
        Audit::IssueFailed { reason } => (Event::Refused, vec![("issue_failed", reason.clone())]),
        Audit::Active => (Event::CertificateFirstUsed, Vec::new()),
        Audit::RenewalAsked => (Event::RequestSubmitted, vec![("renewal", true.to_string())]),
        Audit::RenewalGranted => (Event::CertificateRenewed, Vec::new()),
        Audit::KeyRetired { is_new_key_used: true } => {
            (Event::CertificateFirstUsed, vec![("renewed", true.to_string())])
        }
        Audit::KeyRetired { is_new_key_used: false } => {
            (Event::CertificateRenewed, vec![("overlap_over", true.to_string())])
        }
        Audit::Ended(EndedBy::Source { delete_points }) => {
            (Event::SourceUnpaired, vec![("delete_points", delete_points.to_string())])
        }
        Audit::Ended(EndedBy::Operator(_)) => (Event::SourceRevoked, Vec::new()),
        Audit::RestoreAllowed { is_allowed: true, .. } => (Event::RestoreAllowed, Vec::new()),
        Audit::RestoreAllowed { is_allowed: false, .. } => (Event::RestoreDenied, Vec::new()),
    }
}

pub(crate) fn illegal(cause: IllegalMove) -> Failure {
    tracing::error!(%cause, "the register drove a pairing into a move that does not exist");
    broken("the target failed; its log says more")
}

fn broken(sentence: &str) -> Failure {
    Failure::refused(ErrorCode::Internal, sentence)
}

/// Sixteen random bytes for a serial number, in the form that the authority writes: positive, and
/// 16 bytes long.
pub(crate) fn draw_serial(luck: &dyn Luck) -> [u8; 16] {
    let mut serial = [0; 16];
    luck.fill(&mut serial);
    if let Some(first) = serial.first_mut() {
        *first = (*first & 0x3f) | 0x40;
    }
    serial
}

/// The reply of a step that asks for nothing else to be done; none where something must be kept.
pub(crate) fn only_reply(turned: Turned) -> Option<Result<Reply, Refusal>> {
    let mut told = None;
    for effect in turned.effects {
        match effect {
            Effect::Reply(reply) => told = Some(reply),
            Effect::WakeAfter(_) => {}
            Effect::Persist(_) | Effect::Issue(_) | Effect::Close(_) => return None,
        }
    }
    told
}
