//! The router: one table of calls, one handler each, and the same order of checks for all of them.
//!
//! Order: head, path, row, method, version, gate, encoding and type of the body, its length, and
//! only then its bytes and the handler. A row without handler answers `not_implemented`, behind the
//! gate like every other.
//!
//! **Absent:** redirects, backtracking, and any route that is not a row.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::future::Future;
use std::marker::PhantomData;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::FutureExt;
use http::header::HeaderValue;
use http::{Request, Response};
use hyper::body::Incoming;
use offsite_model::Luck;
use offsite_proto::endpoint::{Endpoint, Listener, Method, Row, Values};
use offsite_proto::error::{ErrorCode, Refusal};
use offsite_proto::version::ProtocolVersion;
use tokio::time::Instant;
use tower::Service;
use tracing::Instrument;

use crate::body::{BodyStream, Outgoing, Pace};
use crate::gate::{AnyGate, Gate};
use crate::handler::{AnyHandler, Handler, Raw, RawCall, RawHandler, Typed};
use crate::head;
use crate::mutation::Mutations;
use crate::path;
use crate::peer::{Origin, PeerKey, Place};
use crate::pulse::OpenRequest;
use crate::respond::{self, Answer, Manner};
use crate::table::{Found, Table, TableError};

/// The refusal of a path that does not exist. A gate that hides a path refuses with the same value.
#[must_use]
pub fn route_unknown() -> Refusal {
    Refusal::new(ErrorCode::RouteUnknown, "there is no such path")
}

/// Why a router cannot be built.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    /// The table itself is wrong.
    #[error(transparent)]
    Table(#[from] TableError),
    /// A handler was given for a row that this listener does not serve.
    #[error("row {0} is not served by this listener")]
    Foreign(String),
    /// Two handlers were given for one method and path.
    #[error("row {0} has two handlers")]
    Duplicate(&'static str),
}

type Handlers<S, P> = BTreeMap<usize, Arc<dyn AnyHandler<S, P>>>;

/// A router under construction. `S` is the state that all handlers share, `P` the principal.
pub struct Routes<S, P> {
    listener: Listener,
    table: Option<Table>,
    handlers: Handlers<S, P>,
    fault: Option<RouteError>,
    pace: Pace,
    mutations: Mutations,
}

impl<S: Send + Sync + 'static, P: Send + 'static> Routes<S, P> {
    /// The rows of these tables that this listener serves, without handlers.
    #[must_use]
    pub fn new(tables: &[&'static [Row]], listener: Listener) -> Self {
        let (table, fault) = match Table::new(tables, listener) {
            Ok(table) => (Some(table), None),
            Err(error) => (None, Some(error.into())),
        };
        Self {
            listener,
            table,
            handlers: BTreeMap::new(),
            fault,
            pace: Pace::default(),
            mutations: Mutations::new(),
        }
    }

    /// Serves a call.
    #[must_use]
    pub fn on<E: Endpoint>(self, handler: impl Handler<S, E, P>) -> Self {
        let index = self.table.as_ref().and_then(|table| table.index(E::ROW));
        let typed = Typed { handler: Arc::new(handler), call: PhantomData::<fn() -> E> };
        self.put(index, E::ROW.id, Arc::new(typed))
    }

    /// Serves the row of this name with a handler that reads and writes bodies itself.
    #[must_use]
    pub fn raw(self, id: &str, handler: impl RawHandler<S, P>) -> Self {
        let found = self.table.as_ref().and_then(|table| {
            table.entries.iter().enumerate().find(|(_, entry)| entry.row.id == id)
        });
        match found.map(|(index, entry)| (index, entry.row)) {
            Some((index, row)) => {
                self.put(Some(index), id, Arc::new(Raw { row, handler: Arc::new(handler) }))
            }
            None => self.blame(RouteError::Foreign(id.to_owned())),
        }
    }

    /// Sets how fast bodies must come.
    #[must_use]
    pub const fn pace(mut self, pace: Pace) -> Self {
        self.pace = pace;
        self
    }

    /// Shares a list of mutations, where several routers stop as one.
    #[must_use]
    pub fn mutations(mut self, mutations: Mutations) -> Self {
        self.mutations = mutations;
        self
    }

    /// The router with its state and its gate. `luck` makes the numbers of requests.
    ///
    /// # Errors
    /// See [`RouteError`]; the first fault of the whole construction is told.
    pub fn finish(
        self,
        state: Arc<S>,
        gate: impl Gate<P>,
        luck: Arc<dyn Luck>,
    ) -> Result<Arc<Router<S, P>>, RouteError> {
        match (self.fault, self.table) {
            (None, Some(table)) => Ok(Arc::new(Router {
                listener: self.listener,
                table,
                handlers: self.handlers,
                state,
                gate: Box::new(gate),
                luck,
                pace: self.pace,
                mutations: self.mutations,
            })),
            (Some(fault), _) => Err(fault),
            // No table without a fault.
            (None, None) => Err(RouteError::Foreign("table".to_owned())),
        }
    }

    fn put(mut self, index: Option<usize>, id: &str, handler: Arc<dyn AnyHandler<S, P>>) -> Self {
        let Some((index, entry)) = index
            .and_then(|index| self.table.as_ref()?.entries.get(index).map(|entry| (index, entry)))
        else {
            return self.blame(RouteError::Foreign(id.to_owned()));
        };
        let name = entry.row.id;
        match self.handlers.insert(index, handler) {
            None => self,
            Some(_) => self.blame(RouteError::Duplicate(name)),
        }
    }

    fn blame(mut self, fault: RouteError) -> Self {
        self.fault.get_or_insert(fault);
        self
    }
}

/// A request as it came in, and what its connection knows about it.
#[derive(Debug)]
pub struct Arrival {
    pub(crate) request: Request<Incoming>,
    pub(crate) address: Place,
    pub(crate) peer: Option<PeerKey>,
    pub(crate) connection: u64,
    pub(crate) http2: bool,
    pub(crate) open: OpenRequest,
}

/// What a listener can serve: a service of tower that answers every arrival. A [`Router`] is one,
/// and so is a router within layers.
pub trait Answering:
    Service<Arrival, Response = Response<Outgoing>, Error = Infallible, Future: Send>
    + Clone
    + Send
    + Sync
    + 'static
{
}

impl<T> Answering for T where
    T: Service<Arrival, Response = Response<Outgoing>, Error = Infallible, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static
{
}

/// A table with its handlers: what a listener serves, shared by all of its connections.
pub struct Router<S, P> {
    listener: Listener,
    table: Table,
    handlers: Handlers<S, P>,
    state: Arc<S>,
    gate: Box<dyn AnyGate<P>>,
    luck: Arc<dyn Luck>,
    pace: Pace,
    mutations: Mutations,
}

/// Where a refusal was made, which decides how it looks.
struct Refused {
    refusal: Box<Refusal>,
    allow: Vec<Method>,
    challenge: Option<HeaderValue>,
    approved: bool,
    close: bool,
}

impl Refused {
    fn early(refusal: Refusal) -> Self {
        let refusal = Box::new(refusal);
        Self { refusal, allow: Vec::new(), challenge: None, approved: false, close: false }
    }
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        Self::early(refusal)
    }
}

/// Always ready: how many requests there may be at once is a matter of connections and their
/// streams, which are refused before there is a request. Never fails: what goes wrong is an answer
/// too.
impl<S: Send + Sync + 'static, P: Send + 'static> Service<Arrival> for Arc<Router<S, P>> {
    type Response = Response<Outgoing>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Outgoing>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, arrival: Arrival) -> Self::Future {
        let router = Self::clone(self);
        Box::pin(async move { Ok(router.answer(arrival).await) })
    }
}

impl<S: Send + Sync + 'static, P: Send + 'static> Router<S, P> {
    /// The mutations that its handlers have under way.
    #[must_use]
    pub const fn mutations(&self) -> &Mutations {
        &self.mutations
    }

    /// The rows that have no handler yet.
    #[must_use]
    pub fn not_implemented(&self) -> Vec<&'static str> {
        let entries = self.table.entries.iter().enumerate();
        entries
            .filter(|(index, _)| !self.handlers.contains_key(index))
            .map(|(_, entry)| entry.row.id)
            .collect()
    }

    /// Answers one request, within one span, whatever happens in it.
    async fn answer(self: Arc<Self>, arrival: Arrival) -> Response<Outgoing> {
        let Arrival { request, address, peer, connection, http2, mut open } = arrival;
        let origin = Origin { address, peer, request: self.number(), connection, http2 };
        let span = tracing::info_span!(
            "request",
            request = %origin.request,
            peer = origin.peer.as_ref().map(|peer| tracing::field::display(&peer.thumbprint)),
            address = %origin.address,
            method = %request.method(),
            row = tracing::field::Empty,
        );
        let began = Instant::now();
        let head_only = request.method() == http::Method::HEAD;
        let mut manner = self.manner(&origin, request.uri().path());
        let served = AssertUnwindSafe(self.serve(request, origin, &mut manner, &open))
            .catch_unwind()
            .instrument(span.clone())
            .await;
        let answer = served.unwrap_or_else(|_| {
            let refusal = Refusal::new(ErrorCode::Internal, "the call failed on our side");
            respond::refuse(refusal, &[], None, false, &manner)
        });
        span.in_scope(|| {
            let elapsed_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
            tracing::debug!(status = answer.response.status().as_u16(), elapsed_ms, "answered");
        });
        if answer.close {
            open.hang_up_after();
        }
        answer.response.map(|body| {
            let body = if head_only { Outgoing::empty() } else { body };
            body.holding(open)
        })
    }

    async fn serve(
        self: &Arc<Self>,
        request: Request<Incoming>,
        origin: Origin,
        manner: &mut Manner,
        open: &OpenRequest,
    ) -> Answer {
        match self.try_serve(request, origin, manner, open).await {
            Ok(answer) => answer,
            Err(refused) => {
                let Refused { refusal, allow, challenge, approved, close } = refused;
                manner.stranger &= !approved;
                tracing::debug!(code = %refusal.code, cause = %refusal.message, "refused");
                respond::refuse(*refusal, &allow, challenge, close, manner)
            }
        }
    }

    async fn try_serve(
        self: &Arc<Self>,
        request: Request<Incoming>,
        origin: Origin,
        manner: &Manner,
        open: &OpenRequest,
    ) -> Result<Answer, Refused> {
        let (head, body) = request.into_parts();
        head::check(&head)?;
        let (index, row, values) = self.route(&head)?;
        tracing::Span::current().record("row", row.id);
        let version =
            if manner.versioned { head::version(&head.headers)? } else { ProtocolVersion::V1 };

        let admitted = self.gate.admit(row, &values, &origin, &head.headers).await;
        let principal = admitted.map_err(|refusal| {
            let challenge = (refusal.code == ErrorCode::Unauthenticated)
                .then(|| self.gate.challenge(row, &origin))
                .flatten();
            Refused { challenge, ..Refused::early(refusal) }
        })?;
        let approved = self.gate.approved(&principal);
        if approved {
            open.approve();
        }
        let late = |refusal| Refused { approved, ..Refused::early(refusal) };

        let handler = self.handlers.get(&index).ok_or_else(|| {
            late(Refusal::new(ErrorCode::NotImplemented, "this call is not part of this build"))
        })?;
        head::check_encoding(&head.headers).map_err(late)?;
        // What is left of a body that was refused is not worth reading.
        let body = BodyStream::new(body, row.request_bytes_max, self.pace)
            .map_err(|refusal| Refused { close: true, ..late(refusal) })?;
        let call = RawCall {
            principal,
            values,
            headers: head.headers,
            body,
            from: origin,
            version,
            mutations: self.mutations.clone(),
        };
        let mut known = manner.clone();
        known.stranger &= !approved;
        handler.serve(Arc::clone(&self.state), call, known).await.map_err(late)
    }

    fn route(&self, head: &http::request::Parts) -> Result<(usize, &'static Row, Values), Refused> {
        let segments = path::segments(head.uri.path())?;
        let (index, mut values) = match self.table.find(&head.method, &segments) {
            Found::Row(index, values) => (index, values),
            Found::OtherMethods(allow) => {
                let refusal =
                    Refusal::new(ErrorCode::MethodNotAllowed, "this path takes other methods");
                return Err(Refused { allow, ..Refused::early(refusal) });
            }
            Found::Malformed(name) => {
                let sentence = format!("the parameter {name} is malformed");
                return Err(Refusal::new(ErrorCode::BadRequest, sentence).into());
            }
            Found::Unknown => return Err(route_unknown().into()),
        };
        let row = self.table.entries.get(index).ok_or_else(route_unknown)?.row;
        path::read_query(head.uri.query().unwrap_or_default(), row, &mut values)?;
        Ok((index, row, values))
    }

    /// Sixteen random digits: a running number would tell strangers how busy we are.
    fn number(&self) -> String {
        let mut bytes = [0; 8];
        self.luck.fill(&mut bytes);
        format!("{:016x}", u64::from_be_bytes(bytes))
    }

    fn manner(&self, origin: &Origin, path: &str) -> Manner {
        let operator = self.listener == Listener::Operator || self.listener == Listener::Both;
        Manner {
            request: origin.request.clone(),
            // The published list A and its neighbours; the admin API beside them is our own.
            list_a: operator && path.starts_with("/api/") && !path.starts_with("/api/v1/"),
            stranger: !matches!(origin.address, Place::Local { .. }),
            http2: origin.http2,
            versioned: path.starts_with("/replicationcomms/"),
        }
    }
}
