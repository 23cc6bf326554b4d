//! Typed calls and streams between two cores, over TLS and HTTP, and over a local socket.
//!
//! Both ends and what neither knows: this crate bounds and frames bodies and never interprets them.
//!
//! ```text
//! server   Routes::<S, P>::new(&[rows::ALL, MORE], Listener::Replication)
//!              .on::<E>(async fn(Arc<S>, Call<E, P>) -> Result<Reply<E::Response>, Refusal>)
//!              .raw("04", async fn(Arc<S>, RawCall<P>) -> Result<RawReply, Refusal>)
//!              .finish(state, gate, luck)                    -> Result<Arc<Router<S, P>>, RouteError>
//!          trait Gate<P> { admit(row, values, origin, headers) -> Result<P, Refusal>; approved(&P) }
//!          Server::bind(address, tls: Arc<rustls::ServerConfig>, policy).await -> io::Result<Listening>
//!          listening.local_address();  listening.connections() -> Connections
//!          listening.serve(router, classify, shutdown: CancellationToken).await
//!          trait Classify { class(&self, Option<&Thumbprint>) -> ConnectionClass }
//!          Connections::close(&Thumbprint) -> usize
//!          LocalServer::bind(path, policy)?.serve(router, shutdown).await
//! client   Connection::dial(&HostPort, &ClientTls, &Timeouts).await -> Result<Connection, DialError>
//!          connection.peer() -> &Spki
//!          connection.call::<E>(&params, &body).await -> Result<Answer<E::Response>, CallError>
//!          LocalClient::open(path, answer_within).await?.call::<E>(..)
//! ```
//!
//! **Absent:** pairings, tenants, records, files, and any right to do anything: a [`Gate`] decides.

mod body;
mod caller;
mod client;
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
pub use connections::{Classify, ConnectionClass, Connections};
pub use dial::{DialError, HostPort, HostPortError};
pub use gate::Gate;
pub use handler::{Call, Handler, RawCall, RawHandler, RawReply};
pub use local::{LocalClient, LocalError, LocalServer};
pub use mutation::{Mutation, Mutations, Panicked};
pub use peer::{Origin, PeerKey, Place};
pub use policy::ConnectionPolicy;
pub use respond::{REQUEST_HEADER, Reply};
pub use retry::{Backoff, Retry};
pub use routes::{RouteError, Router, Routes, route_unknown};
pub use server::{Listening, Server};
pub use table::TableError;
