//! The two doors of operators: the token of the operator listener, and the local socket.
//!
//! A certificate never opens an operator's call, and none is asked for.

use std::sync::Arc;

use http::HeaderMap;
use offsite_proto::endpoint::{Access, Class, Row, Values};
use offsite_proto::error::{ErrorCode, Refusal};
use offsite_transport::{Gate, Origin, Place};

use super::context::Operators;
use crate::authority::{Object, permits};
use crate::principal::Principal;
use crate::target::off_runtime;

/// The header that carries a token.
const HEADER: &str = "authtoken";
/// Bytes of a token's text; longer ones are not looked at.
const TOKEN_BYTES_MAX: usize = 256;

/// The gate of the operator listener.
pub(super) struct TokenGate(Arc<Operators>);

impl TokenGate {
    pub(super) const fn new(operators: Arc<Operators>) -> Self {
        Self(operators)
    }
}

impl Gate<Principal> for TokenGate {
    async fn admit(
        &self,
        row: &'static Row,
        _values: &Values,
        _origin: &Origin,
        headers: &HeaderMap,
    ) -> Result<Principal, Refusal> {
        if is_for_anyone(row) {
            return permitted(Principal::Anon, row);
        }
        permitted(recognise(&self.0, headers).await?, row)
    }

    fn approved(&self, principal: &Principal) -> bool {
        *principal != Principal::Anon
    }
}

/// The gate of the local socket. Whoever shows a token there is the person whose token it is, so
/// that a second one can agree to what the first began on the same machine; everybody else is the
/// one whom the kernel names.
pub(super) struct LocalGate(Arc<Operators>);

impl LocalGate {
    pub(super) const fn new(operators: Arc<Operators>) -> Self {
        Self(operators)
    }
}

impl Gate<Principal> for LocalGate {
    async fn admit(
        &self,
        row: &'static Row,
        _values: &Values,
        origin: &Origin,
        headers: &HeaderMap,
    ) -> Result<Principal, Refusal> {
        let Place::Local { uid } = origin.address else {
            return Err(Refusal::new(ErrorCode::Unauthenticated, "this is not the local socket"));
        };
        let principal = match headers.contains_key(HEADER) {
            true => recognise(&self.0, headers).await?,
            false => Principal::LocalRoot { uid },
        };
        permitted(principal, row)
    }

    fn approved(&self, _: &Principal) -> bool {
        true
    }
}

/// Whose token it is; a token that is no good is never passed over.
async fn recognise(operators: &Arc<Operators>, headers: &HeaderMap) -> Result<Principal, Refusal> {
    let token = zeroize::Zeroizing::new(token_of(headers)?.to_owned());
    let operators = Arc::clone(operators);
    off_runtime(move || operators.logins.recognise(&token)).await
}

fn is_for_anyone(row: &Row) -> bool {
    matches!(row.access, Access::AnyOf(classes) if classes.contains(&Class::Anon))
}

fn token_of(headers: &HeaderMap) -> Result<&str, Refusal> {
    let refused = |why| Err(Refusal::new(ErrorCode::Unauthenticated, why));
    let mut given = headers.get_all(HEADER).iter();
    match (given.next(), given.next()) {
        (Some(token), None) if token.len() <= TOKEN_BYTES_MAX => match token.to_str() {
            Ok(token) => Ok(token),
            Err(_) => refused("the token is not known, or no longer good"),
        },
        (Some(_), None) => refused("the token is not known, or no longer good"),
        (None, _) => refused("this call needs a token in the header AuthToken"),
        (Some(_), Some(_)) => refused("the header AuthToken is given more than once"),
    }
}

/// Whether the caller may do this at all; to what, the handler asks.
fn permitted(principal: Principal, row: &Row) -> Result<Principal, Refusal> {
    permits(&principal, row.action, &Object::Unnamed)
        .terms(ErrorCode::Forbidden, "this account has not that right")?;
    Ok(principal)
}
