//! What an operator said about keeping: policies per agent with one for all others, and how long
//! what is deleted can be brought back.
//!
//! A policy may be set either way by one person: it only ever marks, and a mark can be taken back.
//! The time for that may be lengthened by one person; shortening takes two (C-06).
//!
//! **Absent:** locks (the store's), which points go (`offsite_model::retention`).

use offsite_model::{AgentId, Policy, Span};
use offsite_proto::error::ErrorCode;
use offsite_store::catalog::{Rows, RowsMut, Table, TypedRows, TypedRowsMut, Value};
use serde::{Deserialize, Serialize};

use crate::audit::Event;
use crate::deed::Deed;
use crate::failure::Failure;
use crate::replicas::Owner;

/// Policies: of an agent, by tenant, source and agent; of all others, by an empty name.
pub(crate) const POLICIES: Table = Table::new("retention_policies");
/// What holds for the whole target, one row.
pub(crate) const RULES: Table = Table::new("retention_rules");
const RULES_KEY: &[u8] = b"rules";
const DEFAULT_KEY: &[u8] = b"default";
/// Bytes of a policy's text.
const POLICY_BYTES_MAX: usize = 1 << 10;

/// How long what is deleted can be brought back, in days, where nobody said otherwise.
pub(crate) const SOFT_DELETE_DAYS: u32 = 14;
/// The least that may be said.
pub(crate) const SOFT_DELETE_DAYS_MIN: u32 = 7;
/// The most.
pub(crate) const SOFT_DELETE_DAYS_MAX: u32 = 400;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct PolicyRow {
    text: String,
}

impl Value for PolicyRow {
    const VERSION: u8 = 0;
    const BYTES_MAX: usize = POLICY_BYTES_MAX;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct RulesRow {
    soft_delete_days: u32,
}

impl Value for RulesRow {
    const VERSION: u8 = 0;
    const BYTES_MAX: usize = 64;
}

/// The policy that holds for an agent, and whether it is its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Holding {
    pub(crate) policy: Policy,
    pub(crate) is_own: bool,
}

fn read<R: Rows + ?Sized>(rows: &R, key: &[u8]) -> Result<Option<Policy>, Failure> {
    let Some(row) = rows.value::<PolicyRow>(POLICIES, key)? else { return Ok(None) };
    // Written by us from a policy: one that is not one is damage, and removes nothing.
    row.text.parse().map(Some).map_err(|cause| {
        Failure::refused(ErrorCode::Internal, format!("a stored policy is damaged: {cause}"))
    })
}

/// The policy of all agents that have none of their own.
///
/// # Errors
/// The catalog's, or `internal` for one that cannot be read.
pub(crate) fn default_policy<R: Rows + ?Sized>(rows: &R) -> Result<Policy, Failure> {
    Ok(read(rows, DEFAULT_KEY)?.unwrap_or_default())
}

/// The policy of an agent.
///
/// # Errors
/// As [`default_policy`].
pub(crate) fn policy_of<R: Rows + ?Sized>(
    rows: &R,
    owner: &Owner,
    agent: AgentId,
) -> Result<Holding, Failure> {
    match read(rows, &owner.of_agent(agent))? {
        Some(policy) => Ok(Holding { policy, is_own: true }),
        None => Ok(Holding { policy: default_policy(rows)?, is_own: false }),
    }
}

/// Sets the policy of one agent, or of all others.
///
/// # Errors
/// The catalog's.
pub(crate) fn set_policy(
    rows: &mut dyn RowsMut,
    deed: &Deed<'_>,
    agent: Option<(&Owner, AgentId, &str)>,
    policy: Policy,
) -> Result<(), Failure> {
    let key = agent.map_or_else(|| DEFAULT_KEY.to_vec(), |(owner, id, _)| owner.of_agent(id));
    let before = read(rows, &key).ok().flatten();
    rows.put_value(POLICIES, &key, &PolicyRow { text: policy.to_string() })?;
    let of = agent.map_or_else(|| "all others".to_owned(), |(.., name)| name.to_owned());
    let facts = [
        ("agent", of),
        ("policy", policy.to_string()),
        ("before", before.map_or_else(|| "none".to_owned(), |policy| policy.to_string())),
    ];
    let tenant = agent.map(|(owner, ..)| owner.tenant);
    Ok(deed.record(rows, Event::RetentionSet, tenant, &facts)?)
}

/// How many days what is deleted can be brought back.
///
/// # Errors
/// The catalog's.
pub(crate) fn soft_delete_days<R: Rows + ?Sized>(rows: &R) -> Result<u32, Failure> {
    let row = rows.value::<RulesRow>(RULES, RULES_KEY)?;
    let days = row.map_or(SOFT_DELETE_DAYS, |row| row.soft_delete_days);
    Ok(days.clamp(SOFT_DELETE_DAYS_MIN, SOFT_DELETE_DAYS_MAX))
}

/// How long what is deleted can be brought back.
///
/// # Errors
/// The catalog's.
pub(crate) fn soft_delete<R: Rows + ?Sized>(rows: &R) -> Result<Span, Failure> {
    Ok(Span::from_days(u64::from(soft_delete_days(rows)?)))
}

/// Refuses days that nobody may set.
///
/// # Errors
/// `bad_request`.
pub(crate) fn check_soft_delete(days: u32) -> Result<(), Failure> {
    match (SOFT_DELETE_DAYS_MIN..=SOFT_DELETE_DAYS_MAX).contains(&days) {
        true => Ok(()),
        false => Err(Failure::refused(
            ErrorCode::BadRequest,
            format!("soft deletion lasts {SOFT_DELETE_DAYS_MIN} to {SOFT_DELETE_DAYS_MAX} days"),
        )),
    }
}

/// Lengthens soft deletion; one person may.
///
/// # Errors
/// `retention_locked` where it would get shorter, `bad_request` outside its bounds.
pub(crate) fn lengthen_soft_delete(
    rows: &mut dyn RowsMut,
    deed: &Deed<'_>,
    days: u32,
) -> Result<(), Failure> {
    check_soft_delete(days)?;
    let before = soft_delete_days(rows)?;
    if days < before {
        return Err(Failure::refused(
            ErrorCode::RetentionLocked,
            format!("soft deletion lasts {before} days; shortening it takes two persons"),
        ));
    }
    put_soft_delete(rows, deed, days)
}

/// Sets soft deletion. That this caller may is decided before.
///
/// # Errors
/// `bad_request` outside its bounds.
pub(crate) fn put_soft_delete(
    rows: &mut dyn RowsMut,
    deed: &Deed<'_>,
    days: u32,
) -> Result<(), Failure> {
    check_soft_delete(days)?;
    let before = soft_delete_days(rows)?;
    rows.put_value(RULES, RULES_KEY, &RulesRow { soft_delete_days: days })?;
    let facts = [("soft_delete_days", days.to_string()), ("before", before.to_string())];
    Ok(deed.record(rows, Event::RetentionSet, None, &facts)?)
}
