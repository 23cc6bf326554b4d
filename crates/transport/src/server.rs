//! A listener: accept, handshake, classify, serve, and at the end drain.
//!
//! Each connection is a task of its own. Nothing is guessed from first bytes: TLS comes first, and
//! ALPN names the protocol (none means HTTP/1.1).

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use offsite_pki::tls::presented;
use rustls::ServerConfig;
use rustls::server::Acceptor;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::connection::{self, Peer};
use crate::connections::{Classify, ConnectionClass, Connections, Ticket};
use crate::handshakes::Handshakes;
use crate::peer::{PeerKey, Place};
use crate::policy::ConnectionPolicy;
use crate::routes::Answering;

/// TCP keepalive: first probe, interval, probes; and the longest time sent bytes may stay
/// unacknowledged.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(20);
const KEEPALIVE_EVERY: Duration = Duration::from_secs(5);
const KEEPALIVE_PROBES: u32 = 3;
const USER_TIMEOUT_MS: u32 = 45_000;
/// The pause after an accept that failed for want of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Where listeners are made.
#[derive(Clone, Copy, Debug)]
pub struct Server;

/// A bound listener that does not accept yet.
#[derive(Debug)]
pub struct Listening {
    listener: TcpListener,
    tls: Arc<ServerConfig>,
    policy: ConnectionPolicy,
    connections: Connections,
    handshakes: Handshakes,
}

impl Server {
    /// Binds an address; connections wait in the kernel until [`Listening::serve`].
    ///
    /// # Errors
    /// Those of binding a socket, such as an address in use.
    pub async fn bind(
        address: SocketAddr,
        tls: Arc<ServerConfig>,
        policy: ConnectionPolicy,
    ) -> io::Result<Listening> {
        let listener = TcpListener::bind(address).await?;
        let connections = Connections::new(policy.clone());
        Ok(Listening { listener, tls, policy, connections, handshakes: Handshakes::start()? })
    }
}

struct Shared<R> {
    tls: Arc<ServerConfig>,
    policy: ConnectionPolicy,
    handshakes: Handshakes,
    service: R,
    classify: Arc<dyn Classify>,
    draining: CancellationToken,
}

impl Listening {
    /// The address, with the port that was given for port 0.
    ///
    /// # Errors
    /// Those of asking the kernel.
    pub fn local_address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// The connections of this listener, to end those of a key.
    #[must_use]
    pub fn connections(&self) -> Connections {
        self.connections.clone()
    }

    /// Serves until `shutdown`, then stops accepting, lets open requests end within the policy's
    /// time, and cuts what is left. Mutations are left to their owner
    /// ([`crate::Mutations::finish`]), since several listeners may share them.
    pub async fn serve(
        self,
        service: impl Answering,
        classify: Arc<dyn Classify>,
        shutdown: CancellationToken,
    ) {
        let Self { listener, tls, policy, connections, handshakes } = self;
        let drain = policy.drain;
        let draining = shutdown.clone();
        let shared = Arc::new(Shared { tls, policy, handshakes, service, classify, draining });
        let tasks = TaskTracker::new();
        loop {
            let accepted = tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, from)) => match connections.admit(Some(from.ip())) {
                    Ok(ticket) => {
                        tasks.spawn(serve(Arc::clone(&shared), stream, from, ticket));
                    }
                    Err(full) => {
                        tracing::debug!(address = %from.ip(), cause = %full, "not accepted")
                    }
                },
                Err(error) => {
                    tracing::warn!(cause = %error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        drop(listener);
        tasks.close();
        if tokio::time::timeout(drain, tasks.wait()).await.is_err() {
            tracing::warn!(connections = tasks.len(), "cutting connections that did not end");
            connections.cut_all();
            tasks.wait().await;
        }
    }
}

async fn serve<R: Answering>(
    shared: Arc<Shared<R>>,
    tcp: TcpStream,
    from: SocketAddr,
    ticket: Ticket,
) {
    if let Err(error) = tune(&tcp) {
        tracing::debug!(cause = %error, "cannot set the options of a socket");
    }
    let ticket = Arc::new(ticket);
    let shake = shake_hands(tcp, Arc::clone(&shared.tls), Arc::clone(&ticket));
    let shaken = tokio::select! {
        biased;
        () = ticket.cut.cancelled() => return,
        // A daemon that stops begins nothing.
        () = shared.draining.cancelled() => return,
        shaken = tokio::time::timeout(shared.policy.handshake, shared.handshakes.run(shake)) => shaken,
    };
    let stream = match shaken {
        Ok(Some(Ok(stream))) => stream,
        Ok(Some(Err(error))) => {
            return tracing::debug!(address = %from.ip(), cause = %error, "handshake failed");
        }
        Ok(None) => return,
        Err(_) => return tracing::debug!(address = %from.ip(), "handshake took too long"),
    };
    let state = stream.get_ref().1;
    let http2 = state.alpn_protocol() == Some(b"h2");
    let Ok(presented) = presented(state) else { return };
    let key = presented.map(PeerKey::from);
    let thumbprint = key.as_ref().map(|key| key.thumbprint);
    ticket.identified(thumbprint);
    let class = shared.classify.class(thumbprint.as_ref());
    if let Err(full) = ticket.settle(class) {
        return tracing::info!(address = %from.ip(), cause = %full, "connection not kept");
    }
    let known = matches!(class, ConnectionClass::Paired | ConnectionClass::Operator);
    let peer = Peer { address: Place::Network(from.ip().to_canonical()), key, http2, known };
    let Shared { policy, service, draining, .. } = &*shared;
    connection::serve(stream, peer, &ticket, policy, service.clone(), draining).await;
}

/// Waits for the hello, which costs nothing, and only then takes a place among the handshakes.
async fn shake_hands(
    tcp: TcpStream,
    tls: Arc<ServerConfig>,
    ticket: Arc<Ticket>,
) -> io::Result<TlsStream<TcpStream>> {
    let begun = LazyConfigAcceptor::new(Acceptor::default(), tcp).await?;
    ticket.handshake_begun();
    begun.into_stream(tls).await
}

fn tune(tcp: &TcpStream) -> io::Result<()> {
    use rustix::net::sockopt;
    tcp.set_nodelay(true)?;
    sockopt::set_socket_keepalive(tcp, true)?;
    sockopt::set_tcp_keepidle(tcp, KEEPALIVE_IDLE)?;
    sockopt::set_tcp_keepintvl(tcp, KEEPALIVE_EVERY)?;
    sockopt::set_tcp_keepcnt(tcp, KEEPALIVE_PROBES)?;
    sockopt::set_tcp_user_timeout(tcp, USER_TIMEOUT_MS)?;
    Ok(())
}
