//! The door before every handler: it turns an origin and its headers into a principal, or refuses.
//!
//! It is asked on every request, before one byte of the body is read, so that revocation bites on
//! open connections too and nobody who may not call can make us parse anything.

use std::future::Future;
use std::pin::Pin;

use http::{HeaderMap, HeaderValue};
use offsite_proto::endpoint::{Row, Values};
use offsite_proto::error::Refusal;

use crate::peer::Origin;

/// Decides who may make a call. `P` is what the core knows a caller as.
pub trait Gate<P>: Send + Sync + 'static {
    /// The principal, if its class opens this row.
    ///
    /// # Errors
    /// The refusal that the caller gets. A path that is to look absent is refused with
    /// [`crate::route_unknown`], which is the very answer that an absent path gives.
    fn admit(
        &self,
        row: &'static Row,
        values: &Values,
        origin: &Origin,
        headers: &HeaderMap,
    ) -> impl Future<Output = Result<P, Refusal>> + Send;

    /// Whether this principal may read sentences and facts in errors. Everybody else gets a code
    /// and the number of the request; so does whoever was not admitted, unless on the local socket.
    fn approved(&self, principal: &P) -> bool;

    /// The challenge that goes with an `unauthenticated`, if this door has one to give.
    fn challenge(&self, _row: &'static Row, _origin: &Origin) -> Option<HeaderValue> {
        None
    }
}

/// [`Gate`] without its type, for the router.
pub(crate) trait AnyGate<P>: Send + Sync {
    fn admit<'a>(
        &'a self,
        row: &'static Row,
        values: &'a Values,
        origin: &'a Origin,
        headers: &'a HeaderMap,
    ) -> Pin<Box<dyn Future<Output = Result<P, Refusal>> + Send + 'a>>;

    fn approved(&self, principal: &P) -> bool;

    fn challenge(&self, row: &'static Row, origin: &Origin) -> Option<HeaderValue>;
}

impl<P: 'static, G: Gate<P>> AnyGate<P> for G {
    fn admit<'a>(
        &'a self,
        row: &'static Row,
        values: &'a Values,
        origin: &'a Origin,
        headers: &'a HeaderMap,
    ) -> Pin<Box<dyn Future<Output = Result<P, Refusal>> + Send + 'a>> {
        Box::pin(Gate::admit(self, row, values, origin, headers))
    }

    fn approved(&self, principal: &P) -> bool {
        Gate::approved(self, principal)
    }

    fn challenge(&self, row: &'static Row, origin: &Origin) -> Option<HeaderValue> {
        Gate::challenge(self, row, origin)
    }
}
