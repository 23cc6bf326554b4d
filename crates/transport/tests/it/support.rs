//! A small target: a few calls of every kind behind a real listener on a port of the system's
//! choice.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use offsite_model::{AgentId, CoreId, Luck, Timestamp};
use offsite_pki::tls::{self, ClientIdentity, ClientTls, ServerIdentity, Trust};
use offsite_pki::{Authority, Certificate, PrivateKey, Thumbprint, Validity, self_signed};
use offsite_proto::endpoint::{Access, Class, Listener, Method, Row, Values};
use offsite_proto::error::{ErrorCode, Refusal};
use offsite_proto::json::{Json, PlainText};
use offsite_proto::{endpoint, params, rows};
use offsite_transport::{
    Call, Classify, Connection, ConnectionClass, ConnectionPolicy, Connections, DialError, Gate,
    HostPort, Origin, Outgoing, Pace, Place, RawCall, RawReply, Reply, Router, Routes, Server,
    Timeouts,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::sync::CancellationToken;

pub(crate) const AGENT: &str = "00112233-4455-6677-8899-aabbccddeeff";
pub(crate) const STREAM_MEDIA: &str = "application/vnd.offsite.test; version=1";

/// A seeded source of numbers (SplitMix64).
pub(crate) struct Seeded(AtomicU64);

impl Seeded {
    pub(crate) fn new(seed: u64) -> Arc<Self> {
        Arc::new(Self(AtomicU64::new(seed)))
    }
}

impl Luck for Seeded {
    fn fill(&self, bytes: &mut [u8]) {
        for part in bytes.chunks_mut(8) {
            let mut x = self.0.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
            x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            x ^= x >> 31;
            part.copy_from_slice(&x.to_le_bytes()[..part.len()]);
        }
    }
}

const fn row(id: &'static str, method: Method, path: &'static str, bytes: u64) -> Row {
    Row { id, method, path, query: &[], request_bytes_max: bytes, ..rows::R13 }
}

pub(crate) const ECHO: Row =
    row("T1", Method::Post, "/replicationcomms/test/{agentId}/echo", 64 << 10);
pub(crate) const READ: Row = row("T2", Method::Get, "/replicationcomms/test/{agentId}/echo", 0);
pub(crate) const STREAM: Row = row("T3", Method::Post, "/replicationcomms/test/stream", 1 << 30);
pub(crate) const PANIC_READ: Row = row("T4", Method::Get, "/replicationcomms/test/panic", 0);
pub(crate) const PANIC_CHANGE: Row = row("T5", Method::Post, "/replicationcomms/test/panic", 1024);
pub(crate) const LARGE: Row = row("T6", Method::Get, "/replicationcomms/test/large", 0);
pub(crate) const LAST: Row = row("T7", Method::Post, "/replicationcomms/test/last", 1024);
pub(crate) const CHANGE: Row = row("T8", Method::Post, "/replicationcomms/test/change", 1024);
pub(crate) const SUBMIT: Row = Row {
    access: Access::AnyOf(&[Class::Anon]),
    ..row("T9", Method::Post, "/replicationcomms/test/submit", 16 << 10)
};
pub(crate) const FILE: Row = row("TA", Method::Get, "/replicationcomms/test/file/{fileName}", 0);
pub(crate) const CHALLENGED: Row = Row {
    access: Access::AnyOf(&[Class::Admin]),
    ..row("TB", Method::Post, "/replicationcomms/test/challenged", 1024)
};

pub(crate) static ROWS: &[Row] =
    &[ECHO, READ, STREAM, PANIC_READ, PANIC_CHANGE, LARGE, LAST, CHANGE, SUBMIT, FILE, CHALLENGED];

params! {
    /// The agent in the path.
    Agent { agent: AgentId = "agentId" }
}

#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[expect(unreachable_pub, reason = "the macro that declares calls makes public types")]
pub struct Said {
    pub text: String,
}

pub(crate) fn said(text: &str) -> Json<Said> {
    Json(Said { text: text.to_owned() })
}

#[expect(unreachable_pub, reason = "the macro that declares calls makes public types")]
pub struct Name(pub String);

impl endpoint::Params for Name {
    fn read(values: &Values) -> Result<Self, Refusal> {
        values.parse("fileName").map(Self)
    }

    fn write(&self, values: &mut Values) {
        values.insert("fileName", self.0.clone());
    }
}

endpoint! { /// Says it again.
Echo = ECHO, Agent, Json<Said> => Json<Said> }
endpoint! { /// Reads.
Read = READ, Agent, () => Json<Said> }
endpoint! { /// Panics while reading.
PanicRead = PANIC_READ, (), () => () }
endpoint! { /// Panics while changing.
PanicChange = PANIC_CHANGE, (), Json<Said> => () }
endpoint! { /// Answers eight mebibytes.
Large = LARGE, (), () => PlainText }
endpoint! { /// Ends the connection.
Last = LAST, (), () => Json<Said> }
endpoint! { /// Changes something slowly.
Change = CHANGE, (), Json<Said> => () }
endpoint! { /// Open to anybody.
Submit = SUBMIT, (), Json<Said> => Json<Said> }
endpoint! { /// Shows a name.
Named = FILE, Name, () => Json<Said> }
endpoint! { /// Demands a credential.
Challenged = CHALLENGED, (), Json<Said> => () }
endpoint! { /// A published row without handler here.
FreeSpace = rows::R13, Agent, () => () }
endpoint! { /// Liveness.
Healthz = rows::N10, (), () => PlainText }

pub(crate) struct State {
    pub(crate) n_handled: AtomicUsize,
    pub(crate) n_bodies: AtomicUsize,
    pub(crate) begun: mpsc::UnboundedSender<&'static str>,
    pub(crate) go_on: Notify,
}

/// Who calls.
pub(crate) enum Caller {
    Anybody,
    Paired,
    Local,
}

#[derive(Clone, Default)]
pub(crate) struct Pairings(Arc<Mutex<BTreeSet<Thumbprint>>>);

impl Pairings {
    pub(crate) fn add(&self, key: Thumbprint) {
        self.0.lock().unwrap().insert(key);
    }

    pub(crate) fn remove(&self, key: &Thumbprint) {
        self.0.lock().unwrap().remove(key);
    }

    fn has(&self, key: &Thumbprint) -> bool {
        self.0.lock().unwrap().contains(key)
    }
}

impl Classify for Pairings {
    fn class(&self, peer: Option<&Thumbprint>) -> ConnectionClass {
        match peer {
            Some(key) if self.has(key) => ConnectionClass::Paired,
            _ => ConnectionClass::Unknown,
        }
    }
}

impl Gate<Caller> for Pairings {
    async fn admit(
        &self,
        row: &'static Row,
        _values: &Values,
        origin: &Origin,
        _headers: &HeaderMap,
    ) -> Result<Caller, Refusal> {
        if let Place::Local { .. } = origin.address {
            return Ok(Caller::Local);
        }
        let Access::AnyOf(classes) = row.access else {
            return Ok(Caller::Anybody);
        };
        match &origin.peer {
            Some(peer) if self.has(&peer.thumbprint) => Ok(Caller::Paired),
            _ if classes.contains(&Class::Anon) => Ok(Caller::Anybody),
            Some(_) => {
                Err(Refusal::new(ErrorCode::NotPaired, "the key /var/lib/offsite is unknown"))
            }
            None => Err(Refusal::new(ErrorCode::Unauthenticated, "no certificate from 10.0.0.7")),
        }
    }

    fn approved(&self, principal: &Caller) -> bool {
        matches!(principal, Caller::Paired | Caller::Local)
    }

    fn challenge(&self, row: &'static Row, _origin: &Origin) -> Option<HeaderValue> {
        (row.id == "TB").then(|| HeaderValue::from_static("NTLM"))
    }
}

async fn echo(state: Arc<State>, call: Call<Echo, Caller>) -> Result<Reply<Json<Said>>, Refusal> {
    state.n_bodies.fetch_add(1, Ordering::Relaxed);
    assert_eq!(call.params.agent.to_string(), AGENT);
    Ok(call.body.into())
}

async fn read(state: Arc<State>, call: Call<Read, Caller>) -> Result<Reply<Json<Said>>, Refusal> {
    state.n_handled.fetch_add(1, Ordering::Relaxed);
    Ok(said(&call.params.agent.to_string()).into())
}

async fn submit(
    state: Arc<State>,
    call: Call<Submit, Caller>,
) -> Result<Reply<Json<Said>>, Refusal> {
    state.n_bodies.fetch_add(1, Ordering::Relaxed);
    Ok(Reply::new(call.body).status(202).retry_after(7))
}

async fn named(state: Arc<State>, call: Call<Named, Caller>) -> Result<Reply<Json<Said>>, Refusal> {
    state.n_handled.fetch_add(1, Ordering::Relaxed);
    Ok(said(&call.params.0).into())
}

async fn panic_read(_: Arc<State>, _: Call<PanicRead, Caller>) -> Result<Reply<()>, Refusal> {
    panic!("deliberate, for the test")
}

async fn panic_change(_: Arc<State>, _: Call<PanicChange, Caller>) -> Result<Reply<()>, Refusal> {
    panic!("deliberate, for the test")
}

async fn large(_: Arc<State>, _: Call<Large, Caller>) -> Result<Reply<PlainText>, Refusal> {
    Ok(PlainText("a".repeat(8 << 20)).into())
}

async fn last(_: Arc<State>, _: Call<Last, Caller>) -> Result<Reply<Json<Said>>, Refusal> {
    Ok(Reply::new(said("good bye")).close())
}

async fn change(state: Arc<State>, _: Call<Change, Caller>) -> Result<Reply<()>, Refusal> {
    state.begun.send("change").unwrap();
    state.go_on.notified().await;
    state.n_handled.fetch_add(1, Ordering::Relaxed);
    state.begun.send("changed").unwrap();
    Ok(().into())
}

async fn healthz(_: Arc<State>, _: Call<Healthz, Caller>) -> Result<Reply<PlainText>, Refusal> {
    Ok(PlainText("ok".to_owned()).into())
}

/// Sends every piece back as it comes, and looks up from listening now and then, as whoever has
/// something of his own to say does.
async fn stream(state: Arc<State>, call: RawCall<Caller>) -> Result<RawReply, Refusal> {
    let (sender, body) = Outgoing::stream();
    let mut incoming = call.body;
    let ended = state.begun.clone();
    state.begun.send("stream").unwrap();
    let work = async move {
        let mut looks = tokio::time::interval(Duration::from_millis(20));
        loop {
            let next = tokio::select! {
                next = incoming.next() => next,
                _ = looks.tick() => continue,
            };
            match next {
                Ok(Some(piece)) => {
                    if sender.send(piece).await.is_err() {
                        break;
                    }
                }
                Ok(None) => {
                    let _ = sender.finish().await;
                    break;
                }
                Err(_) => break,
            }
        }
        ended.send("stream ended").unwrap();
    };
    drop(call.mutations.spawn(work));
    let media = Some(HeaderValue::from_static(STREAM_MEDIA));
    Ok(RawReply { reply: body.into(), media })
}

pub(crate) fn router(
    state: Arc<State>,
    gate: Pairings,
    listener: Listener,
    pace: Pace,
) -> Arc<Router<State, Caller>> {
    Routes::<State, Caller>::new(&[rows::ALL, ROWS], listener)
        .on::<Echo>(echo)
        .on::<Read>(read)
        .on::<PanicRead>(panic_read)
        .on::<PanicChange>(panic_change)
        .on::<Large>(large)
        .on::<Last>(last)
        .on::<Change>(change)
        .on::<Submit>(submit)
        .on::<Named>(named)
        .on::<Healthz>(healthz)
        .raw("T3", stream)
        .pace(pace)
        .finish(state, gate, Seeded::new(1))
        .unwrap()
}

/// A running target.
pub(crate) struct Scene {
    pub(crate) address: SocketAddr,
    pub(crate) state: Arc<State>,
    pub(crate) pairings: Pairings,
    pub(crate) connections: Connections,
    pub(crate) router: Arc<Router<State, Caller>>,
    pub(crate) begun: mpsc::UnboundedReceiver<&'static str>,
    pub(crate) shutdown: CancellationToken,
    pub(crate) pin: Thumbprint,
    pub(crate) served: JoinHandle<()>,
}

/// The deadlines of most tests.
pub(crate) fn short() -> ConnectionPolicy {
    ConnectionPolicy {
        handshake: Duration::from_millis(400),
        first_request: Duration::from_millis(400),
        head: Duration::from_millis(400),
        idle_unknown: Duration::from_millis(400),
        idle_known: Duration::from_secs(60),
        unread: Duration::from_millis(400),
        ..usual()
    }
}

/// The shipped policy, with room for many connections from one address.
pub(crate) fn usual() -> ConnectionPolicy {
    ConnectionPolicy {
        handshakes_per_sec: 100_000,
        unknown_per_address: 200,
        drain: Duration::from_secs(2),
        ..ConnectionPolicy::default()
    }
}

pub(crate) async fn scene(policy: ConnectionPolicy) -> Scene {
    scene_with(policy, Pace::default()).await
}

pub(crate) async fn scene_with(policy: ConnectionPolicy, pace: Pace) -> Scene {
    let luck = Seeded::new(2);
    let now = Timestamp::from_secs(1_700_000_000);
    let authority = Authority::create("test target", now, &*luck).unwrap();
    let key = PrivateKey::generate().unwrap();
    let core = CoreId::from_bytes([1; 16]);
    let certificate =
        authority.issue_server(&key, core, &[], Validity::usual(now), &*luck).unwrap();
    let identity = ServerIdentity::new(&key, &certificate).unwrap();
    let tls = tls::replication_server(&identity).unwrap();
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let listening = Server::bind(address, tls, policy).await.unwrap();
    let (sender, begun) = mpsc::unbounded_channel();
    let state = Arc::new(State {
        n_handled: AtomicUsize::new(0),
        n_bodies: AtomicUsize::new(0),
        begun: sender,
        go_on: Notify::new(),
    });
    let pairings = Pairings::default();
    let router = router(Arc::clone(&state), pairings.clone(), Listener::Replication, pace);
    let shutdown = CancellationToken::new();
    let address = listening.local_address().unwrap();
    let connections = listening.connections();
    let serve = listening.serve(Arc::clone(&router), Arc::new(pairings.clone()), shutdown.clone());
    Scene {
        address,
        state,
        pairings,
        connections,
        router,
        begun,
        shutdown,
        pin: key.spki().thumbprint(),
        served: tokio::spawn(serve),
    }
}

/// A caller's key with its certificate.
pub(crate) struct Source {
    pub(crate) key: PrivateKey,
    pub(crate) certificate: Certificate,
}

impl Source {
    pub(crate) fn new() -> Self {
        let key = PrivateKey::generate().unwrap();
        let now = Timestamp::from_secs(1_700_000_000);
        let certificate = self_signed(&key, now, &*Seeded::new(3)).unwrap();
        Self { key, certificate }
    }

    pub(crate) fn thumbprint(&self) -> Thumbprint {
        self.key.spki().thumbprint()
    }
}

impl Scene {
    pub(crate) fn target(&self) -> HostPort {
        HostPort::new(&self.address.ip().to_string(), self.address.port()).unwrap()
    }

    pub(crate) fn paired(&self) -> Source {
        let source = Source::new();
        self.pairings.add(source.thumbprint());
        source
    }

    pub(crate) fn tls(&self, source: Option<&Source>) -> ClientTls {
        let identity = match source {
            Some(source) => ClientIdentity::Certified(&source.key, &source.certificate),
            None => ClientIdentity::None,
        };
        tls::client(identity, Trust::Pin(self.pin)).unwrap()
    }

    pub(crate) async fn dial(&self, source: Option<&Source>) -> Result<Connection, DialError> {
        Connection::dial(&self.target(), &self.tls(source), &Timeouts::default()).await
    }

    pub(crate) async fn dial_http1(&self, source: Option<&Source>) -> Connection {
        let tls = self.tls(source).with_protocol(b"http/1.1");
        Connection::dial(&self.target(), &tls, &Timeouts::default()).await.unwrap()
    }

    /// TLS and nothing above it.
    pub(crate) async fn raw(
        &self,
        source: Option<&Source>,
        protocol: &[u8],
    ) -> TlsStream<TcpStream> {
        self.try_raw(source, protocol).await.unwrap()
    }

    /// The same, where the server may refuse.
    pub(crate) async fn try_raw(
        &self,
        source: Option<&Source>,
        protocol: &[u8],
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let tcp = TcpStream::connect(self.address).await?;
        let config = self.tls(source).with_protocol(protocol).config();
        let name = rustls::pki_types::ServerName::from(self.address.ip());
        TlsConnector::from(config).connect(name, tcp).await
    }

    /// Sends bytes as HTTP/1.1 and returns all that comes back until the end.
    pub(crate) async fn exchange(&self, source: Option<&Source>, request: &[u8]) -> String {
        let mut stream = self.raw(source, b"http/1.1").await;
        // The server may hang up while we are still writing; what it said before that counts.
        let _ = stream.write_all(request).await;
        let _ = stream.flush().await;
        read_all(&mut stream).await
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

/// Reads until the end or an error, whichever comes first.
pub(crate) async fn read_all(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut all = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(n) = stream.read(&mut buffer).await {
        if n == 0 {
            break;
        }
        all.extend_from_slice(&buffer[..n]);
    }
    String::from_utf8_lossy(&all).into_owned()
}

pub(crate) fn agent() -> Agent {
    Agent { agent: AGENT.parse().unwrap() }
}

pub(crate) fn no_values() -> Values {
    Values::new()
}

pub(crate) fn piece(n: usize) -> Bytes {
    Bytes::from(vec![7; n])
}

/// Waits for something that must happen, and fails when it does not.
pub(crate) async fn within<T>(secs: u64, what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(Duration::from_secs(secs), future).await {
        Ok(value) => value,
        Err(_) => panic!("{what} did not happen within {secs} s"),
    }
}
