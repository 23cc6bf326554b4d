//! The audit log: entries that are only ever added, each chained to the one before by its digest.
//!
//! An entry is written in the same transaction as what it tells ([`record`] takes the open
//! transaction), so there is no deed without its entry and no entry without its deed. [`verify`]
//! names the first bad entry. The head (count and digest of the newest entry) is a row of its own
//! with room for a signature; until heads are signed and sent to paired sources, whoever can write
//! the catalog file can rewrite the whole chain.
//!
//! **Absent:** any way to change or remove an entry; the clock.

use std::ops::Bound;

use offsite_model::{Digest, TenantId, Timestamp};
use offsite_store::catalog::{
    Catalog, CatalogError, Order, Rows, RowsMut, Table, Transactions, TypedRows, TypedRowsMut,
    Value, encode_value,
};
use serde::{Deserialize, Serialize};

use crate::principal::{Principal, TenantScope};

/// The entries, under their number in big-endian.
pub const ENTRIES: Table = Table::new("audit");
/// The head, one row.
pub const HEAD: Table = Table::new("audit_head");
const HEAD_KEY: &[u8] = b"head";
const PAGE_ENTRIES: usize = 1_000;
const FACTS_MAX: usize = 32;
const FACT_BYTES_MAX: usize = 1 << 10;

macro_rules! events {
    ($($(#[$doc:meta])* $name:ident = $text:literal;)*) => {
        /// What happened, as a word that never changes its meaning.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Event { $($(#[$doc])* $name,)* }

        impl Event {
            /// Every event.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The word in the log.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

events! {
    /// The target was initialised: its key and its first administrator were made.
    Initialised = "initialised";
    /// The daemon began to serve.
    Started = "started";
    /// The daemon stopped in good order.
    Stopped = "stopped";
    /// A pairing request arrived or changed.
    RequestSubmitted = "request_submitted";
    /// A check code was entered, right or wrong.
    CheckCodeEntered = "check_code_entered";
    /// A request was accepted; facts say whether the check code was compared.
    RequestAccepted = "request_accepted";
    /// A request was rejected.
    RequestRejected = "request_rejected";
    /// A request was withdrawn by its source.
    RequestWithdrawn = "request_withdrawn";
    /// A request lapsed.
    RequestExpired = "request_expired";
    /// A certificate was issued.
    CertificateIssued = "certificate_issued";
    /// A certificate was renewed.
    CertificateRenewed = "certificate_renewed";
    /// A certificate was used for the first time.
    CertificateFirstUsed = "certificate_first_used";
    /// A source was revoked.
    SourceRevoked = "source_revoked";
    /// A source was given the right to read its own points back.
    RestoreAllowed = "restore_allowed";
    /// That right was taken from it.
    RestoreDenied = "restore_denied";
    /// A source ended its pairing.
    SourceUnpaired = "source_unpaired";
    /// An identity was adopted by a new key.
    IdentityAdopted = "identity_adopted";
    /// Pairing was opened for newcomers.
    PairingOpened = "pairing_opened";
    /// Pairing was closed for newcomers.
    PairingClosed = "pairing_closed";
    /// An enrolment code was handed out.
    EnrolmentAdded = "enrolment_added";
    /// An enrolment code was used.
    EnrolmentUsed = "enrolment_used";
    /// An operator session was opened.
    LoginSucceeded = "login_succeeded";
    /// Failed authentications, summarised.
    LoginFailed = "login_failed";
    /// An account was made.
    UserAdded = "user_added";
    /// An account was removed.
    UserRemoved = "user_removed";
    /// An account's role or tenants changed.
    UserChanged = "user_changed";
    /// A token was made.
    TokenAdded = "token_added";
    /// A token was revoked.
    TokenRevoked = "token_revoked";
    /// A tenant was made.
    TenantAdded = "tenant_added";
    /// A tenant's quota or lock changed.
    TenantChanged = "tenant_changed";
    /// A tenant was deleted.
    TenantDeleted = "tenant_deleted";
    /// A storage was added.
    StorageAdded = "storage_added";
    /// An action that needs a second person was begun.
    ApprovalAsked = "approval_asked";
    /// A second person agreed, and it was done.
    ApprovalGiven = "approval_given";
    /// A second person refused, or it lapsed.
    ApprovalEnded = "approval_ended";
    /// Someone tried what nobody, or nobody alone, may do.
    Refused = "refused";
    /// Data was read back.
    DataRead = "data_read";
    /// A deletion was asked for.
    DeletionAsked = "deletion_asked";
    /// A deletion was taken back.
    DeletionUndone = "deletion_undone";
    /// A deletion was made final; its time to be undone was over, or two persons agreed.
    PointPurged = "point_purged";
    /// What a retention policy marked as deleted in one round.
    PolicyApplied = "policy_applied";
    /// A retention policy or the time of soft deletion was set.
    RetentionSet = "retention_set";
    /// A source's key was used from an address that it never came from.
    AddressFirstSeen = "address_first_seen";
    /// Far more of what an agent sent was new than on other days.
    NoveltyUnusual = "novelty_unusual";
    /// Many points were marked as deleted at once.
    BulkDeletion = "bulk_deletion";
    /// A retention lock was set or lengthened.
    LockSet = "lock_set";
    /// Settings changed.
    ConfigurationChanged = "configuration_changed";
    /// Totals of a garbage collection.
    CollectionEnded = "collection_ended";
    /// The system's clock jumped.
    ClockJumped = "clock_jumped";
}

impl Event {
    /// Those that a person should look at; nothing is ever done because of them.
    pub const ALARMS: &'static [Self] =
        &[Self::AddressFirstSeen, Self::BulkDeletion, Self::ClockJumped, Self::NoveltyUnusual];
}

/// What shall be written.
#[derive(Clone, Debug)]
pub struct Entry<'a> {
    /// When it happened, by the target's clock.
    pub at: Timestamp,
    /// Who did it.
    pub principal: &'a Principal,
    /// Whose it is; none where it concerns the target as a whole.
    pub tenant: Option<TenantId>,
    /// What happened.
    pub event: Event,
    /// Facts by name: ids, names, numbers. Never a secret.
    pub facts: &'a [(&'static str, String)],
}

/// An entry as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// Its number, from 0 without a gap.
    pub number: u64,
    /// When, in microseconds since 1970.
    pub at_micros: i64,
    /// Who.
    pub principal: String,
    /// Whose.
    pub tenant: Option<[u8; 16]>,
    /// What.
    pub event: String,
    /// Facts.
    pub facts: Vec<(String, String)>,
    /// The digest of the entry before; zero for the first.
    pub previous: [u8; 32],
    /// The digest of everything above.
    pub digest: [u8; 32],
}

impl Value for Kept {
    const VERSION: u8 = 0;
    const BYTES_MAX: usize = 64 << 10;
}

impl Kept {
    /// The digest that belongs to its contents.
    fn computed(&self) -> Result<Digest, CatalogError> {
        let blank = Self { digest: [0; 32], ..self.clone() };
        Ok(Digest::of(&encode_value(ENTRIES, &blank)?))
    }
}

/// The newest end of the chain.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// How many entries there are.
    pub n_entries: u64,
    /// The digest of the newest; zero when there is none.
    pub digest: [u8; 32],
    /// A signature over both by the target's key; empty until heads are signed.
    pub signature: Vec<u8>,
}

impl Value for Head {
    const VERSION: u8 = 0;
    const BYTES_MAX: usize = 1 << 10;
}

/// Writes an entry in the transaction of what it tells.
///
/// # Errors
/// What the catalog says; the caller's transaction must then fail as a whole.
pub fn record(rows: &mut dyn RowsMut, entry: &Entry<'_>) -> Result<(), CatalogError> {
    let head = head(rows)?;
    let facts = entry.facts.iter().take(FACTS_MAX);
    let mut kept = Kept {
        number: head.n_entries,
        at_micros: entry.at.as_micros(),
        principal: bounded(&entry.principal.to_string()),
        tenant: entry.tenant.map(TenantId::to_bytes),
        event: entry.event.as_str().to_owned(),
        facts: facts.map(|(name, value)| ((*name).to_owned(), bounded(value))).collect(),
        previous: head.digest,
        digest: [0; 32],
    };
    kept.digest = *kept.computed()?.as_bytes();
    rows.put_value(ENTRIES, &kept.number.to_be_bytes(), &kept)?;
    let n_entries = head.n_entries.saturating_add(1);
    rows.put_value(HEAD, HEAD_KEY, &Head { n_entries, digest: kept.digest, signature: Vec::new() })
}

/// A fact is a label, not a document: what a peer may have made long is cut, at a character.
fn bounded(text: &str) -> String {
    let mut end = text.len().min(FACT_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end = end.saturating_sub(1);
    }
    text.get(..end).unwrap_or_default().to_owned()
}

/// The head as it stands.
///
/// # Errors
/// What the catalog says.
pub fn head<R: Rows + ?Sized>(rows: &R) -> Result<Head, CatalogError> {
    Ok(rows.value(HEAD, HEAD_KEY)?.unwrap_or_default())
}

/// At most `n_max` of the newest entries that lie in these tenants' scope, newest first. What
/// concerns the target as a whole is shown to the unbounded alone.
///
/// # Errors
/// What the catalog says.
pub fn newest<R: Rows + ?Sized>(
    rows: &R,
    scope: &TenantScope,
    n_max: usize,
) -> Result<Vec<Kept>, CatalogError> {
    let mut found = Vec::new();
    let mut after: Option<Vec<u8>> = None;
    loop {
        let page = rows.scan_values::<Kept>(
            ENTRIES,
            b"",
            after.as_deref(),
            Order::Descending,
            PAGE_ENTRIES,
        )?;
        let Some((last, _)) = page.last() else { return Ok(found) };
        after = Some(last.clone());
        for (_, kept) in page {
            if scope.reaches_optional(kept.tenant.map(TenantId::from_bytes)) {
                found.push(kept);
            }
            if found.len() >= n_max {
                return Ok(found);
            }
        }
    }
}

/// What a check of the whole chain found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verified {
    /// Entries looked at.
    pub n_entries: u64,
    /// The number of the first bad entry; none when all are good.
    pub first_bad: Option<u64>,
}

/// Checks the whole chain from the first entry to the head.
///
/// # Errors
/// What the catalog says. An entry that does not decode is a bad entry and no error.
pub fn verify(catalog: &dyn Catalog) -> Result<Verified, CatalogError> {
    catalog.read(|rows| {
        let head = match head(rows) {
            Ok(head) => head,
            // A head nobody can read attests nothing: the chain is bad from its end on.
            Err(CatalogError::Damaged(_) | CatalogError::TooLong { .. }) => Head::default(),
            Err(error) => return Err(error),
        };
        let mut walk = Walk::default();
        let mut after: Option<Vec<u8>> = None;
        loop {
            let lower = after.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
            let page =
                rows.scan(ENTRIES, (lower, Bound::Unbounded), Order::Ascending, PAGE_ENTRIES)?;
            let Some((last, _)) = page.last() else { break };
            after = Some(last.clone());
            for (key, bytes) in &page {
                if let Some(first_bad) = walk.step(key, bytes) {
                    return Ok(Verified { n_entries: walk.n_entries, first_bad: Some(first_bad) });
                }
            }
        }
        Ok(Verified { n_entries: walk.n_entries, first_bad: walk.end(&head) })
    })
}

/// The walk over the chain, one entry at a time.
#[derive(Default)]
struct Walk {
    n_entries: u64,
    digest: [u8; 32],
    /// The entry before did not fit its successor: which of the two is bad shows at the next one.
    broken_before: Option<u64>,
}

impl Walk {
    /// Takes the next entry; says which is the first bad one as soon as it is certain.
    fn step(&mut self, key: &[u8], bytes: &[u8]) -> Option<u64> {
        let number = self.n_entries;
        self.n_entries = number.saturating_add(1);
        let Ok(kept) = offsite_store::catalog::decode_value::<Kept>(ENTRIES, bytes) else {
            return Some(self.broken_before.unwrap_or(number));
        };
        let is_whole = kept.computed().is_ok_and(|digest| *digest.as_bytes() == kept.digest);
        if key != number.to_be_bytes() || kept.number != number || !is_whole {
            return Some(self.broken_before.unwrap_or(number));
        }
        let fits = kept.previous == self.digest;
        self.digest = kept.digest;
        match self.broken_before.take() {
            // The one between is attested by this one, so the one before it was replaced.
            Some(earlier) if fits => return Some(earlier),
            Some(earlier) => return Some(earlier.saturating_add(1)),
            None => {}
        }
        if !fits {
            // The first entry has nothing before it to blame.
            let Some(earlier) = number.checked_sub(1) else { return Some(number) };
            self.broken_before = Some(earlier);
        }
        None
    }

    /// The end of the chain is held against the head.
    fn end(&self, head: &Head) -> Option<u64> {
        let fits = head.digest == self.digest;
        match self.broken_before {
            Some(earlier) if fits => return Some(earlier),
            Some(earlier) => return Some(earlier.saturating_add(1)),
            None => {}
        }
        if head.n_entries != self.n_entries {
            // Cut short: the first one that is missing; grown past its head: the first one too
            // many.
            return Some(head.n_entries.min(self.n_entries));
        }
        (!fits).then(|| self.n_entries.saturating_sub(1))
    }
}

#[cfg(test)]
mod tests;
