//! Handlers: what a core hands in, and the one shape in which the router keeps all of them.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use http::HeaderMap;
use http::header::{CONTENT_TYPE, HeaderValue};
use offsite_proto::endpoint::{Body, Endpoint, Media, Method, Params, Row, Values};
use offsite_proto::error::{ErrorCode, Refusal};
use offsite_proto::version::ProtocolVersion;

use crate::body::{BodyStream, Outgoing};
use crate::mutation::Mutations;
use crate::peer::Origin;
use crate::respond::{self, Answer, Manner, Reply};

/// A call with everything parsed: what a typed handler gets.
#[derive(Debug)]
pub struct Call<E: Endpoint, P> {
    /// Who calls, as the gate said.
    pub principal: P,
    /// The values of path and query.
    pub params: E::Params,
    /// The body.
    pub body: E::Request,
    /// Where the call came from.
    pub from: Origin,
    /// The version of the protocol that the caller speaks.
    pub version: ProtocolVersion,
}

/// A call whose body has not been read: what the handler of a record stream gets.
#[derive(Debug)]
pub struct RawCall<P> {
    /// Who calls, as the gate said.
    pub principal: P,
    /// The values of path and query, not parsed.
    pub values: Values,
    /// The headers of the request.
    pub headers: HeaderMap,
    /// The body, bounded by the row's limit.
    pub body: BodyStream,
    /// Where the call came from.
    pub from: Origin,
    /// The version of the protocol that the caller speaks.
    pub version: ProtocolVersion,
    /// Where work goes on that writes the answer after its head is out.
    pub mutations: Mutations,
}

/// The answer of a raw handler: a body with its media type.
#[derive(Debug)]
pub struct RawReply {
    /// Status, headers and body.
    pub reply: Reply<Outgoing>,
    /// The media type; `None` for an answer without body.
    pub media: Option<HeaderValue>,
}

/// An async function that serves a call.
pub trait Handler<S, E: Endpoint, P>: Send + Sync + 'static {
    /// Serves it.
    fn serve(
        &self,
        state: Arc<S>,
        call: Call<E, P>,
    ) -> impl Future<Output = Result<Reply<E::Response>, Refusal>> + Send + 'static;
}

impl<S, E: Endpoint, P, F, W> Handler<S, E, P> for F
where
    F: Fn(Arc<S>, Call<E, P>) -> W + Send + Sync + 'static,
    W: Future<Output = Result<Reply<E::Response>, Refusal>> + Send + 'static,
{
    fn serve(
        &self,
        state: Arc<S>,
        call: Call<E, P>,
    ) -> impl Future<Output = Result<Reply<E::Response>, Refusal>> + Send + 'static {
        self(state, call)
    }
}

/// An async function that serves a call and reads its body itself.
pub trait RawHandler<S, P>: Send + Sync + 'static {
    /// Serves it.
    fn serve(
        &self,
        state: Arc<S>,
        call: RawCall<P>,
    ) -> impl Future<Output = Result<RawReply, Refusal>> + Send + 'static;
}

impl<S, P, F, W> RawHandler<S, P> for F
where
    F: Fn(Arc<S>, RawCall<P>) -> W + Send + Sync + 'static,
    W: Future<Output = Result<RawReply, Refusal>> + Send + 'static,
{
    fn serve(
        &self,
        state: Arc<S>,
        call: RawCall<P>,
    ) -> impl Future<Output = Result<RawReply, Refusal>> + Send + 'static {
        self(state, call)
    }
}

pub(crate) type Serving = Pin<Box<dyn Future<Output = Result<Answer, Refusal>> + Send>>;

/// Any handler, without the type of its call.
pub(crate) trait AnyHandler<S, P>: Send + Sync {
    fn serve(&self, state: Arc<S>, call: RawCall<P>, manner: Manner) -> Serving;
}

pub(crate) struct Typed<E, H> {
    pub(crate) handler: Arc<H>,
    pub(crate) call: std::marker::PhantomData<fn() -> E>,
}

impl<S, E, P, H> AnyHandler<S, P> for Typed<E, H>
where
    S: Send + Sync + 'static,
    P: Send + 'static,
    E: Endpoint,
    H: Handler<S, E, P>,
{
    fn serve(&self, state: Arc<S>, call: RawCall<P>, manner: Manner) -> Serving {
        let handler = Arc::clone(&self.handler);
        Box::pin(async move {
            let mutations = call.mutations.clone();
            let call = parse::<E, P>(call).await?;
            let work = async move { handler.serve(state, call).await };
            let reply = run(E::ROW, &mutations, work).await?;
            Ok(respond::reply(reply, &manner))
        })
    }
}

pub(crate) struct Raw<H> {
    pub(crate) row: &'static Row,
    pub(crate) handler: Arc<H>,
}

impl<S, P, H> AnyHandler<S, P> for Raw<H>
where
    S: Send + Sync + 'static,
    P: Send + 'static,
    H: RawHandler<S, P>,
{
    fn serve(&self, state: Arc<S>, call: RawCall<P>, manner: Manner) -> Serving {
        let handler = Arc::clone(&self.handler);
        let row = self.row;
        Box::pin(async move {
            let mutations = call.mutations.clone();
            let work = async move { handler.serve(state, call).await };
            let RawReply { reply, media } = run(row, &mutations, work).await?;
            Ok(respond::streamed(reply, media, &manner))
        })
    }
}

/// Runs a handler: everything but a GET in a task of its own, which a disconnect cannot cut.
async fn run<T: Send + 'static>(
    row: &Row,
    mutations: &Mutations,
    work: impl Future<Output = Result<T, Refusal>> + Send + 'static,
) -> Result<T, Refusal> {
    if row.method == Method::Get {
        return work.await;
    }
    mutations.spawn(work).await.unwrap_or_else(|panicked| {
        tracing::error!(cause = %panicked, "a request failed");
        Err(Refusal::new(ErrorCode::Internal, "the call failed on our side"))
    })
}

async fn parse<E: Endpoint, P>(call: RawCall<P>) -> Result<Call<E, P>, Refusal> {
    let params = E::Params::read(&call.values)?;
    check_media(E::Request::MEDIA, &call)?;
    let body = E::Request::decode(&call.body.whole().await?)?;
    Ok(Call { principal: call.principal, params, body, from: call.from, version: call.version })
}

/// A body says what it is. That a form or plain text is refused also keeps pages of other sites
/// from posting in an operator's name.
fn check_media<P>(media: Media, call: &RawCall<P>) -> Result<(), Refusal> {
    if call.body.is_end() || media == Media::Empty {
        return Ok(());
    }
    let wanted = respond::media_type(media).unwrap_or_default();
    let essence = |text: &str| text.split(';').next().unwrap_or_default().trim().to_owned();
    let given = call.headers.get_all(CONTENT_TYPE).iter().collect::<Vec<_>>();
    match given[..] {
        [one]
            if one
                .to_str()
                .is_ok_and(|text| essence(text).eq_ignore_ascii_case(&essence(wanted))) =>
        {
            Ok(())
        }
        _ => Err(Refusal::new(
            ErrorCode::MediaTypeUnsupported,
            format!("the body must be of the media type {wanted}"),
        )),
    }
}
