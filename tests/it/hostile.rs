//! A target that says what no honest one would: it speaks the protocol without a fault, and its
//! sentences are made to be printed in somebody's terminal.

use std::sync::{Arc, Mutex, MutexGuard};

use http::HeaderMap;
use offsite_daemon::{SystemClock, SystemLuck};
use offsite_model::{Clock, CoreId, RequestId, Span};
use offsite_pki::tls::{ServerIdentity, replication_server};
use offsite_pki::{Authority, PrivateKey, Spki, Validity};
use offsite_proto::endpoint::{Listener, Row, Values};
use offsite_proto::error::{ErrorCode, Refusal};
use offsite_proto::json::Json;
use offsite_proto::pairing::*;
use offsite_proto::rows;
use offsite_proto::text::{Text, Time};
use offsite_proto::version::ProductVersion;
use offsite_transport::{
    Call, Classify, ConnectionClass, ConnectionPolicy, Gate, Origin, Reply, Routes, Server,
};
use tokio_util::sync::CancellationToken;

/// What it says, and where.
#[derive(Default)]
pub(crate) struct Script {
    /// Why nobody can pair (row 49).
    pub(crate) reason: Option<String>,
    /// The error that a request is answered with (row 44).
    pub(crate) refusal: Option<String>,
    /// The message of its rejection (P1); none = not decided.
    pub(crate) rejection: Option<String>,
}

/// It serves until it is dropped.
pub(crate) struct Hostile {
    said: Arc<Saying>,
    /// Where it serves.
    pub(crate) url: String,
    stop: CancellationToken,
    _runtime: tokio::runtime::Runtime,
}

struct Saying {
    core: CoreId,
    key: Spki,
    request: RequestId,
    script: Mutex<Script>,
}

impl Drop for Hostile {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

struct Open;

impl Gate<()> for Open {
    async fn admit(
        &self,
        _: &'static Row,
        _: &Values,
        _: &Origin,
        _: &HeaderMap,
    ) -> Result<(), Refusal> {
        Ok(())
    }

    // Its sentences go out whole.
    fn approved(&self, (): &()) -> bool {
        true
    }
}

struct Anybody;

impl Classify for Anybody {
    fn class(&self, _: Option<&offsite_pki::Thumbprint>) -> ConnectionClass {
        ConnectionClass::Paired
    }
}

type Answered<T> = Result<Reply<Json<T>>, Refusal>;

impl Hostile {
    /// On a free port.
    pub(crate) fn serve() -> Self {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let (now, core) = (SystemClock.now(), CoreId::random(&SystemLuck));
        let authority = Authority::create("hostile", now, &SystemLuck).unwrap();
        let key = PrivateKey::generate().unwrap();
        let validity = Validity::usual(now);
        let certificate = authority.issue_server(&key, core, &[], validity, &SystemLuck).unwrap();
        let identity = ServerIdentity::new(&key, &certificate).unwrap();
        let tls = replication_server(&identity).unwrap();
        let request = RequestId::random(&SystemLuck);
        let said = Saying {
            core,
            key: key.spki().clone(),
            request,
            script: Mutex::new(Script::default()),
        };
        let said = Arc::new(said);
        let router = Routes::new(&[rows::ALL], Listener::Replication)
            .on::<Validate>(validate)
            .on::<Greet>(greet)
            .on::<VerifyPairing>(verify_pairing)
            .on::<VerifyAgents>(verify_agents)
            .on::<Submit>(submit)
            .on::<PollResolution>(poll)
            .finish(Arc::clone(&said), Open, Arc::new(SystemLuck))
            .unwrap();
        let address = "127.0.0.1:0".parse().unwrap();
        let bound = Server::bind(address, tls, ConnectionPolicy::default());
        let listening = runtime.block_on(bound).unwrap();
        let url = format!("https://{}", listening.local_address().unwrap());
        let stop = CancellationToken::new();
        runtime.spawn(listening.serve(router, Arc::new(Anybody), stop.clone()));
        Self { said, url, stop, _runtime: runtime }
    }

    /// What it says from now on.
    pub(crate) fn script(&self) -> MutexGuard<'_, Script> {
        self.said.script()
    }
}

impl Saying {
    fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().unwrap()
    }
}

async fn validate(said: Arc<Saying>, _: Call<Validate, ()>) -> Answered<Text<CoreId>> {
    Ok(Reply::new(Json(Text(said.core))))
}

async fn greet(said: Arc<Saying>, _: Call<Greet, ()>) -> Answered<TargetSummary> {
    Ok(Reply::new(Json(TargetSummary {
        host_name: None,
        id: Text(said.core),
        version: ProductVersion::from_package(env!("CARGO_PKG_VERSION")),
        is_replication_only_repository_supported: true,
        protocol_min: 1,
        protocol_max: 1,
    })))
}

async fn verify_pairing(said: Arc<Saying>, _: Call<VerifyPairing, ()>) -> Answered<CanPair> {
    let reason = said.script().reason.clone();
    let reasons = reason.map(|message| Reason { code: ErrorCode::Forbidden, message });
    Ok(Reply::new(Json(CanPair {
        can_pair: reasons.is_none(),
        slave_core_id: Text(said.core),
        reasons: reasons.into_iter().collect(),
    })))
}

async fn verify_agents(
    _: Arc<Saying>,
    call: Call<VerifyAgents, ()>,
) -> Answered<Vec<AgentVerdict>> {
    let verdict = |agent: AgentDescription| AgentVerdict {
        agent_id: agent.id,
        ok: true,
        code: None,
        message: None,
    };
    Ok(Reply::new(Json(call.body.0.agents.into_iter().map(verdict).collect())))
}

async fn submit(said: Arc<Saying>, _: Call<Submit, ()>) -> Answered<Submitted> {
    if let Some(message) = said.script().refusal.clone() {
        return Err(Refusal::new(ErrorCode::Forbidden, message));
    }
    let key: String = said.key.as_der().iter().map(|byte| format!("{byte:02x}")).collect();
    let id = said.request;
    let submitted = Submitted {
        request_id: Text(id),
        slave_core_id: Text(said.core),
        target_public_key: key,
        resolution_path: format!("/replicationcomms/slave/pairing/requests/{id}/resolution"),
        poll_after_seconds: 1,
        expires_at: Time(SystemClock.now() + Span::from_days(7)),
    };
    Ok(Reply::new(Json(submitted)).status(202).close())
}

async fn poll(said: Arc<Saying>, _: Call<PollResolution, ()>) -> Answered<ResolutionAnswer> {
    let message = said.script().rejection.clone();
    let is_decided = message.is_some();
    let answer = ResolutionAnswer {
        request_id: Text(said.request),
        resolution: if is_decided { Resolution::Rejected } else { Resolution::Pending },
        message,
        resolved_at: None,
        agents: Vec::new(),
        certificate_sha256: None,
        target_certificate_sha256: None,
    };
    let reply = Reply::new(Json(answer));
    Ok(if is_decided { reply } else { reply.status(202).retry_after(1) })
}
