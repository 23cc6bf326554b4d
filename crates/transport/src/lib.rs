//! Typed calls and streams between two cores, over TLS and HTTP, and over a local socket.
//!
//! Both ends and what neither knows: this crate bounds and frames bodies and never interprets them.
//!
//! ```text
//! server   Routes::<S, P>::new(&[rows::ALL, MORE], Listener::Replication) -> Routes
//!            .on::<E>(async fn(Arc<S>, Call<E, P>) -> Result<Reply<E::Response>, Refusal>)
//!            .raw("04", async fn(Arc<S>, RawCall<P>) -> Result<RawReply, Refusal>)
//!            .pace(Pace).mutations(Mutations)                           (both optional)
//!            .finish(state: Arc<S>, gate: impl Gate<P>, luck: Arc<dyn Luck>)
//!                                              -> Result<Arc<Router<S, P>>, RouteError>
//!          Gate<P>: async admit(row, values, origin, headers) -> Result<P, Refusal>
//!                   approved(&P) -> bool       may read sentences and facts in errors
//!                   challenge(row, origin) -> Option<HeaderValue>
//!          Classify: class(Option<&Thumbprint>) -> ConnectionClass
//!          Server::bind(address, tls, ConnectionPolicy).await -> io::Result<Listening>
//!          listening.local_address(), .connections()
//!          listening.serve(impl Answering, Arc<dyn Classify>, CancellationToken).await
//!          Connections::close(&Thumbprint) -> usize, .open_of(&Thumbprint) -> Condemned, .cut()
//!          router.mutations().finish(within).await -> usize   after the listeners have stopped
//!          LocalServer::bind(path, policy)?.serve(impl Answering, CancellationToken).await
//!          Arc<Router> is a tower::Service<Arrival>, and so Answering; layers may stand around it
//! client Connection::dial(&HostPort, &ClientTls, &Timeouts).await -> Result<Connection, DialError>
//!          connection.peer() -> &Spki, .is_closed(), .is_http2()
//!          connection.call::<E>(&params, &body).await -> Result<Answer<E::Response>, CallError>
//!          connection.stream(row, &values, media, Outgoing, answer_bytes_max).await
//!                                              -> Result<StreamAnswer, CallError>
//!          call_error.retry() -> Retry;  Backoff::delay(n_failed, retry, luck) -> Option<Duration>
//!          LocalClient::open(path, answer_within).await -> Result<LocalClient, LocalError>
//! ```
//!
//! Everything but a GET runs in a task of its own, which a disconnect cannot cut ([`Mutations`]).
//!
//! **Absent:** pairings, tenants, records, files, and any right to do anything: a [`Gate`] decides.

mod body;
mod caller;
mod client;
mod congestion;
mod connection;
mod connections;
mod dial;
mod framing;
mod gate;
mod handler;
mod handshakes;
mod head;
mod local;
mod mutation;
mod pacing;
mod path;
mod peer;
mod policy;
mod pulse;
mod respond;
mod retry;
mod routes;
mod server;
mod table;
mod wire;

/// A piece of a body, cut and shared without copying.
pub use bytes::Bytes;

pub use body::{BodySender, BodyStream, Cut, Outgoing, Pace};
pub use caller::{Answer, CallError, Fault, StreamAnswer};
pub use client::{Connection, Timeouts};
pub use congestion::{Congestion, NotOffered};
pub use connections::{Classify, Condemned, ConnectionClass, Connections};
pub use dial::{DialError, HostPort, HostPortError};
pub use gate::Gate;
pub use handler::{Call, Handler, RawCall, RawHandler, RawReply};
pub use local::{LocalClient, LocalError, LocalServer};
pub use mutation::{Mutation, Mutations, Panicked};
pub use peer::{Origin, PeerKey, Place};
pub use policy::ConnectionPolicy;
pub use respond::{REQUEST_HEADER, Reply};
pub use retry::{Backoff, Retry};
pub use routes::{Answering, Arrival, RouteError, Router, Routes, route_unknown};
pub use server::{Listening, Server};
pub use table::TableError;
