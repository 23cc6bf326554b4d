//! A target that listens on a port of its own, and sources that call it.

use std::net::SocketAddr;
use std::sync::Arc;

use offsite_model::{CoreId, Luck, RequestId, Span, Timestamp};
use offsite_pki::tls::{ClientIdentity, ServerIdentity, Trust, client, replication_server};
use offsite_pki::{Authority, Certificate, PrivateKey, Validity, request, self_signed};
use offsite_proto::endpoint::Endpoint;
use offsite_proto::error::{ErrorCode, Refusal};
use offsite_proto::json::Json;
use offsite_proto::operator::{Decide, Decided, PendingRequest, RequestName};
use offsite_proto::pairing::{
    AgentDescription, CoreDescription, FetchCertificate, OfRequest, PairingStatus, PairingSync,
    PollResolution, Submit, SubmitRequest, Submitted, Sync,
};
use offsite_proto::text::Big;
use offsite_store::catalog::{Catalog, MemoryCatalog, Transactions};
use offsite_testkit::{SeededLuck, SimClock};
use offsite_transport::{
    Answer, CallError, Connection, ConnectionPolicy, Connections, HostPort, Server, Timeouts,
};
use tokio_util::sync::CancellationToken;

use crate::config::Settings;
use crate::failure::Failure;
use crate::gate::ReplicationGate;
use crate::principal::Principal;
use crate::{Identity, Target, World, storage_list};

pub(super) const ROOT: Principal = Principal::LocalRoot { uid: 0 };
pub(super) const NOON: Timestamp = Timestamp::from_secs(1_800_000_000);

/// A target that listens.
pub(super) struct Scene {
    pub(super) target: Arc<Target>,
    pub(super) clock: SimClock,
    pub(super) luck: Arc<SeededLuck>,
    pub(super) address: SocketAddr,
    pub(super) connections: Connections,
    shutdown: CancellationToken,
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

pub(super) fn settings() -> Settings {
    let mut settings = Settings::shipped("vault");
    settings.pairing.pending_per_address_max = 64;
    settings
}

/// A target over this catalog, without a listener.
pub(super) fn target_over(
    catalog: Arc<dyn Catalog>,
    settings: Settings,
    clock: &SimClock,
    luck: &Arc<SeededLuck>,
) -> (Arc<Target>, PrivateKey) {
    let now = NOON;
    let authority = Authority::create("vault", now, &**luck).unwrap();
    let key = PrivateKey::generate().unwrap();
    let core = CoreId::random(&**luck);
    let validity = Validity::days(now, 397).unwrap();
    let certificate = authority.issue_server(&key, core, &[], validity, &**luck).unwrap();
    let world = World {
        clock: Arc::new(clock.clone()),
        luck: Arc::clone(luck) as Arc<dyn Luck>,
        files: Arc::new(offsite_daemon::files::SystemFiles),
    };
    let identity = Identity { core, authority, certificate };
    let target = Target::over(catalog, settings, identity, world).unwrap();
    let deed = target.deed(&ROOT);
    let added = target.catalog().write(|rows| {
        let disk = std::env::temp_dir();
        storage_list::add(rows, &deed, "main", disk.to_str().unwrap())?;
        Ok::<_, Failure>(())
    });
    added.unwrap();
    (target, key)
}

impl Scene {
    pub(super) async fn open() -> Self {
        Self::with(settings()).await
    }

    pub(super) async fn with(settings: Settings) -> Self {
        Self::over(Arc::new(MemoryCatalog::new()), settings).await
    }

    pub(super) async fn over(catalog: Arc<dyn Catalog>, settings: Settings) -> Self {
        let clock = SimClock::starting_at(NOON);
        let luck = Arc::new(SeededLuck::from_env_or(1));
        let (target, key) = target_over(catalog, settings, &clock, &luck);
        let shown = ServerIdentity::new(&key, &target.identity().certificate).unwrap();
        let tls = replication_server(&shown).unwrap();
        let policy = ConnectionPolicy {
            handshakes_per_sec: 10_000,
            unknown_per_address: 4_096,
            unknown_total: 4_096,
            ..ConnectionPolicy::default()
        };
        let listening = Server::bind("127.0.0.1:0".parse().unwrap(), tls, policy).await.unwrap();
        let address = listening.local_address().unwrap();
        let connections = listening.connections();
        let closing = connections.clone();
        target.register().on_end(Box::new(move |key| {
            let noted = closing.open_of(&offsite_pki::Thumbprint::from_bytes(*key));
            Box::new(move || {
                noted.cut();
            })
        }));
        let shutdown = CancellationToken::new();
        let router = target.replication_router().unwrap();
        let classify = Arc::new(ReplicationGate::new(Arc::clone(&target)));
        tokio::spawn(listening.serve(router, classify, shutdown.clone()));
        Self { target, clock, luck, address, connections, shutdown }
    }

    pub(super) fn now(&self) -> Timestamp {
        self.target.now()
    }

    pub(super) async fn dial_with(&self, identity: ClientIdentity<'_>) -> Connection {
        let tls = client(identity, Trust::FirstSight).unwrap();
        let place = HostPort::new("127.0.0.1", self.address.port()).unwrap();
        Connection::dial(&place, &tls, &Timeouts::default()).await.unwrap()
    }

    /// A connection of somebody who shows nothing.
    pub(super) async fn dial_bare(&self) -> Connection {
        self.dial_with(ClientIdentity::None).await
    }

    /// A source nobody knows yet.
    pub(super) fn source(&self) -> Source {
        Source::new(&*self.luck, self.now())
    }

    /// A source whose request was accepted, fetched and used.
    pub(super) async fn paired(&self) -> Source {
        let mut source = self.source();
        self.pair(&mut source).await;
        source
    }

    pub(super) async fn pair(&self, source: &mut Source) {
        let submitted = self.submit(source).await.unwrap();
        self.accept(submitted.request_id.0).unwrap();
        source.fetch(self, submitted.request_id.0).await;
        let status = source.sync(self).await.unwrap();
        assert_eq!(status.pairing_state, offsite_proto::pairing::PairingState::Active);
    }

    pub(super) async fn submit(&self, source: &Source) -> Result<Submitted, ErrorCode> {
        source.call::<Submit>(self, &(), &Json(source.wish())).await.map(|answer| answer.body.0)
    }

    /// Accepts with the right code and prepares the certificate.
    pub(super) fn accept(&self, request: RequestId) -> Result<Decided, Refusal> {
        let shown = self.shown(request);
        let mut decide = decision(request, true);
        decide.check_code = Some(shown.check_code);
        decide.digest = Some(shown.digest);
        let decided = self.target.decide(&ROOT, &decide);
        self.target.issue_ordered();
        decided
    }

    pub(super) fn shown(&self, request: RequestId) -> PendingRequest {
        let pending = self.target.pending_for(&ROOT).unwrap();
        pending.into_iter().find(|shown| shown.request_guid.0 == request).expect("not pending")
    }

    pub(super) fn advance(&self, span: Span) {
        self.clock.advance(span);
    }
}

pub(super) fn decision(request: RequestId, accept: bool) -> Decide {
    Decide {
        request_id: RequestName::Id(request),
        accept,
        message: (!accept).then(|| "not today".to_owned()),
        storage_id: None,
        check_code: None,
        digest: None,
        tenant: None,
        quota_bytes: None,
        allow_restore: None,
        lock_days: None,
        agents: None,
    }
}

/// A source core, as far as a target can tell.
pub(super) struct Source {
    pub(super) core: CoreId,
    pub(super) key: PrivateKey,
    pub(super) shown: Certificate,
    pub(super) name: String,
    pub(super) agents: Vec<AgentDescription>,
}

/// The code of a call that was refused.
pub(super) fn code_of(error: &CallError) -> ErrorCode {
    match error {
        CallError::Refused(refusal, _) => refusal.code,
        other => panic!("not refused but failed: {other}"),
    }
}

impl Source {
    pub(super) fn new(luck: &dyn Luck, now: Timestamp) -> Self {
        let key = PrivateKey::generate().unwrap();
        let shown = self_signed(&key, now, luck).unwrap();
        let agents = (0..2)
            .map(|index| AgentDescription {
                id: offsite_model::AgentId::random(luck).into(),
                display_name: format!("agent {index}"),
                host_name: String::new(),
                logical_bytes: Big(1 << 30),
            })
            .collect();
        Self { core: CoreId::random(luck), key, shown, name: "branch office".to_owned(), agents }
    }

    pub(super) fn wish(&self) -> SubmitRequest {
        SubmitRequest {
            client_certificate: request::make(&self.key).unwrap(),
            master_core_info: CoreDescription {
                host_name: self.name.clone(),
                id: self.core.into(),
                is_replication_only_repository_supported: true,
                version: Default::default(),
            },
            agents: self.agents.clone(),
            customer_id: "4711".to_owned(),
            email_address: "ops@example.org".to_owned(),
            comments: "please".to_owned(),
            use_seed_drive: false,
            enrolment_code: None,
        }
    }

    pub(super) async fn dial(&self, scene: &Scene) -> Connection {
        scene.dial_with(ClientIdentity::Certified(&self.key, &self.shown)).await
    }

    /// One call on a connection of its own.
    pub(super) async fn call<E: Endpoint>(
        &self,
        scene: &Scene,
        params: &E::Params,
        body: &E::Request,
    ) -> Result<Answer<E::Response>, ErrorCode> {
        let connection = self.dial(scene).await;
        connection.call::<E>(params, body).await.map_err(|error| code_of(&error))
    }

    pub(super) async fn poll(
        &self,
        scene: &Scene,
        request: RequestId,
    ) -> Result<Answer<Json<offsite_proto::pairing::ResolutionAnswer>>, ErrorCode> {
        self.call::<PollResolution>(scene, &OfRequest { request }, &()).await
    }

    /// Fetches the certificate and shows it from now on.
    pub(super) async fn fetch(&mut self, scene: &Scene, request: RequestId) {
        let pem = self.call::<FetchCertificate>(scene, &OfRequest { request }, &()).await.unwrap();
        self.shown = Certificate::from_pem(&pem.body.0).unwrap();
    }

    pub(super) async fn sync(&self, scene: &Scene) -> Result<PairingStatus, ErrorCode> {
        let body = PairingSync {
            core_id: self.core.into(),
            host_name: self.name.clone(),
            version: Default::default(),
            request_id: None,
            agents: Vec::new(),
        };
        self.call::<Sync>(scene, &(), &Json(body)).await.map(|answer| answer.body.0)
    }
}
