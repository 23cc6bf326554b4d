//! Tenants: the customers of this target. A tenant bounds deduplication, quota and sight.
//!
//! A quota may be set either way by one person. A lock may only be lengthened: shortening would let
//! one stolen credential prepare a deletion (C-03), so it is refused here for everybody.

use offsite_model::{TenantId, Timestamp};
use offsite_proto::error::ErrorCode;
use offsite_store::catalog::{
    CatalogError, Order, Rows, RowsMut, Table, TypedRows, TypedRowsMut, Value,
};
use serde::{Deserialize, Serialize};

use crate::accounts::{check_label, tamed_label};
use crate::audit::Event;
use crate::deed::Deed;
use crate::failure::Failure;

/// Tenants, by id.
pub const TENANTS: Table = Table::new("tenants");
/// Ids of tenants, by lower-case name.
pub const TENANT_NAMES: Table = Table::new("tenant_names");
/// Tenants that there may be.
pub const TENANTS_MAX: usize = 10_000;
/// The longest lock that one person may set, in days.
pub const LOCK_DAYS_MAX: u32 = 400;

/// A tenant as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TenantRow {
    /// Its id.
    #[serde(with = "crate::rows::id")]
    pub id: TenantId,
    /// Its name.
    pub name: String,
    /// The most it may store, in bytes; none = no quota.
    pub quota_bytes: Option<u64>,
    /// The least time a point is kept from deletion, in days.
    pub lock_days: u32,
    /// When it was made, in microseconds since 1970.
    pub created_micros: i64,
    /// When it was deleted.
    pub deleted_micros: Option<i64>,
}

impl Value for TenantRow {
    const VERSION: u8 = 0;
    const BYTES_MAX: usize = 4 << 10;
}

impl TenantRow {
    /// Whether it still counts.
    #[must_use]
    pub const fn is_active(&self) -> bool {
        self.deleted_micros.is_none()
    }

    /// When it was made.
    #[must_use]
    pub const fn created_at(&self) -> Timestamp {
        Timestamp::from_micros(self.created_micros)
    }
}

/// Makes a tenant under a name that an operator chose.
///
/// # Errors
/// `already_exists` for a name in use, `bad_request` for one that is not allowed.
pub fn add(rows: &mut dyn RowsMut, deed: &Deed<'_>, name: &str) -> Result<TenantRow, Failure> {
    check_label("a tenant", name)?;
    if find_named(rows, name)?.is_some() {
        return Err(Failure::refused(
            ErrorCode::AlreadyExists,
            format!("there is a tenant {name} already"),
        ));
    }
    insert(rows, deed, name)
}

/// Makes a tenant for a source that gets one of its own, named after it, with a number where that
/// name is in use.
///
/// # Errors
/// `forbidden` above the bound.
pub fn add_for_source(
    rows: &mut dyn RowsMut,
    deed: &Deed<'_>,
    source_name: &str,
) -> Result<TenantRow, Failure> {
    let name = tamed_label(source_name);
    for number in 1..=TENANTS_MAX {
        let name = if number == 1 { name.clone() } else { format!("{name} ({number})") };
        if find_named(rows, &name)?.is_none() {
            return insert(rows, deed, &name);
        }
    }
    Err(too_many())
}

fn too_many() -> Failure {
    Failure::refused(ErrorCode::Forbidden, format!("there are {TENANTS_MAX} tenants already"))
}

fn insert(rows: &mut dyn RowsMut, deed: &Deed<'_>, name: &str) -> Result<TenantRow, Failure> {
    if rows.scan_prefix(TENANT_NAMES, b"", None, Order::Ascending, TENANTS_MAX)?.len()
        >= TENANTS_MAX
    {
        return Err(too_many());
    }
    let tenant = TenantRow {
        id: TenantId::random(deed.luck),
        name: name.to_owned(),
        quota_bytes: None,
        lock_days: 0,
        created_micros: deed.at.as_micros(),
        deleted_micros: None,
    };
    put(rows, &tenant)?;
    rows.put(TENANT_NAMES, &name_key(name), &tenant.id.to_bytes())?;
    let facts = [("name", tenant.name.clone())];
    deed.record(rows, Event::TenantAdded, Some(tenant.id), &facts)?;
    Ok(tenant)
}

/// Sets quota and lock; what is `None` stays. A quota of 0 takes it away.
///
/// # Errors
/// `retention_locked` for a shorter lock, `bad_request` for one above the bound.
pub fn set(
    rows: &mut dyn RowsMut,
    deed: &Deed<'_>,
    id: TenantId,
    quota_bytes: Option<u64>,
    lock_days: Option<u32>,
) -> Result<TenantRow, Failure> {
    let mut tenant = by_id(rows, id)?.filter(TenantRow::is_active).ok_or_else(|| unknown(&id))?;
    if let Some(quota) = quota_bytes {
        tenant.quota_bytes = (quota > 0).then_some(quota);
    }
    if let Some(days) = lock_days {
        if days > LOCK_DAYS_MAX {
            return Err(Failure::refused(
                ErrorCode::BadRequest,
                format!("a lock is at most {LOCK_DAYS_MAX} days"),
            ));
        }
        if days < tenant.lock_days {
            return Err(Failure::refused(
                ErrorCode::RetentionLocked,
                format!(
                    "the lock of {} is {} days and cannot be shortened",
                    tenant.name, tenant.lock_days
                ),
            ));
        }
        tenant.lock_days = days;
    }
    put(rows, &tenant)?;
    let quota = tenant.quota_bytes.map_or_else(|| "none".to_owned(), |bytes| bytes.to_string());
    let facts = [
        ("name", tenant.name.clone()),
        ("quota_bytes", quota),
        ("lock_days", tenant.lock_days.to_string()),
    ];
    deed.record(rows, Event::TenantChanged, Some(id), &facts)?;
    Ok(tenant)
}

/// Ends a tenant. That nothing of it is left, and that two persons agreed, is checked before.
///
/// # Errors
/// `tenant_unknown` where there is none.
pub(crate) fn delete(
    rows: &mut dyn RowsMut,
    deed: &Deed<'_>,
    id: TenantId,
) -> Result<TenantRow, Failure> {
    let mut tenant = by_id(rows, id)?.filter(TenantRow::is_active).ok_or_else(|| unknown(&id))?;
    tenant.deleted_micros = Some(deed.at.as_micros());
    put(rows, &tenant)?;
    rows.remove(TENANT_NAMES, &name_key(&tenant.name))?;
    deed.record(rows, Event::TenantDeleted, Some(id), &[("name", tenant.name.clone())])?;
    Ok(tenant)
}

fn put(rows: &mut dyn RowsMut, tenant: &TenantRow) -> Result<(), Failure> {
    Ok(rows.put_value(TENANTS, &tenant.id.to_bytes(), tenant)?)
}

fn name_key(name: &str) -> Vec<u8> {
    name.to_lowercase().into_bytes()
}

/// The refusal for a tenant that does not exist, or is not the caller's.
#[must_use]
pub fn unknown(name: &dyn std::fmt::Display) -> Failure {
    Failure::refused(ErrorCode::TenantUnknown, format!("there is no tenant {name}"))
}

/// The tenant with this id, deleted ones included.
///
/// # Errors
/// What the catalog says.
pub fn by_id<R: Rows + ?Sized>(rows: &R, id: TenantId) -> Result<Option<TenantRow>, Failure> {
    Ok(rows.value(TENANTS, &id.to_bytes())?)
}

fn find_named<R: Rows + ?Sized>(rows: &R, name: &str) -> Result<Option<TenantRow>, Failure> {
    let key = name_key(name);
    if key.is_empty() || key.len() > offsite_store::catalog::KEY_BYTES_MAX {
        return Ok(None);
    }
    let Some(id) = rows.get(TENANT_NAMES, &key)? else { return Ok(None) };
    Ok(rows.value::<TenantRow>(TENANTS, &id)?.filter(TenantRow::is_active))
}

/// The active tenant that an operator names, by name or id.
///
/// # Errors
/// `tenant_unknown` where there is none.
pub fn find<R: Rows + ?Sized>(rows: &R, name: &str) -> Result<TenantRow, Failure> {
    let found = match name.parse::<TenantId>() {
        Ok(id) => by_id(rows, id)?.filter(TenantRow::is_active),
        Err(_) => find_named(rows, name)?,
    };
    found.ok_or_else(|| unknown(&name))
}

/// The ids of all tenants, deleted ones included.
///
/// # Errors
/// What the catalog says.
pub(crate) fn ids<R: Rows + ?Sized>(rows: &R) -> Result<Vec<TenantId>, CatalogError> {
    let mut ids = Vec::new();
    let mut after: Option<Vec<u8>> = None;
    loop {
        let page =
            rows.scan_prefix(TENANTS, b"", after.as_deref(), Order::Ascending, TENANTS_MAX)?;
        let Some((last, _)) = page.last() else { return Ok(ids) };
        after = Some(last.clone());
        ids.extend(page.iter().filter_map(|(key, _)| {
            <[u8; 16]>::try_from(key.as_slice()).ok().map(TenantId::from_bytes)
        }));
    }
}

/// Every active tenant, by name.
///
/// # Errors
/// What the catalog says.
pub fn list<R: Rows + ?Sized>(rows: &R) -> Result<Vec<TenantRow>, Failure> {
    let names = rows.scan_prefix(TENANT_NAMES, b"", None, Order::Ascending, TENANTS_MAX)?;
    let mut tenants = Vec::with_capacity(names.len());
    for (_, id) in names {
        tenants.extend(rows.value::<TenantRow>(TENANTS, &id)?.filter(TenantRow::is_active));
    }
    Ok(tenants)
}
