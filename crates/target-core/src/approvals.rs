//! Four eyes: what one person begins and another must agree to before it happens.
//!
//! ```text
//!   ask ──► waiting ──► done       a second person agreed; the act and its entry are one transaction
//!              │
//!              ├──────► rejected   a second person refused
//!              └──────► lapsed     nobody agreed within a day
//! ```
//!
//! A pending action carries a digest of exactly what will happen: the action itself and the facts
//! it will meet. The second person sends the digest of what he saw; if either the action or the
//! facts changed in between, consent must be asked anew. A second person is somebody else: not the
//! first, not under a token that the first made, not with an account that the first made.
//!
//! **Absent:** what compliance locks forbid; no number of persons agrees that away (C-03).

use offsite_model::{CoreId, Digest, PointId, RequestId, Span, TenantId, Timestamp, UserId};
use offsite_proto::endpoint::Action;
use offsite_proto::error::ErrorCode;
use offsite_store::catalog::{
    Order, Rows, RowsMut, Table, TypedRows, TypedRowsMut, Value, encode_value,
};
use serde::{Deserialize, Serialize};

use crate::accounts::users::{self, Rights, UserRow};
use crate::audit::Event;
use crate::authority::{Object, permits};
use crate::deed::Deed;
use crate::failure::Failure;
use crate::principal::{Person, Principal, Role};
use crate::retention::{rules, time};
use crate::tenants;

/// Pending and ended approvals, by id.
pub const APPROVALS: Table = Table::new("approvals");
/// How long the second person has.
pub const WAITING: Span = Span::from_hours(24);
/// How long an ended approval is remembered.
const REMEMBERED: Span = Span::from_days(400);
/// Approvals that are kept.
const APPROVALS_MAX: usize = 10_000;

/// What shall happen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Act {
    /// A new key that claims to be a source becomes that source; its old key is revoked (A-17).
    AdoptIdentity {
        /// The pairing, by the id this target gave it.
        #[serde(with = "crate::rows::id")]
        source: CoreId,
        /// The request that the new key made.
        #[serde(with = "crate::rows::id")]
        request: RequestId,
    },
    /// An account gets rights it had not.
    WidenRole {
        /// The account.
        #[serde(with = "crate::rows::id")]
        user: UserId,
        /// Its role from then on.
        role: Role,
        /// Its tenants from then on; none = all.
        tenants: Option<Vec<[u8; 16]>>,
        /// Whether it may read data of its tenants back.
        restore_grant: bool,
    },
    /// A tenant that has nothing left is deleted.
    DeleteTenant {
        /// The tenant.
        #[serde(with = "crate::rows::id")]
        tenant: TenantId,
    },
    /// A point that is marked as deleted is removed before its time.
    Purge {
        /// Its tenant.
        #[serde(with = "crate::rows::id")]
        tenant: TenantId,
        /// The point.
        point: [u8; 16],
    },
    /// What is deleted can be undeleted for a shorter time, from then on and for what is deleted
    /// already.
    ShortenSoftDelete {
        /// Its days.
        days: u32,
    },
    /// A tenant's governance lock gets shorter.
    ShortenLock {
        /// The tenant.
        #[serde(with = "crate::rows::id")]
        tenant: TenantId,
        /// Its days, as they were when this was asked for.
        before: u32,
        /// Its days from then on.
        governance_days: u32,
    },
    /// The retention clock gets time that it is owed.
    CreditClock {
        /// How much, in microseconds.
        micros: u64,
    },
}

impl Act {
    /// The word of it.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::AdoptIdentity { .. } => "adopt_identity",
            Self::WidenRole { .. } => "widen_role",
            Self::DeleteTenant { .. } => "delete_tenant",
            Self::Purge { .. } => "purge",
            Self::ShortenSoftDelete { .. } => "shorten_soft_delete",
            Self::ShortenLock { .. } => "shorten_lock",
            Self::CreditClock { .. } => "credit_clock",
        }
    }
}

/// Words of actions that need two persons and that this build does not carry out.
pub const NOT_BUILT: &[&str] = &["export_keys"];

/// Facts that an action will meet, as the second person sees them.
pub type Seen = Vec<(String, String)>;

/// What of an action lies outside this module: the register of sources.
pub trait Register {
    /// What adopting this identity would do: both keys, the tenant, the agents.
    ///
    /// # Errors
    /// `system_unknown`, `request_unknown`, or why it cannot be done.
    fn describe_adoption(
        &self,
        rows: &dyn RowsMut,
        source: CoreId,
        request: RequestId,
    ) -> Result<Seen, Failure>;

    /// Sources that still belong to a tenant, by name.
    ///
    /// # Errors
    /// What the catalog says.
    fn sources_of(&self, rows: &dyn RowsMut, tenant: TenantId) -> Result<Vec<String>, Failure>;
}

/// Where an approval stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    /// For the second person.
    Waiting,
    /// Agreed and done.
    Done {
        /// Who agreed, as the audit log names him.
        by: String,
    },
    /// Refused by a second person.
    Rejected {
        /// Who refused.
        by: String,
    },
    /// Nobody agreed in time, or what it was about changed.
    Lapsed,
}

impl State {
    /// The word of it.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Done { .. } => "done",
            Self::Rejected { .. } => "rejected",
            Self::Lapsed => "lapsed",
        }
    }
}

/// An approval as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApprovalRow {
    /// Its id.
    pub id: [u8; 16],
    /// What shall happen.
    pub act: Act,
    /// The facts it will meet, as they were when it was asked for.
    pub seen: Seen,
    /// The digest of both.
    pub digest: [u8; 32],
    /// Who began it.
    pub initiator: Person,
    /// How the audit log names him.
    pub initiator_name: String,
    /// When, in microseconds since 1970.
    pub asked_micros: i64,
    /// Where it stands.
    pub state: State,
}

impl Value for ApprovalRow {
    const VERSION: u8 = 0;
    const BYTES_MAX: usize = 256 << 10;
}

impl ApprovalRow {
    /// When the second person's time is over.
    #[must_use]
    pub fn ends_at(&self) -> Timestamp {
        Timestamp::from_micros(self.asked_micros) + WAITING
    }

    /// Where it stands at this moment.
    #[must_use]
    pub fn state_at(&self, now: Timestamp) -> State {
        match &self.state {
            State::Waiting if now >= self.ends_at() => State::Lapsed,
            state => state.clone(),
        }
    }
}

/// What is hashed: the action with the facts it will meet.
#[derive(Serialize, Deserialize)]
struct Bound {
    act: Act,
    seen: Seen,
}

impl Value for Bound {
    const VERSION: u8 = 0;
    const BYTES_MAX: usize = 256 << 10;
}

fn digest(act: &Act, seen: &Seen) -> Result<[u8; 32], Failure> {
    let bound = Bound { act: act.clone(), seen: seen.clone() };
    Ok(*Digest::of(&encode_value(APPROVALS, &bound)?).as_bytes())
}

fn describe(rows: &dyn RowsMut, register: &dyn Register, act: &Act) -> Result<Seen, Failure> {
    let fact = |name: &str, value: String| (name.to_owned(), value);
    match act {
        Act::AdoptIdentity { source, request } => {
            register.describe_adoption(rows, *source, *request)
        }
        Act::WidenRole { user, role, tenants, restore_grant } => {
            let now = active(rows, *user)?;
            // What could not be done later is refused now.
            let scope = users::scope(tenants.as_deref());
            Rights { role: *role, tenants: scope, restore_grant: *restore_grant }.check()?;
            let count = |tenants: Option<usize>| {
                tenants.map_or_else(|| "all tenants".to_owned(), |n| format!("{n} tenants"))
            };
            Ok(vec![
                fact("user", now.name.clone()),
                fact("role", format!("{} → {role}", now.role)),
                fact(
                    "tenants",
                    format!(
                        "{} → {}",
                        count(now.tenants.as_ref().map(Vec::len)),
                        count(tenants.as_ref().map(Vec::len))
                    ),
                ),
                fact("restore_grant", format!("{} → {restore_grant}", now.restore_grant)),
                fact("tenants_now", format!("{:?}", now.scope())),
            ])
        }
        Act::DeleteTenant { tenant } => {
            let found = active_tenant(rows, *tenant)?;
            let sources = register.sources_of(rows, *tenant)?;
            if !sources.is_empty() {
                return Err(Failure::refused(
                    ErrorCode::WrongState,
                    format!("{} still has the sources {}", found.name, sources.join(", ")),
                ));
            }
            Ok(vec![
                fact("tenant", found.name.clone()),
                fact("quota_bytes", format!("{:?}", found.quota_bytes)),
                fact("lock_days", found.lock_days.to_string()),
            ])
        }
        Act::Purge { tenant, point } => {
            let found = tenants::by_id(rows, *tenant)?.ok_or_else(|| tenants::unknown(tenant))?;
            let point = PointId::from_bytes(*point);
            Ok(vec![fact("tenant", found.name), fact("point", point.to_string())])
        }
        Act::ShortenSoftDelete { days } => {
            rules::check_soft_delete(*days)?;
            let now = rules::soft_delete_days(rows)?;
            if *days >= now {
                let sentence = format!("soft deletion lasts {now} days; that is no shorter");
                return Err(Failure::refused(ErrorCode::BadRequest, sentence));
            }
            Ok(vec![fact("soft_delete_days", format!("{now} → {days}"))])
        }
        Act::ShortenLock { tenant, before, governance_days } => {
            let found = active_tenant(rows, *tenant)?;
            Ok(vec![
                fact("tenant", found.name),
                fact("governance_days", format!("{before} → {governance_days}")),
            ])
        }
        Act::CreditClock { micros } => {
            let (span, owed) = (Span::from_micros(*micros), time::owed(rows)?);
            if span == Span::ZERO || span > owed {
                let sentence = format!("the clock is owed {} seconds", owed.as_secs());
                return Err(Failure::refused(ErrorCode::BadRequest, sentence));
            }
            Ok(vec![fact("seconds", span.as_secs().to_string())])
        }
    }
}

fn active_tenant(rows: &dyn RowsMut, tenant: TenantId) -> Result<tenants::TenantRow, Failure> {
    let found = tenants::by_id(rows, tenant)?.filter(tenants::TenantRow::is_active);
    found.ok_or_else(|| tenants::unknown(&tenant))
}

fn active(rows: &dyn RowsMut, user: UserId) -> Result<UserRow, Failure> {
    users::by_id(rows, user)?.filter(UserRow::is_active).ok_or_else(|| {
        Failure::refused(ErrorCode::AccountUnknown, format!("there is no user {user}"))
    })
}

/// Begins an action. That the caller may begin it is decided before.
///
/// # Errors
/// `forbidden` for a caller who is no person; why the action cannot be done as things stand.
pub fn ask(
    rows: &mut dyn RowsMut,
    deed: &Deed<'_>,
    register: &dyn Register,
    act: Act,
) -> Result<ApprovalRow, Failure> {
    let Some(initiator) = deed.person() else {
        return Err(Failure::refused(ErrorCode::Forbidden, "only a person can begin this"));
    };
    forget_old(rows, deed.at)?;
    let seen = describe(rows, register, &act)?;
    let digest = digest(&act, &seen)?;
    let mut id = [0; 16];
    deed.luck.fill(&mut id);
    let approval = ApprovalRow {
        id,
        act,
        seen,
        digest,
        initiator,
        initiator_name: deed.by.to_string(),
        asked_micros: deed.at.as_micros(),
        state: State::Waiting,
    };
    rows.put_value(APPROVALS, &id, &approval)?;
    deed.record(rows, Event::ApprovalAsked, None, &told(&approval))?;
    Ok(approval)
}

/// How a second person answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Do it.
    Agree,
    /// Do not.
    Refuse,
}

/// A second person's answer; agreement does the act in this transaction. An adoption is done by the
/// caller, in the same transaction, since it moves machines of the register; what is the store's or
/// the clock's is done by the caller after it, and where a crash comes between, is asked for again.
///
/// # Errors
/// `request_unknown` for no such approval, `forbidden` for the same person, `request_expired` after
/// a day, `already_resolved` for a second answer, `request_changed` where the digest is not that of
/// what would happen now.
pub fn answer(
    rows: &mut dyn RowsMut,
    deed: &Deed<'_>,
    register: &dyn Register,
    id: [u8; 16],
    seen_digest: [u8; 32],
    answer: Answer,
) -> Result<ApprovalRow, Failure> {
    let mut approval = find(rows, id)?;
    check_second_person(rows, deed.by, &approval)?;
    match approval.state_at(deed.at) {
        State::Waiting => {}
        State::Lapsed => {
            return Err(Failure::refused(
                ErrorCode::RequestExpired,
                "nobody agreed within a day; ask again",
            ));
        }
        State::Done { .. } | State::Rejected { .. } => {
            return Err(Failure::refused(ErrorCode::AlreadyResolved, "this was answered before"));
        }
    }
    let by = deed.by.to_string();
    if answer == Answer::Refuse {
        approval.state = State::Rejected { by };
        rows.put_value(APPROVALS, &id, &approval)?;
        deed.record(rows, Event::ApprovalEnded, None, &told(&approval))?;
        return Ok(approval);
    }
    let would_happen = digest(&approval.act, &describe(rows, register, &approval.act)?)?;
    if seen_digest != approval.digest || would_happen != approval.digest {
        return Err(Failure::refused(
            ErrorCode::RequestChanged,
            "what would happen is not what was agreed to; look again, or ask again",
        ));
    }
    approval.state = State::Done { by };
    rows.put_value(APPROVALS, &id, &approval)?;
    deed.record(rows, Event::ApprovalGiven, None, &told(&approval))?;
    perform(rows, deed, &approval.act)?;
    Ok(approval)
}

fn check_second_person(
    rows: &dyn RowsMut,
    by: &Principal,
    approval: &ApprovalRow,
) -> Result<(), Failure> {
    let object = Object::Pending { initiator: approval.initiator };
    let is_other = permits(by, Action::FourEyes, &object).is_granted();
    let is_made_by_first = match by {
        Principal::User(account) => users::descends_from(rows, account.user, approval.initiator)?,
        _ => false,
    };
    if !is_other || is_made_by_first {
        return Err(Failure::refused(
            ErrorCode::Forbidden,
            "a second person must agree: an administrator or officer other than the one who began \
                it",
        ));
    }
    Ok(())
}

fn perform(rows: &mut dyn RowsMut, deed: &Deed<'_>, act: &Act) -> Result<(), Failure> {
    match act {
        Act::AdoptIdentity { .. }
        | Act::Purge { .. }
        | Act::ShortenLock { .. }
        | Act::CreditClock { .. } => Ok(()),
        Act::ShortenSoftDelete { days } => rules::put_soft_delete(rows, deed, *days),
        Act::WidenRole { user, role, tenants, restore_grant } => {
            let tenants = users::scope(tenants.as_deref());
            let rights = Rights { role: *role, tenants, restore_grant: *restore_grant };
            users::change(rows, deed, *user, &rights).map(drop)
        }
        Act::DeleteTenant { tenant } => tenants::delete(rows, deed, *tenant).map(drop),
    }
}

/// The approval with this id.
///
/// # Errors
/// `request_unknown` where there is none.
pub fn find<R: Rows + ?Sized>(rows: &R, id: [u8; 16]) -> Result<ApprovalRow, Failure> {
    rows.value(APPROVALS, &id)?.ok_or_else(unknown)
}

/// The refusal for an approval that does not exist, or is not shown to the caller.
#[must_use]
pub fn unknown() -> Failure {
    Failure::refused(ErrorCode::RequestUnknown, "there is no such approval")
}

/// Every approval that is remembered, newest last.
///
/// # Errors
/// What the catalog says.
pub fn list<R: Rows + ?Sized>(rows: &R) -> Result<Vec<ApprovalRow>, Failure> {
    let found =
        rows.scan_values::<ApprovalRow>(APPROVALS, b"", None, Order::Ascending, APPROVALS_MAX)?;
    let mut found: Vec<_> = found.into_iter().map(|(_, approval)| approval).collect();
    found.sort_by_key(|approval| approval.asked_micros);
    Ok(found)
}

fn forget_old(rows: &mut dyn RowsMut, now: Timestamp) -> Result<(), Failure> {
    let all = list(rows)?;
    for approval in &all {
        if now.since(Timestamp::from_micros(approval.asked_micros)) > REMEMBERED {
            rows.remove(APPROVALS, &approval.id)?;
        }
    }
    let n_waiting = all.iter().filter(|row| row.state_at(now) == State::Waiting).count();
    if all.len() >= APPROVALS_MAX || n_waiting >= 100 {
        return Err(Failure::refused(ErrorCode::Busy, "too many actions wait for a second person"));
    }
    Ok(())
}

fn told(approval: &ApprovalRow) -> Vec<(&'static str, String)> {
    let mut facts = vec![
        ("act", approval.act.word().to_owned()),
        ("state", approval.state.word().to_owned()),
        ("digest", Digest::from_bytes(approval.digest).to_string()),
        ("initiator", approval.initiator_name.clone()),
    ];
    let seen: Vec<_> =
        approval.seen.iter().map(|(name, value)| format!("{name}: {value}")).collect();
    facts.push(("what", seen.join("; ")));
    facts
}

#[cfg(test)]
mod tests;
