//! The table of calls: method, path, who may call, how large the body may be.
//!
//! Authority is a constant of the call and not an `if` in a handler: a call without a [`Class`] and
//! an [`Action`] does not compile, and the router refuses to start on a gap or a duplicate.

use std::fmt;

use crate::error::{ErrorCode, Refusal};
use crate::stream::StreamKind;

/// An HTTP method that some call uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Method {
    /// GET; HEAD follows it.
    Get,
    /// POST.
    Post,
    /// PUT.
    Put,
    /// DELETE.
    Delete,
}

impl Method {
    /// The token of RFC 9110.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Delete => "DELETE",
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Where a call is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Listener {
    /// The target's listener for sources: client certificate requested, never a token.
    Replication,
    /// The target's listener for operators: `AuthToken` or cookie, never a certificate. The same
    /// calls are answered on the target's local socket.
    Operator,
    /// Both listeners of the target.
    Both,
    /// The source's local socket (and, later, its console).
    Source,
}

/// How a caller is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// Anyone.
    Anon,
    /// A source whose TLS key is that of a pending or resolved request.
    Enrolling,
    /// A source whose TLS key is pinned to an active pairing, checked on every request.
    Cert,
    /// An administrator of the target, by NTLM or `AuthToken`, on the replication listener.
    Admin,
    /// An operator, by `AuthToken` or cookie, on the operator listener; or the local socket.
    Token,
}

impl Class {
    /// The word of the appendix of the operations table.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Anon => "ANON",
            Self::Enrolling => "ENROLLING",
            Self::Cert => "CERT",
            Self::Admin => "ADMIN",
            Self::Token => "TOKEN",
        }
    }
}

/// Which classes open a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Any one of these.
    AnyOf(&'static [Class]),
    /// The query `useCredentials` chooses: the first when false, the second when true.
    ByQuery(Class, Class),
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AnyOf(classes) => {
                let words: Vec<_> = classes.iter().map(|class| class.as_str()).collect();
                f.write_str(&words.join("|"))
            }
            Self::ByQuery(without, with) => write!(f, "{}?{}", without.as_str(), with.as_str()),
        }
    }
}

/// What a call does, as a row of the authorisation table (`docs/security.md`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Action {
    /// Liveness, without version or name.
    Liveness,
    /// Protocol version, target public key, core id.
    Greet,
    /// Submit a pairing request.
    SubmitRequest,
    /// Poll the own request, fetch the own certificate, withdraw.
    PollRequest,
    /// Calls by an administrator's credential on the replication listener.
    Demand,
    /// Renew the own certificate (row 44 over a certificate).
    Renew,
    /// Ask for the state of the own pairing (row 45).
    PairingState,
    /// Open sessions, negotiate, upload, commit, poke.
    Replicate,
    /// Ask for more agents.
    AskForAgents,
    /// List recovery points and usage.
    ListPoints,
    /// Read data back, restore, export.
    ReadBack,
    /// Request a deletion (tombstone).
    RequestDelete,
    /// Take a deletion back.
    Undelete,
    /// Damaged list of own points; heal.
    Heal,
    /// Purge, shorten a governance lock, delete a tenant, adopt an identity, export keys, credit
    /// the clock.
    FourEyes,
    /// List pairing requests.
    ListRequests,
    /// Accept, reject or ignore a pairing request.
    DecideRequest,
    /// Revoke a source, the safe direction.
    RevokeSource,
    /// Close or open pairing.
    ClosePairing,
    /// Retention policy; lengthen lock, quota, windows.
    SetPolicy,
    /// Tokens, users, roles, tenants, configuration.
    Administer,
    /// Make or revoke one's own token, read one's own account.
    OwnToken,
    /// Trigger garbage collection, scrub, verify.
    Upkeep,
    /// Read or verify the audit log.
    ReadAudit,
    /// Metrics.
    ReadMetrics,
    /// State of the daemon, its systems and its storage, for its operators.
    ReadStatus,
    /// Open an operator session with a password.
    Login,
    /// Anything at the source's own local socket: its operators are the owner of the socket and
    /// root.
    SourceOperator,
}

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// The row's name: `01` to `60`, `P1`, `N2`, or the admin API's name.
    pub id: &'static str,
    /// The method.
    pub method: Method,
    /// The published path, with `{name}` for parameters, without query.
    pub path: &'static str,
    /// Query parameters, in the published order.
    pub query: &'static [&'static str],
    /// Who may call.
    pub access: Access,
    /// What it does, for the authorisation table.
    pub action: Action,
    /// Where it is served.
    pub listener: Listener,
    /// The largest request body in bytes; 0 where no body is allowed.
    pub request_bytes_max: u64,
}

impl Row {
    /// The segments of the path, without empty ones: an optional trailing slash is accepted
    /// everywhere.
    pub fn segments(&self) -> impl Iterator<Item = Segment> {
        self.path.split('/').filter(|text| !text.is_empty()).map(|text| {
            text.strip_prefix('{')
                .and_then(|name| name.strip_suffix('}'))
                .map_or(Segment::Literal(text), Segment::Parameter)
        })
    }
}

/// One segment of a published path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Segment {
    /// This text exactly, case-sensitive.
    Literal(&'static str),
    /// A value under this name.
    Parameter(&'static str),
}

/// The values of a call's path and query, by published name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Values(Vec<(String, String)>);

impl Values {
    /// No values.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a value; the first one under a name counts.
    pub fn insert(&mut self, name: &str, value: impl Into<String>) {
        self.0.push((name.to_owned(), value.into()));
    }

    /// The value under this name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(candidate, _)| candidate == name).map(|(_, value)| value.as_str())
    }

    /// How many values stand under this name.
    #[must_use]
    pub fn count(&self, name: &str) -> usize {
        self.0.iter().filter(|(candidate, _)| candidate == name).count()
    }

    /// Parses the value under this name.
    ///
    /// # Errors
    /// `bad_request` where it is absent or does not parse.
    pub fn parse<T: std::str::FromStr>(&self, name: &str) -> Result<T, Refusal> {
        self.parse_optional(name)?.ok_or_else(|| {
            Refusal::new(ErrorCode::BadRequest, format!("the parameter {name} is missing"))
        })
    }

    /// Parses the value under this name, if there is one.
    ///
    /// # Errors
    /// `bad_request` where it does not parse or is given twice.
    pub fn parse_optional<T: std::str::FromStr>(&self, name: &str) -> Result<Option<T>, Refusal> {
        if self.count(name) > 1 {
            return Err(Refusal::new(
                ErrorCode::BadRequest,
                format!("the parameter {name} is given more than once"),
            ));
        }
        self.find(name)
            .map(|text| {
                text.parse().map_err(|_| {
                    Refusal::new(
                        ErrorCode::BadRequest,
                        format!("the parameter {name} is malformed"),
                    )
                })
            })
            .transpose()
    }

    /// Reads a boolean query: `true false True False 1 0`, absent as `default`.
    ///
    /// # Errors
    /// `bad_request` for anything else.
    pub fn flag(&self, name: &str, default: Option<bool>) -> Result<bool, Refusal> {
        match (self.parse_optional::<String>(name)?.as_deref(), default) {
            (Some("true" | "True" | "1"), _) => Ok(true),
            (Some("false" | "False" | "0"), _) => Ok(false),
            (None, Some(default)) => Ok(default),
            (None, None) => Err(Refusal::new(
                ErrorCode::BadRequest,
                format!("the parameter {name} must be given"),
            )),
            (Some(_), _) => Err(Refusal::new(
                ErrorCode::BadRequest,
                format!("the parameter {name} is neither true nor false"),
            )),
        }
    }
}

/// The parameters of a call, parsed once into a type that cannot be wrong.
pub trait Params: Sized + Send + Sync + 'static {
    /// Reads them from path and query.
    ///
    /// # Errors
    /// `bad_request` where one is missing or malformed.
    fn read(values: &Values) -> Result<Self, Refusal>;

    /// Writes them for path and query.
    fn write(&self, values: &mut Values);
}

impl Params for () {
    fn read(_: &Values) -> Result<Self, Refusal> {
        Ok(())
    }

    fn write(&self, _: &mut Values) {}
}

/// Declares a parameter struct: each field is one path or query value under its published name.
#[macro_export]
macro_rules! params {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty = $published:literal),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct $name { $($(#[$field_doc])* pub $field: $type,)* }

        impl $crate::endpoint::Params for $name {
            fn read(values: &$crate::endpoint::Values) -> Result<Self, $crate::error::Refusal> {
                Ok(Self { $($field: values.parse($published)?,)* })
            }

            fn write(&self, values: &mut $crate::endpoint::Values) {
                $(values.insert($published, self.$field.to_string());)*
            }
        }
    };
}

/// What a body is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Media {
    /// No body at all.
    Empty,
    /// `application/json`.
    Json,
    /// `application/x-pem-file`.
    Pem,
    /// `text/plain`.
    Text,
    /// A bitmap of blocks: `application/vnd.offsite.bitmap`.
    Bitmap,
}

/// A whole body that is read and written at once. Record streams have their own path in `stream`.
pub trait Body: Sized + Send + 'static {
    /// What it is made of.
    const MEDIA: Media;

    /// Reads it from bytes that are already bounded.
    ///
    /// # Errors
    /// `bad_request` where they are malformed.
    fn decode(bytes: &[u8]) -> Result<Self, Refusal>;

    /// Writes it.
    fn encode(&self) -> Vec<u8>;
}

/// One call, typed: what `transport`'s client sends and its router serves.
pub trait Endpoint: 'static {
    /// Its row of the table.
    const ROW: &'static Row;
    /// The values in path and query.
    type Params: Params;
    /// The body of the request.
    type Request: Body;
    /// The body of the answer.
    type Response: Body;
}

/// Declares the type of a call whose row stands in the table.
#[macro_export]
macro_rules! endpoint {
    ($(#[$doc:meta])* $name:ident = $row:expr, $params:ty, $request:ty => $response:ty) => {
        $(#[$doc])*
        #[derive(Debug)]
        pub struct $name;

        impl $crate::endpoint::Endpoint for $name {
            const ROW: &'static $crate::endpoint::Row = &$row;
            type Params = $params;
            type Request = $request;
            type Response = $response;
        }
    };
}

/// One call that carries a record stream, at least downwards: routed with its body unread.
pub trait StreamEndpoint: 'static {
    /// Its row of the table.
    const ROW: &'static Row;
    /// What the request carries: a stream, or a whole body of the type [`Self::Request`].
    const UP: Up;
    /// The stream of the answer.
    const DOWN: StreamKind;
    /// The values in path and query.
    type Params: Params;
    /// The body of a request that is no stream; `()` where it is one.
    type Request: Body;
}

/// What the request of a [`StreamEndpoint`] carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Up {
    /// A stream of this kind, read while the answer is written.
    Stream(StreamKind),
    /// A whole body of this kind.
    Body(Media),
}

/// Declares the type of a call that carries a stream: `Stream(kind) => kind` or `Body(type) =>
/// kind`.
#[macro_export]
macro_rules! stream_endpoint {
    ($(#[$doc:meta])* $name:ident = $row:expr, $params:ty, Stream($up:expr) => $down:expr) => {
        $crate::stream_endpoint! { @ $(#[$doc])* $name, $row, $params, (), $crate::endpoint::Up::Stream($up), $down }
    };
    ($(#[$doc:meta])* $name:ident = $row:expr, $params:ty, Body($request:ty) => $down:expr) => {
        $crate::stream_endpoint! {
            @ $(#[$doc])* $name, $row, $params, $request,
            $crate::endpoint::Up::Body(<$request as $crate::endpoint::Body>::MEDIA), $down
        }
    };
    (@ $(#[$doc:meta])* $name:ident, $row:expr, $params:ty, $request:ty, $up:expr, $down:expr) => {
        $(#[$doc])*
        #[derive(Debug)]
        pub struct $name;

        impl $crate::endpoint::StreamEndpoint for $name {
            const ROW: &'static $crate::endpoint::Row = &$row;
            const UP: $crate::endpoint::Up = $up;
            const DOWN: $crate::stream::StreamKind = $down;
            type Params = $params;
            type Request = $request;
        }
    };
}
