//! Rows 44, 45, 46 and P1 to P3: from the request to the certificate, and to the end.
//!
//! Polls are answered from the key alone. Whoever has no row, or asks for another's, goes the same
//! way to the same 404.

use std::sync::Arc;

use offsite_exchange::pairing::target::{Input, Issued, Reply as Told};
use offsite_exchange::pairing::{AgentDecision, PublicKey};
use offsite_model::{RequestId, Span};
use offsite_proto::error::{ErrorCode, Refusal};
use offsite_proto::json::{Json, Pem};
use offsite_proto::pairing::{
    AgentPairingState, AgentResolution, AgentSync, FetchCertificate, FetchTargetCertificate,
    PairingState, PairingStatus, PollResolution, Resolution, ResolutionAnswer, Submit, Submitted,
    Sync, Unpair,
};
use offsite_transport::{Call, Origin, PeerKey, Reply};

use super::removal::delete_all;
use crate::Target;
use crate::names::check_name;
use crate::peers::tables::{PeerRow, Placement, thumbprint_of};
use crate::principal::Principal;
use crate::replicas::Owner;
use crate::submit::{Submission, busy, network_of_origin, not_paired};
use crate::target::off_runtime;

/// What a source that goes has to read its last answer.
const FAREWELL: Span = Span::from_secs(1);

/// Row 44. The connection ends with the answer, so that the next one is judged anew.
pub(super) async fn submit(
    target: Arc<Target>,
    call: Call<Submit, Principal>,
) -> Result<Reply<Json<Submitted>>, Refusal> {
    let Call { principal, body: Json(body), from, .. } = call;
    let peer = key_of(&from)?.clone();
    let subject = Target::source_of(&principal);
    // Strangers together get a few threads; whoever is known does not wait behind them.
    let permit = match (&principal, subject) {
        (_, Some(_)) => None,
        _ => Some(target.strangers().try_acquire().map_err(|_| busy())?),
    };
    // A full table costs a flood of strangers no signature and no transaction of ours.
    if principal == Principal::Anon && body.enrolment_code.is_none() {
        target.budget(&network_of_origin(&from), false)?;
    }
    let worker = Arc::clone(&target);
    let told = off_runtime(move || {
        let submission = Submission::read(body, &from)?;
        match subject {
            Some(subject) => worker.renew(&principal, subject, &peer, &submission),
            None => worker.submit(&principal, &peer, &submission),
        }
    })
    .await;
    drop(permit);
    let Told::Submitted { request, expires_at, poll_after_secs } = told? else {
        return Err(unexpected());
    };
    let spki = target.identity().certificate.spki().as_der();
    let answer = Submitted {
        request_id: request.into(),
        slave_core_id: target.identity().core.into(),
        target_public_key: hex(spki),
        resolution_path: format!("/replicationcomms/slave/pairing/requests/{request}/resolution"),
        poll_after_seconds: poll_after_secs,
        expires_at: expires_at.into(),
    };
    Ok(Reply::new(Json(answer)).status(202).close())
}

/// Row 45.
pub(super) async fn sync(
    target: Arc<Target>,
    call: Call<Sync, Principal>,
) -> Result<Reply<Json<PairingStatus>>, Refusal> {
    let Call { principal, body: Json(body), from, .. } = call;
    check_name("the name of the source", &body.host_name)?;
    let peer = key_of(&from)?.clone();
    if let Some(subject) = Target::source_of(&principal) {
        target.register().saw(subject, target.now());
    }
    let worker = Arc::clone(&target);
    let asker = principal.clone();
    let (told, row) = off_runtime(move || {
        let key = PublicKey::from_der(peer.spki.as_der());
        let told = worker.ask(&asker, &peer, Input::Sync { key })?;
        let row = worker.register().of_key(peer.thumbprint.as_bytes())?;
        Ok((told, row))
    })
    .await?;
    let Told::Status { state, request, message } = told else { return Err(unexpected()) };
    let is_decided = matches!(state, PairingState::Accepted | PairingState::Active);
    let asked = row.as_ref().map(PeerRow::asked);
    let status = PairingStatus {
        pairing_state: state,
        request_id: request.map(Into::into),
        message,
        comments: asked.map(|asked| asked.wish.comments.clone()),
        customer_id: asked.map(|asked| asked.wish.customer_id.clone()),
        agents: row.as_ref().filter(|_| is_decided).map(agents_of).unwrap_or_default(),
        queue_actions: Vec::new(),
        slave_core_info: target.summary(matches!(principal, Principal::Source(_))),
        server_time: target.now().into(),
    };
    Ok(Json(status).into())
}

/// Row 46, again and again if need be.
pub(super) async fn unpair(
    target: Arc<Target>,
    call: Call<Unpair, Principal>,
) -> Result<Reply<()>, Refusal> {
    let Call { principal, params, from, .. } = call;
    let peer = key_of(&from)?.clone();
    if target.register().is_withdrawn(peer.thumbprint.as_bytes()) {
        return Ok(().into());
    }
    let worker = Arc::clone(&target);
    let closes = off_runtime(move || {
        if params.0
            && let Principal::Source(peer) = &principal
        {
            // First: what a lock forbids is refused while there is a pairing to say it to.
            let owner = Owner { tenant: peer.tenant(), source: peer.source() };
            delete_all(&worker, &principal, &owner)?;
        }
        let mut outcome = worker.turn(&principal, |step| {
            let row = step.peer_of_key(peer.thumbprint.as_bytes())?.ok_or_else(not_paired)?;
            let key = PublicKey::from_der(peer.spki.as_der());
            worker.stepped(row, Input::Leave { key, delete_points: params.0 })
        })?;
        let closes = outcome.take_closes();
        worker.carry_out(outcome)?;
        Ok(closes)
    })
    .await?;
    // The gate refuses these keys already; what is cut here is what they have under way now, once
    // this answer is out. What they open meanwhile is answered like any stranger's.
    let register = target.register();
    let noted: Vec<_> =
        closes.iter().filter_map(|key| register.farewell(&thumbprint_of(key))).collect();
    let cut = target.mutations().spawn(async move {
        tokio::time::sleep(FAREWELL.to_std()).await;
        noted.into_iter().for_each(|end| end());
    });
    drop(cut);
    Ok(Reply::new(()).close())
}

/// P1.
pub(super) async fn poll_resolution(
    target: Arc<Target>,
    call: Call<PollResolution, Principal>,
) -> Result<Reply<Json<ResolutionAnswer>>, Refusal> {
    let peer = key_of(&call.from)?.clone();
    let request = call.params.request;
    let worker = Arc::clone(&target);
    let (told, row) = off_runtime(move || {
        let key = PublicKey::from_der(peer.spki.as_der());
        let told = worker.ask(&call.principal, &peer, Input::Poll { key, request })?;
        Ok((told, worker.register().of_key(peer.thumbprint.as_bytes())?))
    })
    .await?;
    let place = row.and_then(|row| row.place);
    answered(request, told, place.as_ref())
}

fn answered(
    request: RequestId,
    told: Told,
    place: Option<&Placement>,
) -> Result<Reply<Json<ResolutionAnswer>>, Refusal> {
    let blank = ResolutionAnswer {
        request_id: request.into(),
        resolution: Resolution::Pending,
        message: None,
        resolved_at: None,
        agents: Vec::new(),
        certificate_sha256: None,
        target_certificate_sha256: None,
    };
    match told {
        Told::Pending { retry_after_secs } => {
            Ok(Reply::new(Json(blank)).status(202).retry_after(retry_after_secs))
        }
        Told::Accepted {
            message,
            resolved_at,
            agents,
            certificate_sha256,
            target_certificate_sha256,
        } => Ok(Reply::new(Json(ResolutionAnswer {
            resolution: Resolution::Accepted,
            message,
            resolved_at: Some(resolved_at.into()),
            agents: agents.iter().map(|agent| resolved(agent, place)).collect(),
            certificate_sha256: Some(hex(&certificate_sha256)),
            target_certificate_sha256: Some(hex(&target_certificate_sha256)),
            ..blank
        }))),
        Told::Rejected { message, resolved_at } => Ok(Reply::new(Json(ResolutionAnswer {
            resolution: Resolution::Rejected,
            message: Some(message),
            resolved_at: Some(resolved_at.into()),
            ..blank
        }))),
        _ => Err(unexpected()),
    }
}

/// P2.
pub(super) async fn fetch_certificate(
    target: Arc<Target>,
    call: Call<FetchCertificate, Principal>,
) -> Result<Reply<Pem>, Refusal> {
    let issued = fetch(target, &call.principal, &call.from, call.params.request).await?;
    Ok(Pem(issued.certificate_pem).into())
}

/// P3.
pub(super) async fn fetch_target_certificate(
    target: Arc<Target>,
    call: Call<FetchTargetCertificate, Principal>,
) -> Result<Reply<Pem>, Refusal> {
    let issued = fetch(target, &call.principal, &call.from, call.params.request).await?;
    Ok(Pem(issued.target_pem).into())
}

async fn fetch(
    target: Arc<Target>,
    principal: &Principal,
    from: &Origin,
    request: RequestId,
) -> Result<Issued, Refusal> {
    let peer = key_of(from)?.clone();
    let principal = principal.clone();
    let told = off_runtime(move || {
        let key = PublicKey::from_der(peer.spki.as_der());
        target.ask(&principal, &peer, Input::Fetch { key, request })
    })
    .await?;
    match told {
        Told::Artifacts(issued) => Ok(*issued),
        _ => Err(unexpected()),
    }
}

/// The agents of a pairing, as row 45 tells them.
fn agents_of(row: &PeerRow) -> Vec<AgentSync> {
    let Some(paired) = row.paired() else { return Vec::new() };
    let told = |agent| {
        let AgentResolution { id, agent_pairing_state, repository_id } =
            resolved(agent, row.place.as_ref());
        AgentSync { id, agent_pairing_state, paused: false, repository_id }
    };
    paired.acceptance.grants.agents.iter().map(told).collect()
}

fn resolved(agent: &AgentDecision, place: Option<&Placement>) -> AgentResolution {
    let state =
        if agent.is_accepted { AgentPairingState::Approved } else { AgentPairingState::Denied };
    AgentResolution {
        id: agent.id.into(),
        agent_pairing_state: state,
        repository_id: place.filter(|_| agent.is_accepted).map(|place| place.repository.0.into()),
    }
}

impl Target {
    /// Asks the row of this key something that as a rule changes nothing; a change that time alone
    /// makes is kept.
    fn ask(&self, by: &Principal, peer: &PeerKey, input: Input) -> Result<Told, Refusal> {
        let is_poll = matches!(input, Input::Poll { .. } | Input::Fetch { .. });
        let absent = || if is_poll { request_unknown() } else { Refusal::from(not_paired()) };
        let thumbprint = peer.thumbprint.as_bytes();
        let row = self.register().of_key(thumbprint)?.ok_or_else(absent)?;
        let rules = self.settings().rules();
        let turned = row.machine.step(input.clone(), self.moment(), &rules);
        let turned = turned.map_err(|cause| Refusal::from(crate::drive::illegal(cause)))?;
        if let Some(told) = crate::drive::only_reply(turned) {
            return told;
        }
        self.advance(by, |step| {
            let row = step.peer_of_key(thumbprint)?.ok_or_else(absent)?;
            Ok((row, input))
        })
    }
}

fn request_unknown() -> Refusal {
    Refusal::new(ErrorCode::RequestUnknown, "no such pairing request")
}

fn key_of(from: &Origin) -> Result<&PeerKey, Refusal> {
    from.peer.as_ref().ok_or_else(|| {
        Refusal::new(ErrorCode::Unauthenticated, "the caller showed no valid credential")
    })
}

fn unexpected() -> Refusal {
    tracing::error!("the register answered something else than it was asked");
    Refusal::new(ErrorCode::Internal, "the call failed on our side")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
