//! A small target: it files requests, decides as the test says, issues, and forgets. It shares no
//! line with the real one.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use http::HeaderMap;
use offsite_model::{Clock, CoreId, RequestId, Span};
use offsite_pki::tls::{ServerIdentity, replication_server};
use offsite_pki::{Authority, Certificate, PrivateKey, Spki, Thumbprint, Validity, request};
use offsite_proto::endpoint::{Listener, Row, Values};
use offsite_proto::error::{ErrorCode, Refusal};
use offsite_proto::json::{Json, Pem};
use offsite_proto::pairing::*;
use offsite_proto::rows;
use offsite_proto::text::{Text, Time};
use offsite_testkit::{SeededLuck, SimClock};
use offsite_transport::{
    Call, Classify, ConnectionClass, ConnectionPolicy, Gate, Origin, PeerKey, Reply, Routes, Server,
};
use tokio_util::sync::CancellationToken;

/// What the fake decides about requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    Wait,
    Accept,
    Reject(String),
}

struct Filed {
    request: RequestId,
    issued: Option<Certificate>,
    is_active: bool,
}

pub(super) struct State {
    pub(super) decision: Decision,
    /// Refusals to give instead of an answer, by row.
    pub(super) refuse: BTreeMap<&'static str, Refusal>,
    /// Rows whose work is done and whose answer is then lost.
    pub(super) lose: Vec<&'static str>,
    /// Refuses row 45 to certificates it issued.
    pub(super) refuses_issued: bool,
    /// Every row that was called.
    pub(super) calls: Vec<&'static str>,
    /// Stated instead of the real public key.
    pub(super) stated_key: Option<String>,
    /// Signs with another authority than the one it shows.
    pub(super) signs_wrongly: bool,
    /// Issues for another key than the one that asked.
    pub(super) issues_for: Option<Spki>,
    pub(super) summary: TargetSummary,
    pub(super) can_pair: CanPair,
    pub(super) last_submit: Option<SubmitRequest>,
    pub(super) deleted_points: Option<bool>,
    filed: BTreeMap<[u8; 32], Filed>,
}

pub(super) struct Fake {
    pub(super) clock: SimClock,
    pub(super) address: SocketAddr,
    pub(super) core: CoreId,
    pub(super) identity: Arc<ServerIdentity>,
    pub(super) spki: Spki,
    key: PrivateKey,
    certificate: Certificate,
    authority: Authority,
    luck: SeededLuck,
    state: Mutex<State>,
    stop: CancellationToken,
}

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// Ends the fake's listener with the test.
pub(super) struct Stop(CancellationToken);

struct Open;

impl Gate<Option<PeerKey>> for Open {
    async fn admit(
        &self,
        _: &'static Row,
        _: &Values,
        origin: &Origin,
        _: &HeaderMap,
    ) -> Result<Option<PeerKey>, Refusal> {
        Ok(origin.peer.clone())
    }

    fn approved(&self, _: &Option<PeerKey>) -> bool {
        true
    }
}

struct Anybody;

impl Classify for Anybody {
    fn class(&self, _: Option<&Thumbprint>) -> ConnectionClass {
        ConnectionClass::Paired
    }
}

type Asked<E> = Call<E, Option<PeerKey>>;
type Answered<T> = Result<Reply<T>, Refusal>;

impl Fake {
    /// A target that serves on a port of its own until what is returned beside it is dropped.
    pub(super) async fn start(clock: &SimClock) -> (Arc<Self>, Stop) {
        let luck = SeededLuck::new(3);
        let now = clock.now();
        let core = CoreId::random(&luck);
        let authority = Authority::create("fake", now, &luck).unwrap();
        let key = PrivateKey::generate().unwrap();
        let validity = Validity::usual(now);
        let certificate = authority.issue_server(&key, core, &[], validity, &luck).unwrap();
        let identity = ServerIdentity::new(&key, &certificate).unwrap();
        let policy = ConnectionPolicy {
            handshakes_per_sec: 100_000,
            paired_total: 10_000,
            paired_per_key: 10_000,
            ..ConnectionPolicy::default()
        };
        let tls = replication_server(&identity).unwrap();
        let listening = Server::bind("127.0.0.1:0".parse().unwrap(), tls, policy).await.unwrap();
        let state = State {
            decision: Decision::Wait,
            refuse: BTreeMap::new(),
            lose: Vec::new(),
            refuses_issued: false,
            calls: Vec::new(),
            stated_key: None,
            signs_wrongly: false,
            issues_for: None,
            summary: TargetSummary {
                host_name: None,
                id: Text(core),
                version: offsite_proto::version::ProductVersion::from_package("0.1.0"),
                is_replication_only_repository_supported: true,
                protocol_min: 1,
                protocol_max: 1,
            },
            can_pair: CanPair { can_pair: true, slave_core_id: Text(core), reasons: Vec::new() },
            last_submit: None,
            deleted_points: None,
            filed: BTreeMap::new(),
        };
        let stop = CancellationToken::new();
        let fake = Arc::new(Self {
            clock: clock.clone(),
            address: listening.local_address().unwrap(),
            core,
            identity,
            spki: key.spki().clone(),
            key,
            certificate,
            authority,
            luck,
            state: Mutex::new(state),
            stop: stop.clone(),
        });
        let router = Routes::new(&[rows::ALL], Listener::Replication)
            .on::<Validate>(validate)
            .on::<Greet>(greet)
            .on::<VerifyPairing>(verify_pairing)
            .on::<VerifyAgents>(verify_agents)
            .on::<Submit>(submit)
            .on::<PollResolution>(poll)
            .on::<FetchCertificate>(fetch)
            .on::<FetchTargetCertificate>(fetch_target)
            .on::<Sync>(sync)
            .on::<Unpair>(unpair)
            .finish(Arc::clone(&fake), Open, Arc::new(SeededLuck::new(4)))
            .unwrap();
        tokio::spawn(listening.serve(router, Arc::new(Anybody), stop.clone()));
        (fake, Stop(stop))
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub(super) fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    pub(super) fn stop(&self) {
        self.stop.cancel();
    }

    /// Shows another key from now on, as somebody in the middle would.
    pub(super) fn swap_key(&self) -> Spki {
        let key = PrivateKey::generate().unwrap();
        let validity = Validity::usual(self.clock.now());
        let certificate =
            self.authority.issue_server(&key, self.core, &[], validity, &self.luck).unwrap();
        self.identity.replace(&key, &certificate).unwrap();
        key.spki().clone()
    }

    /// Shows the first key again.
    pub(super) fn restore_key(&self) {
        self.identity.replace(&self.key, &self.certificate).unwrap();
    }

    /// Forgets every source, as an operator who revokes does.
    pub(super) fn revoke_all(&self) {
        self.state().filed.clear();
    }

    /// How many keys are active.
    pub(super) fn n_active(&self) -> usize {
        self.state().filed.values().filter(|filed| filed.is_active).count()
    }

    fn called(&self, row: &'static str) -> Result<(), Refusal> {
        let mut state = self.state();
        state.calls.push(row);
        state.refuse.get(row).map_or(Ok(()), |refusal| Err(refusal.clone()))
    }

    /// The answer, unless it is to be lost on the way.
    fn deliver<T>(&self, row: &'static str, value: T) -> Answered<T> {
        let mut state = self.state();
        if let Some(index) = state.lose.iter().position(|lost| *lost == row) {
            state.lose.remove(index);
            return Err(Refusal::new(ErrorCode::Internal, "lost"));
        }
        Ok(Reply::new(value))
    }
}

fn peer<E: offsite_proto::endpoint::Endpoint>(call: &Asked<E>) -> Result<PeerKey, Refusal> {
    let none = || Refusal::new(ErrorCode::Unauthenticated, "no certificate");
    call.principal.clone().ok_or_else(none)
}

async fn validate(fake: Arc<Fake>, _: Asked<Validate>) -> Answered<Json<Text<CoreId>>> {
    fake.called("59")?;
    fake.deliver("59", Json(Text(fake.core)))
}

async fn greet(fake: Arc<Fake>, _: Asked<Greet>) -> Answered<Json<TargetSummary>> {
    fake.called("37")?;
    let summary = fake.state().summary.clone();
    fake.deliver("37", Json(summary))
}

async fn verify_pairing(fake: Arc<Fake>, _: Asked<VerifyPairing>) -> Answered<Json<CanPair>> {
    fake.called("49")?;
    let can_pair = fake.state().can_pair.clone();
    fake.deliver("49", Json(can_pair))
}

async fn verify_agents(
    fake: Arc<Fake>,
    call: Asked<VerifyAgents>,
) -> Answered<Json<Vec<AgentVerdict>>> {
    fake.called("51")?;
    let verdicts = call.body.0.agents.iter().map(|agent| AgentVerdict {
        agent_id: agent.id,
        ok: true,
        code: None,
        message: None,
    });
    fake.deliver("51", Json(verdicts.collect()))
}

async fn submit(fake: Arc<Fake>, call: Asked<Submit>) -> Answered<Json<Submitted>> {
    fake.called("44")?;
    let shown = peer(&call)?;
    let Json(body) = call.body;
    let asked = request::read(&body.client_certificate)
        .map_err(|error| Refusal::new(ErrorCode::BadRequest, error.to_string()))?;
    let key = asked.into_spki();
    let now = fake.clock.now();
    let submitted = {
        let mut state = fake.state();
        let is_renewal =
            state.filed.get(shown.thumbprint.as_bytes()).is_some_and(|filed| filed.is_active)
                && key.thumbprint() != shown.thumbprint;
        if !is_renewal && key.thumbprint() != shown.thumbprint {
            return Err(Refusal::new(ErrorCode::Unauthenticated, "another key"));
        }
        let issued = is_renewal.then(|| issue(&fake, &key));
        let fresh = RequestId::random(&fake.luck);
        let filed = state.filed.entry(*key.thumbprint().as_bytes()).or_insert(Filed {
            request: fresh,
            issued,
            is_active: false,
        });
        let id = filed.request;
        state.last_submit = Some(body);
        let stated = state.stated_key.clone();
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        Submitted {
            request_id: Text(id),
            slave_core_id: Text(fake.core),
            target_public_key: stated.unwrap_or_else(|| hex(fake.spki.as_der())),
            resolution_path: format!("/replicationcomms/slave/pairing/requests/{id}/resolution"),
            poll_after_seconds: 5,
            expires_at: Time(now + Span::from_days(7)),
        }
    };
    fake.deliver("44", Json(submitted)).map(|reply| reply.status(202).close())
}

fn issue(fake: &Fake, key: &Spki) -> Certificate {
    let validity = Validity::usual(fake.clock.now());
    fake.authority.issue_client(key, CoreId::random(&fake.luck), validity, &fake.luck).unwrap()
}

fn unknown() -> Refusal {
    Refusal::new(ErrorCode::RequestUnknown, "no such request")
}

async fn poll(fake: Arc<Fake>, call: Asked<PollResolution>) -> Answered<Json<ResolutionAnswer>> {
    fake.called("P1")?;
    let shown = peer(&call)?;
    let answer = {
        let mut state = fake.state();
        let decision = state.decision.clone();
        let (signs_wrongly, issues_for) = (state.signs_wrongly, state.issues_for.clone());
        let filed = state.filed.get_mut(shown.thumbprint.as_bytes()).ok_or_else(unknown)?;
        if filed.request != call.params.request {
            return Err(unknown());
        }
        let hex = |bytes: [u8; 32]| Some(Thumbprint::from_bytes(bytes).to_string());
        let mut answer = ResolutionAnswer {
            request_id: Text(filed.request),
            resolution: Resolution::Pending,
            message: None,
            resolved_at: None,
            agents: Vec::new(),
            certificate_sha256: None,
            target_certificate_sha256: None,
        };
        match (&filed.issued, decision) {
            (None, Decision::Wait) => {
                return Ok(Reply::new(Json(answer)).status(202).retry_after(5));
            }
            (None, Decision::Reject(message)) => {
                answer.resolution = Resolution::Rejected;
                answer.message = Some(message);
            }
            (issued, _) => {
                let key = issues_for.unwrap_or(shown.spki);
                let mut issued = issued.clone().unwrap_or_else(|| issue(&fake, &key));
                if signs_wrongly {
                    let now = fake.clock.now();
                    let other = Authority::create("other", now, &fake.luck).unwrap();
                    let core = CoreId::random(&fake.luck);
                    issued =
                        other.issue_client(&key, core, Validity::usual(now), &fake.luck).unwrap();
                }
                answer.resolution = Resolution::Accepted;
                answer.certificate_sha256 = hex(issued.sha256());
                answer.target_certificate_sha256 = hex(fake.certificate.sha256());
                filed.issued = Some(issued);
            }
        }
        answer
    };
    fake.deliver("P1", Json(answer))
}

async fn fetch(fake: Arc<Fake>, call: Asked<FetchCertificate>) -> Answered<Pem> {
    fake.called("P2")?;
    let shown = peer(&call)?;
    let pem = {
        let state = fake.state();
        let filed = state.filed.get(shown.thumbprint.as_bytes()).ok_or_else(unknown)?;
        filed.issued.as_ref().ok_or_else(unknown)?.to_pem()
    };
    fake.deliver("P2", Pem(pem))
}

async fn fetch_target(fake: Arc<Fake>, call: Asked<FetchTargetCertificate>) -> Answered<Pem> {
    fake.called("P3")?;
    peer(&call)?;
    let both = fake.certificate.to_pem() + &fake.authority.certificate().to_pem();
    fake.deliver("P3", Pem(both))
}

async fn sync(fake: Arc<Fake>, call: Asked<Sync>) -> Answered<Json<PairingStatus>> {
    fake.called("45")?;
    let shown = peer(&call)?;
    let status = {
        let mut state = fake.state();
        let (summary, refuses_issued) = (state.summary.clone(), state.refuses_issued);
        let not_paired = || Refusal::new(ErrorCode::NotPaired, "not paired");
        let filed = state.filed.get_mut(shown.thumbprint.as_bytes()).ok_or_else(not_paired)?;
        // The issued certificate was shown, not one of the source's own making.
        let is_issued =
            filed.issued.as_ref().is_some_and(|issued| issued == shown.presented.leaf());
        if is_issued && refuses_issued {
            return Err(Refusal::new(ErrorCode::Busy, "busy"));
        }
        filed.is_active |= is_issued;
        let pairing_state = match (filed.is_active, &filed.issued) {
            (true, _) => PairingState::Active,
            (false, Some(_)) => PairingState::Accepted,
            (false, None) => PairingState::Pending,
        };
        let request = filed.request;
        if is_issued {
            let key = *shown.thumbprint.as_bytes();
            // First use of a renewed key retires the others.
            state.filed.retain(|other, filed| *other == key || !filed.is_active);
        }
        PairingStatus {
            pairing_state,
            request_id: Some(Text(request)),
            message: None,
            comments: None,
            customer_id: None,
            agents: Vec::new(),
            queue_actions: Vec::new(),
            slave_core_info: summary,
            server_time: Time(fake.clock.now()),
        }
    };
    fake.deliver("45", Json(status))
}

async fn unpair(fake: Arc<Fake>, call: Asked<Unpair>) -> Answered<()> {
    fake.called("46")?;
    let shown = peer(&call)?;
    {
        let mut state = fake.state();
        state.filed.remove(shown.thumbprint.as_bytes());
        state.deleted_points = Some(call.params.0);
    }
    fake.deliver("46", ())
}
