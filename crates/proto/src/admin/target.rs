//! What the target daemon answers under `/api/v1`, on its operator listener and its local socket.
//!
//! The command line `offsite-target` is the first client of these calls, the console the next. Who
//! may call what is the action of each row; the rest of the decision is the target's table.
//!
//! **Absent:** list A and its neighbours, which are published; they stand in `operator`.

mod accounts;
mod points;
mod retention;
mod role;
mod sources;

pub use accounts::{
    AddEnrolment, AddToken, AddUser, Approval, Approve, AuditEntry, AuditVerified, ChangeUser,
    Changed, Enrolment, EnrolmentAdded, Fact, Token, TokenAdded, User,
};
pub use points::{OfContent, OfPoint, OfVerify, Point};
pub use retention::{
    AgentDeleted, CreditClock, OfPreview, OfRetention, PolicyShown, Previewed, PreviewedPoint,
    Retention, SetRetention, ShortenLock, ShortenSoftDelete,
};
pub use role::{Role, RoleError};
pub use sources::{
    Accept, AddStorage, AddTenant, Adopt, Agent, ChangeTenant, Decided, OpenPairing, Pairing,
    Reject, Request, RequestedAgent, Source, SourceAgent, Storage, Tenant,
};

use offsite_model::CoreId;
use serde::{Deserialize, Serialize};

use crate::admin::upkeep::Upkeep;
use crate::endpoint;
use crate::endpoint::{Access, Action, Class, Listener, Method, Params, Row, Values};
use crate::error::Refusal;
use crate::json::Json;
use crate::limits::JSON_BYTES_MAX;
use crate::text::{Text, Time};

macro_rules! target_rows {
    ($($name:ident: $id:literal $method:ident $path:literal [$($query:literal),*] $action:ident, $bytes:expr;)*) => {
        $(
            #[doc = concat!("The target's call `", $id, "`: `", $path, "`.")]
            pub const $name: Row = Row {
                id: $id,
                method: Method::$method,
                path: $path,
                query: &[$($query),*],
                access: Access::AnyOf(&[Class::Token]),
                action: Action::$action,
                listener: Listener::Operator,
                request_bytes_max: $bytes,
            };
        )*

        /// Every call of this module.
        pub const ROWS: &[Row] = &[$($name),*];
    };
}

target_rows! {
    STATUS: "T-status" Get "/api/v1/status" [] ReadStatus, 0;
    FINGERPRINT: "T-fingerprint" Get "/api/v1/fingerprint" [] ReadStatus, 0;
    DOCTOR: "T-doctor" Get "/api/v1/doctor" [] ReadStatus, 0;
    REQUESTS_LIST: "T-requests-list" Get "/api/v1/requests" ["all"] ListRequests, 0;
    REQUESTS_SHOW: "T-requests-show" Get "/api/v1/requests/{request}" [] ListRequests, 0;
    REQUESTS_ACCEPT: "T-requests-accept" Post "/api/v1/requests/{request}/accept" [] DecideRequest, JSON_BYTES_MAX;
    REQUESTS_REJECT: "T-requests-reject" Post "/api/v1/requests/{request}/reject" [] DecideRequest, JSON_BYTES_MAX;
    SOURCES_LIST: "T-sources-list" Get "/api/v1/sources" [] ReadStatus, 0;
    SOURCES_SHOW: "T-sources-show" Get "/api/v1/sources/{source}" [] ReadStatus, 0;
    SOURCES_REVOKE: "T-sources-revoke" Post "/api/v1/sources/{source}/revoke" [] RevokeSource, 0;
    SOURCES_ALLOW_RESTORE: "T-sources-allow-restore" Post "/api/v1/sources/{source}/allow-restore" [] DecideRequest, 0;
    SOURCES_DENY_RESTORE: "T-sources-deny-restore" Post "/api/v1/sources/{source}/deny-restore" [] RevokeSource, 0;
    SOURCES_ADOPT: "T-sources-adopt" Post "/api/v1/sources/{source}/adopt" [] FourEyes, JSON_BYTES_MAX;
    TENANTS_LIST: "T-tenants-list" Get "/api/v1/tenants" [] ReadStatus, 0;
    TENANTS_ADD: "T-tenants-add" Post "/api/v1/tenants" [] Administer, JSON_BYTES_MAX;
    TENANTS_SET: "T-tenants-set" Put "/api/v1/tenants/{tenant}" [] SetPolicy, JSON_BYTES_MAX;
    TENANTS_SHORTEN: "T-tenants-shorten" Post "/api/v1/tenants/{tenant}/shorten-lock" [] FourEyes, JSON_BYTES_MAX;
    TENANTS_DELETE: "T-tenants-delete" Delete "/api/v1/tenants/{tenant}" [] FourEyes, 0;
    AGENTS_LIST: "T-agents-list" Get "/api/v1/agents" [] ListPoints, 0;
    AGENTS_SHOW: "T-agents-show" Get "/api/v1/agents/{agent}" [] ListPoints, 0;
    AGENTS_DELETE: "T-agents-delete" Delete "/api/v1/agents/{agent}" [] RequestDelete, 0;
    POINTS_LIST: "T-points-list" Get "/api/v1/agents/{agent}/points" [] ListPoints, 0;
    POINTS_SHOW: "T-points-show" Get "/api/v1/points/{point}" [] ListPoints, 0;
    POINTS_DELETE: "T-points-delete" Delete "/api/v1/points/{point}" [] RequestDelete, 0;
    POINTS_UNDELETE: "T-points-undelete" Post "/api/v1/points/{point}/undelete" [] Undelete, 0;
    POINTS_PURGE: "T-points-purge" Post "/api/v1/points/{point}/purge" [] FourEyes, 0;
    RETENTION_SHOW: "T-retention-show" Get "/api/v1/retention" ["agent"] ListPoints, 0;
    RETENTION_SET: "T-retention-set" Put "/api/v1/retention" ["agent"] SetPolicy, JSON_BYTES_MAX;
    RETENTION_PREVIEW: "T-retention-preview" Get "/api/v1/retention/preview" ["agent", "policy"] ListPoints, 0;
    RETENTION_SHORTEN: "T-retention-shorten" Post "/api/v1/retention/shorten" [] FourEyes, JSON_BYTES_MAX;
    RETENTION_CREDIT: "T-retention-credit" Post "/api/v1/retention/credit" [] FourEyes, JSON_BYTES_MAX;
    CONTENT: "T-volumes-content" Get "/api/v1/agents/{agent}/volumes/{volume}/content" ["point"] ReadBack, 0;
    VERIFY: "T-verify" Post "/api/v1/verify" ["agent"] Upkeep, 0;
    STORAGE_LIST: "T-storage-list" Get "/api/v1/storage" [] ReadStatus, 0;
    STORAGE_ADD: "T-storage-add" Post "/api/v1/storage" [] Administer, JSON_BYTES_MAX;
    USERS_LIST: "T-users-list" Get "/api/v1/users" [] Administer, 0;
    USERS_ADD: "T-users-add" Post "/api/v1/users" [] Administer, JSON_BYTES_MAX;
    USERS_CHANGE: "T-users-change" Put "/api/v1/users/{user}" [] Administer, JSON_BYTES_MAX;
    USERS_REMOVE: "T-users-remove" Delete "/api/v1/users/{user}" [] Administer, 0;
    TOKENS_LIST: "T-tokens-list" Get "/api/v1/tokens" [] OwnToken, 0;
    TOKENS_ADD: "T-tokens-add" Post "/api/v1/tokens" [] OwnToken, JSON_BYTES_MAX;
    TOKENS_REVOKE: "T-tokens-revoke" Delete "/api/v1/tokens/{token}" [] OwnToken, 0;
    APPROVALS_LIST: "T-approvals-list" Get "/api/v1/approvals" [] FourEyes, 0;
    APPROVALS_APPROVE: "T-approvals-approve" Post "/api/v1/approvals/{approval}/approve" [] FourEyes, JSON_BYTES_MAX;
    APPROVALS_REJECT: "T-approvals-reject" Post "/api/v1/approvals/{approval}/reject" [] FourEyes, 0;
    AUDIT_LIST: "T-audit-list" Get "/api/v1/audit" ["limit"] ReadAudit, 0;
    AUDIT_VERIFY: "T-audit-verify" Get "/api/v1/audit/verify" [] ReadAudit, 0;
    PAIRING_SHOW: "T-pairing-show" Get "/api/v1/pairing" [] ReadStatus, 0;
    PAIRING_OPEN: "T-pairing-open" Post "/api/v1/pairing/open" [] Administer, JSON_BYTES_MAX;
    PAIRING_CLOSE: "T-pairing-close" Post "/api/v1/pairing/close" [] ClosePairing, 0;
    ENROLMENT_LIST: "T-enrolment-list" Get "/api/v1/enrolment" [] ListRequests, 0;
    ENROLMENT_ADD: "T-enrolment-add" Post "/api/v1/enrolment" [] DecideRequest, JSON_BYTES_MAX;
}

/// Declares the one text in a path: an id, a short number or a name, told apart by the target.
macro_rules! named {
    ($($(#[$doc:meta])* $name:ident = $published:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct $name(pub String);

        impl Params for $name {
            fn read(values: &Values) -> Result<Self, Refusal> {
                values.parse($published).map(Self)
            }

            fn write(&self, values: &mut Values) {
                values.insert($published, self.0.clone());
            }
        }
    )*};
}

named! {
    /// A request: its id or its short number.
    OfRequest = "request";
    /// A source: its id or its name.
    OfSource = "source";
    /// A tenant: its id or its name.
    OfTenant = "tenant";
    /// An agent: its id, `SOURCE/NAME`, or its name where only one has it.
    OfAgent = "agent";
    /// An account: its name.
    OfUser = "user";
    /// A token: its id.
    OfToken = "token";
    /// An approval: its id.
    OfApproval = "approval";
}

/// Which requests are listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestsShown {
    /// Decided and lapsed ones too, while they are remembered.
    pub all: bool,
}

impl Params for RequestsShown {
    fn read(values: &Values) -> Result<Self, Refusal> {
        Ok(Self { all: values.flag("all", Some(false))? })
    }

    fn write(&self, values: &mut Values) {
        values.insert("all", self.all.to_string());
    }
}

/// How many entries of the audit log are listed, newest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuditShown {
    /// At most so many.
    pub limit: Option<u32>,
}

impl Params for AuditShown {
    fn read(values: &Values) -> Result<Self, Refusal> {
        Ok(Self { limit: values.parse_optional("limit")? })
    }

    fn write(&self, values: &mut Values) {
        if let Some(limit) = self.limit {
            values.insert("limit", limit.to_string());
        }
    }
}

/// The daemon, at a glance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Version of the program.
    pub version: String,
    /// Seconds since the daemon began to serve.
    pub uptime_seconds: u64,
    /// `serving`, or `stopping` while it ends.
    pub state: String,
    /// The target's core id.
    pub target_id: Text<CoreId>,
    /// Its name.
    pub name: String,
    /// Whether pairing is open for newcomers.
    pub pairing_open: bool,
    /// Requests that wait for a decision, as far as the caller sees them.
    pub requests_waiting: usize,
    /// Sources, as far as the caller sees them.
    pub sources: usize,
    /// Space and damage of the store; for who is not limited to tenants.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upkeep: Option<Upkeep>,
    /// What a person should have looked at in the last days, newest first, as far as the caller
    /// sees it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub alarms: Vec<Alarm>,
}

/// Something unusual. Nothing was done because of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alarm {
    /// When it was seen.
    pub at: Time,
    /// What, by the word of the audit log.
    pub what: String,
    /// Whose, and how much.
    pub facts: Vec<Fact>,
}

/// How a source's operator recognises this target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint {
    /// The target's core id.
    pub target_id: Text<CoreId>,
    /// Its name.
    pub name: String,
    /// SHA-256 of its public key, in lower-case hexadecimal.
    pub fingerprint: String,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// What.
    pub name: String,
    /// Whether it is well.
    pub ok: bool,
    /// What was found; where it is not well, what to do.
    pub finding: String,
}

endpoint! {
    /// The daemon, at a glance.
    ReadStatus = STATUS, (), () => Json<Status>
}
endpoint! {
    /// The target's fingerprint.
    ReadFingerprint = FINGERPRINT, (), () => Json<Fingerprint>
}
endpoint! {
    /// Looks at everything that commonly goes wrong.
    RunDoctor = DOCTOR, (), () => Json<Vec<Check>>
}
endpoint! {
    /// Requests that wait for a decision.
    ListRequests = REQUESTS_LIST, RequestsShown, () => Json<Vec<Request>>
}
endpoint! {
    /// One request.
    ShowRequest = REQUESTS_SHOW, OfRequest, () => Json<Request>
}
endpoint! {
    /// Accepts a request.
    AcceptRequest = REQUESTS_ACCEPT, OfRequest, Json<Accept> => Json<Decided>
}
endpoint! {
    /// Rejects a request.
    RejectRequest = REQUESTS_REJECT, OfRequest, Json<Reject> => Json<Decided>
}
endpoint! {
    /// Sources that are or were paired.
    ListSources = SOURCES_LIST, (), () => Json<Vec<Source>>
}
endpoint! {
    /// One source.
    ShowSource = SOURCES_SHOW, OfSource, () => Json<Source>
}
endpoint! {
    /// Ends a pairing at once; its data stays.
    RevokeSource = SOURCES_REVOKE, OfSource, () => Json<Source>
}
endpoint! {
    /// Lets a source read its own points back from now on.
    AllowRestore = SOURCES_ALLOW_RESTORE, OfSource, () => Json<Source>
}
endpoint! {
    /// Takes that right from it, at once.
    DenyRestore = SOURCES_DENY_RESTORE, OfSource, () => Json<Source>
}
endpoint! {
    /// Begins the adoption of a source's identity by a new key; a second person must agree.
    AdoptSource = SOURCES_ADOPT, OfSource, Json<Adopt> => Json<Approval>
}
endpoint! {
    /// Tenants.
    ListTenants = TENANTS_LIST, (), () => Json<Vec<Tenant>>
}
endpoint! {
    /// Makes a tenant.
    MakeTenant = TENANTS_ADD, (), Json<AddTenant> => Json<Tenant>
}
endpoint! {
    /// Sets quota and locks of a tenant.
    SetTenant = TENANTS_SET, OfTenant, Json<ChangeTenant> => Json<Tenant>
}
endpoint! {
    /// Begins the deletion of a tenant; a second person must agree.
    DeleteTenant = TENANTS_DELETE, OfTenant, () => Json<Approval>
}
endpoint! {
    /// Agents whose points this target keeps or may keep.
    ListAgents = AGENTS_LIST, (), () => Json<Vec<Agent>>
}
endpoint! {
    /// One agent.
    ShowAgent = AGENTS_SHOW, OfAgent, () => Json<Agent>
}
endpoint! {
    /// The recovery points of an agent, oldest first.
    ListPoints = POINTS_LIST, OfAgent, () => Json<Vec<Point>>
}
endpoint! {
    /// One recovery point.
    ShowPoint = POINTS_SHOW, OfPoint, () => Json<Point>
}
endpoint! {
    /// Marks a point as deleted; it can be undeleted for a while.
    DeletePoint = POINTS_DELETE, OfPoint, () => Json<Point>
}
endpoint! {
    /// Takes that back.
    UndeletePoint = POINTS_UNDELETE, OfPoint, () => Json<Point>
}
endpoint! {
    /// Begins the removal of a deleted point before its time; a second person must agree.
    PurgePoint = POINTS_PURGE, OfPoint, () => Json<Approval>
}
endpoint! {
    /// Marks all points of an agent as deleted.
    DeleteAgent = AGENTS_DELETE, OfAgent, () => Json<AgentDeleted>
}
endpoint! {
    /// Policies, soft deletion, and the retention clock.
    ShowRetention = RETENTION_SHOW, OfRetention, () => Json<Retention>
}
endpoint! {
    /// Sets a policy, or lengthens soft deletion.
    ChangeRetention = RETENTION_SET, OfRetention, Json<SetRetention> => Json<Retention>
}
endpoint! {
    /// What a policy would keep now, and why.
    PreviewRetention = RETENTION_PREVIEW, OfPreview, () => Json<Vec<Previewed>>
}
endpoint! {
    /// Begins the shortening of soft deletion; a second person must agree.
    ShortenRetention = RETENTION_SHORTEN, (), Json<ShortenSoftDelete> => Json<Approval>
}
endpoint! {
    /// Begins crediting time to the retention clock that it is owed; a second person must agree.
    CreditRetention = RETENTION_CREDIT, (), Json<CreditClock> => Json<Approval>
}
endpoint! {
    /// Begins the shortening of a governance lock; a second person must agree.
    ShortenTenantLock = TENANTS_SHORTEN, OfTenant, Json<ShortenLock> => Json<Approval>
}
endpoint! {
    /// Storages.
    ListStorages = STORAGE_LIST, (), () => Json<Vec<Storage>>
}
endpoint! {
    /// Adds a storage.
    MakeStorage = STORAGE_ADD, (), Json<AddStorage> => Json<Storage>
}
endpoint! {
    /// Accounts.
    ListUsers = USERS_LIST, (), () => Json<Vec<User>>
}
endpoint! {
    /// Makes an account.
    MakeUser = USERS_ADD, (), Json<AddUser> => Json<User>
}
endpoint! {
    /// Changes an account's rights: at once where they narrow, else begun, and a second person must
    /// agree.
    SetUser = USERS_CHANGE, OfUser, Json<ChangeUser> => Json<Changed>
}
endpoint! {
    /// Removes an account.
    RemoveUser = USERS_REMOVE, OfUser, () => Json<User>
}
endpoint! {
    /// Tokens: one's own, or all for administrators.
    ListTokens = TOKENS_LIST, (), () => Json<Vec<Token>>
}
endpoint! {
    /// Makes a token.
    MakeToken = TOKENS_ADD, (), Json<AddToken> => Json<TokenAdded>
}
endpoint! {
    /// Revokes a token.
    RevokeToken = TOKENS_REVOKE, OfToken, () => Json<Token>
}
endpoint! {
    /// Actions that wait for a second person, and ended ones.
    ListApprovals = APPROVALS_LIST, (), () => Json<Vec<Approval>>
}
endpoint! {
    /// Agrees as the second person; the action is done.
    ApproveApproval = APPROVALS_APPROVE, OfApproval, Json<Approve> => Json<Approval>
}
endpoint! {
    /// Refuses as the second person.
    RejectApproval = APPROVALS_REJECT, OfApproval, () => Json<Approval>
}
endpoint! {
    /// The newest entries of the audit log.
    ListAudit = AUDIT_LIST, AuditShown, () => Json<Vec<AuditEntry>>
}
endpoint! {
    /// Checks the chain of the audit log.
    VerifyAudit = AUDIT_VERIFY, (), () => Json<AuditVerified>
}
endpoint! {
    /// Whether pairing is open.
    ShowPairing = PAIRING_SHOW, (), () => Json<Pairing>
}
endpoint! {
    /// Opens pairing, for a while or for good.
    OpenPairingDoor = PAIRING_OPEN, (), Json<OpenPairing> => Json<Pairing>
}
endpoint! {
    /// Closes pairing.
    ClosePairingDoor = PAIRING_CLOSE, (), () => Json<Pairing>
}
endpoint! {
    /// Enrolment codes that were handed out.
    ListEnrolment = ENROLMENT_LIST, (), () => Json<Vec<Enrolment>>
}
endpoint! {
    /// Makes an enrolment code.
    MakeEnrolment = ENROLMENT_ADD, (), Json<AddEnrolment> => Json<EnrolmentAdded>
}

#[cfg(test)]
mod tests;
