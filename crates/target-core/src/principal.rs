//! Who is calling: the one type that every decision of this target starts from.
//!
//! A principal is made by the gate, from facts it has just checked against the catalog, once per
//! request. Handlers that need the right of a source take a [`PairedPeer`], so "forgot to check"
//! does not compile.
//!
//! **Absent:** the decision itself (`authority`), credentials, sockets.

use std::fmt;

use offsite_model::{CoreId, RequestId, TenantId, UserId};
pub use offsite_proto::admin::target::Role;

/// SHA-256 of the public key (SPKI) that a peer proved to hold in the TLS handshake.
pub type KeyThumbprint = [u8; 32];

/// Who is calling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Principal {
    /// Nobody we know: no client key, or one without a row.
    Anon,
    /// A source whose key is that of a request; it has no pairing.
    Enrolling {
        /// Its key.
        thumbprint: KeyThumbprint,
        /// Its request.
        request: RequestId,
    },
    /// A paired source.
    Source(PairedPeer),
    /// A paired source whose certificate ran out, at most as long ago as renewal is still allowed.
    Expired(PairedPeer),
    /// An operator's account, by token or cookie.
    User(Account),
    /// The owner of the local socket, or root, on this machine.
    LocalRoot {
        /// The numeric user id that the kernel vouched for.
        uid: u32,
    },
}

/// A source whose key is pinned to an active pairing, as the catalog said during this very request.
///
/// Invariant: made by the gate alone, after serial and key matched an active row. There is no other
/// constructor, no `Default` and no deserialisation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PairedPeer {
    source: CoreId,
    tenant: TenantId,
    thumbprint: KeyThumbprint,
    restore_grant: bool,
}

impl PairedPeer {
    /// For the gate, and nobody else: says that the row was just found active.
    #[must_use]
    #[allow(dead_code, reason = "the gate is the only caller")]
    pub(crate) const fn vouched_by_gate(
        source: CoreId,
        tenant: TenantId,
        thumbprint: KeyThumbprint,
        restore_grant: bool,
    ) -> Self {
        Self { source, tenant, thumbprint, restore_grant }
    }

    /// Its core id.
    #[must_use]
    pub const fn source(&self) -> CoreId {
        self.source
    }

    /// The tenant that acceptance gave it; every query of its requests carries this one.
    #[must_use]
    pub const fn tenant(&self) -> TenantId {
        self.tenant
    }

    /// The key it proved to hold.
    #[must_use]
    pub const fn thumbprint(&self) -> KeyThumbprint {
        self.thumbprint
    }

    /// Whether it may read its own points back.
    #[must_use]
    pub const fn may_restore(&self) -> bool {
        self.restore_grant
    }
}

/// An operator's account as its token lets it act now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// The account.
    pub user: UserId,
    /// Its name.
    pub name: String,
    /// What it may do: the lesser of the account's role and the token's.
    pub role: Role,
    /// For whom: the intersection of the account's tenants and the token's.
    pub tenants: TenantScope,
    /// Whether the restore grant was given to it; asked of operators only.
    pub restore_grant: bool,
    /// Who made the token, where it was somebody else: he holds this account's right as well, so
    /// for four-eyes rules the two are one person.
    pub minted_by: Option<Person>,
}

/// Which tenants an account reaches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TenantScope {
    /// Every tenant, also those that will be made later.
    All,
    /// These, sorted and without repeats; an empty set reaches nothing.
    Only(Vec<TenantId>),
}

impl TenantScope {
    /// A scope of exactly these tenants.
    #[must_use]
    pub fn only(mut tenants: Vec<TenantId>) -> Self {
        tenants.sort_unstable();
        tenants.dedup();
        Self::Only(tenants)
    }

    /// Whether it has no bounds.
    #[must_use]
    pub fn is_unbounded(&self) -> bool {
        *self == Self::All
    }

    /// Whether this tenant is in it.
    #[must_use]
    pub fn reaches(&self, tenant: TenantId) -> bool {
        match self {
            Self::All => true,
            Self::Only(tenants) => tenants.binary_search(&tenant).is_ok(),
        }
    }

    /// Whether what belongs to this tenant, or to none yet, is in it. What no tenant has is seen by
    /// the unbounded alone.
    #[must_use]
    pub fn reaches_optional(&self, tenant: Option<TenantId>) -> bool {
        match tenant {
            Some(tenant) => self.reaches(tenant),
            None => *self == Self::All,
        }
    }

    /// What both reach.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        match (self, other) {
            (Self::All, scope) | (scope, Self::All) => scope.clone(),
            (Self::Only(own), other) => {
                Self::Only(own.iter().copied().filter(|tenant| other.reaches(*tenant)).collect())
            }
        }
    }
}

/// Who acts when nobody does.
pub(crate) const ITSELF: Principal = Principal::LocalRoot { uid: 0 };

impl Principal {
    /// The tenants this caller's questions are about: the predicate of every query (G-11).
    #[must_use]
    pub fn tenants(&self) -> TenantScope {
        match self {
            Self::Anon | Self::Enrolling { .. } => TenantScope::Only(Vec::new()),
            Self::Source(peer) | Self::Expired(peer) => TenantScope::Only(vec![peer.tenant]),
            Self::User(account) => account.tenants.clone(),
            Self::LocalRoot { .. } => TenantScope::All,
        }
    }

    /// Who acts in four-eyes rules: two principals are two persons only where this differs.
    #[must_use]
    pub fn person(&self) -> Option<Person> {
        match self {
            Self::User(account) => Some(Person::User(account.user)),
            Self::LocalRoot { .. } => Some(Person::LocalRoot),
            Self::Anon | Self::Enrolling { .. } | Self::Source(_) | Self::Expired(_) => None,
        }
    }
}

/// A person for four-eyes rules. Whoever reaches the local socket counts as one and the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Person {
    /// An account.
    User(#[serde(with = "crate::rows::id")] UserId),
    /// The local socket.
    LocalRoot,
}

/// How the audit log names a caller.
impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anon => f.write_str("anon"),
            Self::Enrolling { request, .. } => write!(f, "enrolling {request}"),
            Self::Source(peer) => write!(f, "source {}", peer.source),
            Self::Expired(peer) => write!(f, "expired source {}", peer.source),
            Self::User(account) => write!(f, "user {} {}", account.name, account.user),
            Self::LocalRoot { uid } => write!(f, "local root, uid {uid}"),
        }
    }
}
