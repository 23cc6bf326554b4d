//! Who may do what: the authorisation table as data, and the one function that reads it.
//!
//! The table stands in `docs/security.md`; a test copies it as text and runs every cell, denied
//! ones included. What the table does not grant is refused. "Not yours" and "not there" are the
//! same answer: [`Why::NotThere`].
//!
//! The gate asks once with [`Object::Unnamed`], before a byte of the body is read: may this caller
//! do this to anything at all? The handler asks again once it knows the object. Lists are filtered
//! by [`sees`].
//!
//! **Absent:** compliance locks (they bind everybody and are the store's), rate limits,
//! credentials.

use offsite_model::{CoreId, TenantId, UserId};
use offsite_proto::endpoint::Action;
use offsite_proto::error::{ErrorCode, Refusal};

use crate::principal::{Account, KeyThumbprint, PairedPeer, Person, Principal, Role};

/// What a call is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Object {
    /// Not known yet, or a list that [`sees`] will filter.
    Unnamed,
    /// The target itself: its settings, its accounts, its storage, its audit log as a whole.
    Target,
    /// The door for newcomers.
    Door {
        /// Whether pairing is open now.
        open: bool,
        /// Whether the caller showed a client key.
        client_key: bool,
    },
    /// A pairing request.
    Request {
        /// The key that made it.
        thumbprint: KeyThumbprint,
        /// The tenant that an enrolment code or the customer's number assigns it to.
        tenant: Option<TenantId>,
    },
    /// A source, or what is its own: pairing, certificate, damaged list, points, usage.
    Source {
        /// The source.
        source: CoreId,
        /// Its tenant.
        tenant: TenantId,
    },
    /// An agent in a session.
    Agent {
        /// The source it belongs to.
        source: CoreId,
        /// Its tenant.
        tenant: TenantId,
        /// Whether it is among the accepted ones.
        approved: bool,
    },
    /// Something of a tenant: its policy, quota, audit entries, the tenant itself.
    Tenant(TenantId),
    /// An account, or a token of it.
    Account(UserId),
    /// A pending action that needs a second person.
    Pending {
        /// Who began it.
        initiator: Person,
    },
}

/// What the table says in one cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grant {
    /// Never.
    No,
    /// Yes, for whatever the caller may see.
    Yes,
    /// Yes while pairing is open.
    IfOpen,
    /// Yes while pairing is open, with a client key, within the budget for strangers.
    WithClientKey,
    /// Throttled by the rules for failed credentials.
    Throttled,
    /// What is the caller's own.
    Own,
    /// The own state, not the renewal.
    StateOnly,
    /// A paired source pairs again, under another key.
    RePair,
    /// Own tenant, agents that were accepted.
    ApprovedAgents,
    /// Own points, with the restore grant; logged.
    OwnWithGrant,
    /// A tombstone on what is one's own.
    OwnSoft,
    /// What belongs to one's tenants.
    OwnTenants,
    /// What belongs to one's tenants, with the restore grant; logged.
    OwnTenantsWithGrant,
    /// A tombstone in one's tenants.
    OwnTenantsSoft,
    /// A tombstone.
    Soft,
    /// Yes, and each time is logged.
    Logged,
    /// Begins what a second person must co-sign.
    Initiate,
    /// Co-signs what another began.
    CoSign,
    /// Either of these two.
    InitiateOrCoSign,
    /// One's own token and account.
    OwnToken,
    /// Yes; what widens a right needs a second person.
    WideningNeedsCoSign,
    /// Heads of the audit log and one's own entries.
    HeadsAndOwn,
}

/// The outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It may be done, on these terms.
    Granted(Grant),
    /// It may not.
    Refused(Why),
}

/// Why not, as far as the caller may know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The caller has not this right.
    Forbidden,
    /// The same answer as for a thing that does not exist.
    NotThere,
}

impl Verdict {
    /// Whether it may be done.
    #[must_use]
    pub const fn is_granted(self) -> bool {
        matches!(self, Self::Granted(_))
    }

    /// The terms, or the refusal: `forbidden`, or `unknown` with this sentence, which must be the
    /// one used for things that do not exist.
    ///
    /// # Errors
    /// The refusal.
    pub fn terms(self, unknown: ErrorCode, sentence: &str) -> Result<Grant, Refusal> {
        match self {
            Self::Granted(grant) => Ok(grant),
            Self::Refused(Why::NotThere) => Err(Refusal::new(unknown, sentence)),
            Self::Refused(Why::Forbidden) => {
                Err(Refusal::new(ErrorCode::Forbidden, "this account has not that right"))
            }
        }
    }
}

/// Every action there is; a test holds it against the table and against every row of `proto`.
pub const ACTIONS: &[Action] = &[
    Action::Liveness,
    Action::Greet,
    Action::SubmitRequest,
    Action::PollRequest,
    Action::Demand,
    Action::Renew,
    Action::PairingState,
    Action::Replicate,
    Action::AskForAgents,
    Action::ListPoints,
    Action::ReadBack,
    Action::RequestDelete,
    Action::Undelete,
    Action::Heal,
    Action::FourEyes,
    Action::ListRequests,
    Action::DecideRequest,
    Action::RevokeSource,
    Action::ClosePairing,
    Action::SetPolicy,
    Action::Administer,
    Action::OwnToken,
    Action::Upkeep,
    Action::ReadAudit,
    Action::ReadMetrics,
    Action::ReadStatus,
    Action::Login,
    Action::SourceOperator,
];

/// The columns of the table, in its order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Column {
    Anon,
    Enrolling,
    Source,
    Expired,
    Viewer,
    Operator,
    Officer,
    Administrator,
    LocalRoot,
}

const fn column(principal: &Principal) -> Column {
    match principal {
        Principal::Anon => Column::Anon,
        Principal::Enrolling { .. } => Column::Enrolling,
        Principal::Source(_) => Column::Source,
        Principal::Expired(_) => Column::Expired,
        Principal::User(Account { role: Role::Viewer, .. }) => Column::Viewer,
        Principal::User(Account { role: Role::Operator, .. }) => Column::Operator,
        Principal::User(Account { role: Role::Officer, .. }) => Column::Officer,
        Principal::User(Account { role: Role::Administrator, .. }) => Column::Administrator,
        Principal::LocalRoot { .. } => Column::LocalRoot,
    }
}

/// The cells of one action.
const fn cells(action: Action) -> [Grant; 9] {
    use Grant::{
        ApprovedAgents, CoSign, HeadsAndOwn, IfOpen, Initiate, InitiateOrCoSign, Logged, No, Own,
        OwnSoft, OwnTenants, OwnTenantsSoft, OwnTenantsWithGrant, OwnToken, OwnWithGrant, RePair,
        Soft, StateOnly, Throttled, WideningNeedsCoSign, WithClientKey, Yes,
    };
    #[rustfmt::skip]
    let row = match action {
        //                        anon           enrolling  source          expired  viewer      operator             officer  administrator        local root
        Action::Liveness      => [Yes,           Yes,       Yes,            Yes,     Yes,        Yes,                 Yes,     Yes,                 Yes],
        Action::Greet         => [IfOpen,        Yes,       Yes,            Yes,     Yes,        Yes,                 Yes,     Yes,                 Yes],
        Action::SubmitRequest => [WithClientKey, Own,       RePair,         No,      No,         No,                  No,      No,                  No],
        Action::PollRequest   => [No,            Own,       Own,            No,      No,         No,                  No,      No,                  No],
        Action::Demand        => [Throttled,     Throttled, No,             No,      No,         No,                  No,      No,                  No],
        Action::Renew         => [No,            No,        Own,            Own,     No,         No,                  No,      No,                  No],
        Action::PairingState  => [No,            StateOnly, Own,            Own,     No,         No,                  No,      No,                  No],
        Action::Replicate     => [No,            No,        ApprovedAgents, No,      No,         No,                  No,      No,                  No],
        Action::AskForAgents  => [No,            No,        Own,            No,      No,         No,                  No,      No,                  No],
        Action::ListPoints    => [No,            No,        Own,            No,      OwnTenants, OwnTenants,          No,      Yes,                 Yes],
        Action::ReadBack      => [No,            No,        OwnWithGrant,   No,      No,         OwnTenantsWithGrant, No,      Logged,              Logged],
        Action::RequestDelete => [No,            No,        OwnSoft,        No,      No,         OwnTenantsSoft,      No,      Soft,                Soft],
        Action::Undelete      => [No,            No,        No,             No,      No,         OwnTenants,          No,      Yes,                 Yes],
        Action::Heal          => [No,            No,        Own,            No,      No,         No,                  No,      No,                  No],
        Action::FourEyes      => [No,            No,        No,             No,      No,         Initiate,            CoSign,  InitiateOrCoSign,    Initiate],
        Action::ListRequests  => [No,            No,        No,             No,      OwnTenants, OwnTenants,          No,      Yes,                 Yes],
        Action::DecideRequest => [No,            No,        No,             No,      No,         OwnTenants,          No,      Yes,                 Yes],
        Action::RevokeSource  => [No,            No,        Own,            No,      No,         Yes,                 Yes,     Yes,                 Yes],
        Action::ClosePairing  => [No,            No,        No,             No,      No,         Yes,                 Yes,     Yes,                 Yes],
        Action::SetPolicy     => [No,            No,        No,             No,      No,         OwnTenants,          No,      Yes,                 Yes],
        Action::Administer    => [No,            No,        No,             No,      No,         No,                  No,      WideningNeedsCoSign, WideningNeedsCoSign],
        Action::OwnToken      => [No,            No,        No,             No,      No,         OwnToken,            OwnToken, Yes,                Yes],
        Action::Upkeep        => [No,            No,        No,             No,      No,         Yes,                 No,      Yes,                 Yes],
        Action::ReadAudit     => [No,            No,        HeadsAndOwn,    No,      OwnTenants, OwnTenants,          Yes,     Yes,                 Yes],
        Action::ReadMetrics   => [No,            No,        No,             No,      OwnTenants, OwnTenants,          No,      Yes,                 Yes],
        Action::ReadStatus    => [No,            No,        No,             No,      OwnTenants, OwnTenants,          No,      Yes,                 Yes],
        Action::Login         => [Yes,           No,        No,             No,      Yes,        Yes,                 Yes,     Yes,                 Yes],
        // The source's own socket; a target serves none of its calls.
        Action::SourceOperator => [No; 9],
    };
    row
}

/// Whether this caller may do this to that. Default: no.
#[must_use]
pub fn permits(principal: &Principal, action: Action, object: &Object) -> Verdict {
    let [anon, enrolling, source, expired, viewer, operator, officer, administrator, local] =
        cells(action);
    let grant = match column(principal) {
        Column::Anon => anon,
        Column::Enrolling => enrolling,
        Column::Source => source,
        Column::Expired => expired,
        Column::Viewer => viewer,
        Column::Operator => operator,
        Column::Officer => officer,
        Column::Administrator => administrator,
        Column::LocalRoot => local,
    };
    if grant == Grant::No {
        return Verdict::Refused(Why::Forbidden);
    }
    if let Err(why) = suits(principal, grant, object) {
        return Verdict::Refused(why);
    }
    Verdict::Granted(grant)
}

/// Whether a list may show this to the caller: the tenant predicate of every query, and one's own
/// things.
#[must_use]
pub fn sees(principal: &Principal, object: &Object) -> bool {
    match principal {
        Principal::Anon => matches!(object, Object::Unnamed | Object::Target | Object::Door { .. }),
        Principal::Enrolling { thumbprint, .. } => match object {
            Object::Unnamed | Object::Target | Object::Door { .. } => true,
            Object::Request { thumbprint: maker, .. } => maker == thumbprint,
            _ => false,
        },
        Principal::Source(peer) | Principal::Expired(peer) => own_of(peer, object),
        Principal::User(account) => match object {
            Object::Unnamed | Object::Target | Object::Door { .. } | Object::Pending { .. } => true,
            Object::Request { tenant, .. } => account.tenants.reaches_optional(*tenant),
            Object::Source { tenant, .. } | Object::Agent { tenant, .. } => {
                account.tenants.reaches(*tenant)
            }
            Object::Tenant(tenant) => account.tenants.reaches(*tenant),
            Object::Account(user) => *user == account.user || account.role == Role::Administrator,
        },
        Principal::LocalRoot { .. } => true,
    }
}

fn own_of(peer: &PairedPeer, object: &Object) -> bool {
    match object {
        Object::Unnamed | Object::Target | Object::Door { .. } => true,
        Object::Request { thumbprint, .. } => *thumbprint == peer.thumbprint(),
        Object::Source { source, tenant } | Object::Agent { source, tenant, .. } => {
            *source == peer.source() && *tenant == peer.tenant()
        }
        Object::Tenant(_) | Object::Account(_) | Object::Pending { .. } => false,
    }
}

/// Whether the grant of a cell covers this object.
fn suits(principal: &Principal, grant: Grant, object: &Object) -> Result<(), Why> {
    if !sees(principal, object) {
        return Err(Why::NotThere);
    }
    match (grant, *object) {
        // A closed door is the constant "no such path", never "forbidden".
        (
            Grant::IfOpen | Grant::WithClientKey | Grant::Throttled,
            Object::Door { open: false, .. },
        ) => Err(Why::NotThere),
        (Grant::WithClientKey, Object::Door { client_key: false, .. }) => Err(Why::Forbidden),
        (Grant::ApprovedAgents, Object::Agent { approved: false, .. }) => Err(Why::NotThere),
        (Grant::OwnWithGrant | Grant::OwnTenantsWithGrant, _) if !has_restore_grant(principal) => {
            Err(Why::Forbidden)
        }
        (Grant::OwnToken, Object::Account(user)) if !is_account(principal, user) => {
            Err(Why::NotThere)
        }
        (Grant::Initiate, Object::Pending { .. }) => Err(Why::Forbidden),
        (Grant::CoSign | Grant::InitiateOrCoSign, Object::Pending { initiator })
            if principal.person() == Some(initiator) || is_minted_by(principal, initiator) =>
        {
            Err(Why::Forbidden)
        }
        // Who can only co-sign may name pending actions and nothing else.
        (Grant::CoSign, Object::Unnamed | Object::Pending { .. }) => Ok(()),
        (Grant::CoSign, _) => Err(Why::Forbidden),
        _ => Ok(()),
    }
}

const fn has_restore_grant(principal: &Principal) -> bool {
    match principal {
        Principal::Source(peer) | Principal::Expired(peer) => peer.may_restore(),
        Principal::User(account) => account.restore_grant,
        Principal::LocalRoot { .. } => true,
        Principal::Anon | Principal::Enrolling { .. } => false,
    }
}

fn is_minted_by(principal: &Principal, person: Person) -> bool {
    matches!(principal, Principal::User(account) if account.minted_by == Some(person))
}

fn is_account(principal: &Principal, user: UserId) -> bool {
    matches!(principal, Principal::User(account) if account.user == user)
}

#[cfg(test)]
mod tests;
