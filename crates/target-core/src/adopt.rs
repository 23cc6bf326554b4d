//! Adoption: a source that lost its key comes back under a new one.
//!
//! A core id is a claim that anybody can make, so a new key that claims to be a source is a new
//! source and gets nothing of the old one. Only when two persons agree does the request's key take
//! the old pairing's place: the old key is revoked, and the request is accepted under the same id,
//! tenant, storage, system and grants, all in one transaction.
//!
//! **Absent:** the agreement itself (`approvals`).

use offsite_exchange::pairing::AgentDecision;
use offsite_exchange::pairing::target::{
    Acceptance, Decision, Grants, Input, Stage, TypedCode, Verdict,
};
use offsite_model::{CoreId, RequestId};
use offsite_proto::error::ErrorCode;
use offsite_store::catalog::{Rows, TypedRows};

use crate::Target;
use crate::approvals::Seen;
use crate::audit::Event;
use crate::drive::{Outcome, draw_serial};
use crate::failure::Failure;
use crate::peers::Step;
use crate::peers::tables::{Number, PEERS, PeerRow, Placement, REQUESTS, SUBJECTS};
use crate::principal::Principal;

/// Who was, and who wants to be.
struct Pair {
    old: PeerRow,
    new: PeerRow,
    place: Placement,
    acceptance: Acceptance,
}

fn peer<R: Rows + ?Sized>(
    rows: &R,
    table: offsite_store::catalog::Table,
    id: [u8; 16],
) -> Result<Option<PeerRow>, Failure> {
    let Some(number) = rows.value::<Number>(table, &id)? else { return Ok(None) };
    Ok(rows.value(PEERS, &number.0.to_be_bytes())?)
}

/// Finds both, and that the one claims to be the other.
fn find<R: Rows + ?Sized>(rows: &R, source: CoreId, request: RequestId) -> Result<Pair, Failure> {
    let no_source = || Failure::refused(ErrorCode::SystemUnknown, "no such source");
    let old = peer(rows, SUBJECTS, source.to_bytes())?.ok_or_else(no_source)?;
    let place = old.place.clone().ok_or_else(no_source)?;
    let acceptance = match old.machine.stage() {
        Stage::AwaitIssued(waiting) => waiting.acceptance.clone(),
        Stage::AwaitFirstUse(paired) | Stage::Active(paired) => paired.acceptance.clone(),
        Stage::Ended(ended) => ended.acceptance.clone(),
        Stage::Pending(_) | Stage::Rejected(_) | Stage::Expired(_) | Stage::Withdrawn(_) => {
            return Err(no_source());
        }
    };
    let new = peer(rows, REQUESTS, request.to_bytes())?;
    let new =
        new.ok_or_else(|| Failure::refused(ErrorCode::RequestUnknown, "no such pairing request"))?;
    if !matches!(new.machine.stage(), Stage::Pending(_)) {
        return Err(Failure::refused(
            ErrorCode::AlreadyResolved,
            "the request of the new key is decided already",
        ));
    }
    if new.asked().core_id != old.asked().core_id {
        return Err(Failure::refused(
            ErrorCode::WrongState,
            "the request does not claim to be that source",
        ));
    }
    Ok(Pair { old, new, place, acceptance })
}

/// What an adoption would do, for the two persons who decide about it.
///
/// # Errors
/// `system_unknown`, `request_unknown`, or why it cannot be done.
pub(crate) fn describe<R: Rows + ?Sized>(
    rows: &R,
    source: CoreId,
    request: RequestId,
) -> Result<Seen, Failure> {
    let pair = find(rows, source, request)?;
    let hex = |bytes: [u8; 32]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let fact = |name: &str, value: String| (name.to_owned(), value);
    let mut seen = vec![
        fact("source", source.to_string()),
        fact("name", format!("{} → {}", pair.old.asked().host_name, pair.new.asked().host_name)),
        fact("key_revoked", hex(pair.old.thumbprint())),
        fact("key_adopted", hex(pair.new.thumbprint())),
        fact("tenant", pair.place.tenant.0.to_string()),
        fact("stage", pair.old.machine.stage().name().to_owned()),
    ];
    for agent in granted(&pair) {
        let word = if agent.is_accepted { "agent_kept" } else { "agent_denied" };
        seen.push(fact(word, agent.id.to_string()));
    }
    Ok(seen)
}

/// Agents that the old pairing had stay; what the new request adds is no part of an adoption.
fn granted(pair: &Pair) -> Vec<AgentDecision> {
    let had = |id| {
        let agents = &pair.acceptance.grants.agents;
        agents.iter().any(|agent| agent.id == id && agent.is_accepted)
    };
    let asked = &pair.new.asked().wish.agents;
    asked.iter().map(|agent| AgentDecision { id: agent.id, is_accepted: had(agent.id) }).collect()
}

impl Target {
    /// Does what [`describe`] says, inside the transaction of the second person's answer.
    ///
    /// # Errors
    /// As [`describe`]; then nothing has changed.
    pub(crate) fn adopt(
        &self,
        step: &mut Step<'_>,
        by: &Principal,
        source: CoreId,
        request: RequestId,
    ) -> Result<Vec<Outcome>, Failure> {
        let pair = find(step.rows(), source, request)?;
        let mut outcomes = Vec::new();
        let agents = granted(&pair);
        let Pair { old, mut new, place, acceptance } = pair;
        let retired = if matches!(old.machine.stage(), Stage::Ended(_)) {
            old
        } else {
            let number = old.number;
            let (row, turned) = self.stepped(old, Input::Revoke { by: by.to_string() })?;
            outcomes.push(self.keep(step, by, row, turned)?);
            let row = step.peer(number)?;
            row.ok_or_else(|| Failure::refused(ErrorCode::SystemUnknown, "no such source"))?
        };
        // The id leads to the new row from now on; forgetting the old one must not take it away.
        step.put_peer(&PeerRow { place: None, ..retired })?;
        let verdict = Verdict::Accept {
            code: TypedCode::None,
            grants: Grants { tenant: Some(place.tenant.0.to_bytes()), agents, ..acceptance.grants },
            message: None,
            subject: source,
            serial: draw_serial(&*self.world().luck),
        };
        let decision = Decision {
            request,
            by: by.to_string(),
            target_key: self.public_key(),
            seen: None,
            policy: self.settings().policy_digest(),
            verdict,
        };
        let (sid, number) = (place.sid, new.number);
        let facts = [("source", source.to_string()), ("request", request.to_string())];
        let tenant = place.tenant.0;
        new.place = Some(place);
        let (row, turned) = self.stepped(new, Input::Decide(decision))?;
        outcomes.push(self.keep(step, by, row, turned)?);
        // A machine answers a refusal instead of failing: a locked or lapsed request is not
        // adopted.
        let is_accepted = matches!(
            step.peer(number)?.as_ref().map(|row| row.machine.stage()),
            Some(Stage::AwaitIssued(_))
        );
        if !is_accepted {
            return Err(Failure::refused(
                ErrorCode::WrongState,
                "the request of the new key cannot be accepted as it stands",
            ));
        }
        if let Some(mut system) = step.system(sid)? {
            system.peer = Some(number);
            step.put_system(&system)?;
        }
        self.deed(by).record(step.rows(), Event::IdentityAdopted, Some(tenant), &facts)?;
        Ok(outcomes)
    }
}
