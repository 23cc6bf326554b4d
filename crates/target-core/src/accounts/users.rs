//! Accounts of operators: name, role, tenants, password.
//!
//! A removed account keeps its row, so that the audit log and approvals can still name it; its name
//! becomes free.

use offsite_model::{TenantId, Timestamp, UserId};
use offsite_proto::error::ErrorCode;
use offsite_store::catalog::{Order, Rows, RowsMut, Table, TypedRows, TypedRowsMut, Value};
use serde::{Deserialize, Serialize};

use super::check_label;
use super::passwords::PasswordHash;
use crate::audit::Event;
use crate::deed::Deed;
use crate::failure::Failure;
use crate::principal::{Person, Role, TenantScope};

/// Accounts, by id.
pub const USERS: Table = Table::new("users");
/// Ids of accounts, by lower-case name.
pub const USER_NAMES: Table = Table::new("user_names");
/// Accounts that there may be.
pub const USERS_MAX: usize = 1_000;

/// An account as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserRow {
    /// Its id.
    #[serde(with = "crate::rows::id")]
    pub id: UserId,
    /// Its name.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// For which tenants; none = for all of them.
    pub tenants: Option<Vec<[u8; 16]>>,
    /// Whether it may read data of its tenants back.
    pub restore_grant: bool,
    /// Its password; none = tokens only.
    pub password: Option<PasswordHash>,
    /// Who made it; none for the first one.
    pub made_by: Option<Person>,
    /// When, in microseconds since 1970.
    pub created_micros: i64,
    /// When it was removed.
    pub removed_micros: Option<i64>,
}

impl Value for UserRow {
    const VERSION: u8 = 0;
    const BYTES_MAX: usize = 64 << 10;
}

impl UserRow {
    /// For which tenants.
    #[must_use]
    pub fn scope(&self) -> TenantScope {
        scope(self.tenants.as_deref())
    }

    /// Whether it still counts.
    #[must_use]
    pub const fn is_active(&self) -> bool {
        self.removed_micros.is_none()
    }

    /// When it was made.
    #[must_use]
    pub const fn created_at(&self) -> Timestamp {
        Timestamp::from_micros(self.created_micros)
    }
}

/// The scope that a row says.
#[must_use]
pub(crate) fn scope(tenants: Option<&[[u8; 16]]>) -> TenantScope {
    tenants.map_or(TenantScope::All, |tenants| {
        TenantScope::only(tenants.iter().copied().map(TenantId::from_bytes).collect())
    })
}

/// What a row says for a scope.
#[must_use]
pub(crate) fn scope_row(scope: &TenantScope) -> Option<Vec<[u8; 16]>> {
    match scope {
        TenantScope::All => None,
        TenantScope::Only(tenants) => {
            Some(tenants.iter().map(|tenant| tenant.to_bytes()).collect())
        }
    }
}

/// What an account may do, apart from who it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rights {
    /// Its role.
    pub role: Role,
    /// Its tenants.
    pub tenants: TenantScope,
    /// Whether it may read data of its tenants back.
    pub restore_grant: bool,
}

impl Rights {
    /// Roles that reach everything cannot be bound to tenants: the table knows no such thing.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        let reaches_all = matches!(self.role, Role::Administrator | Role::Officer);
        if reaches_all && self.tenants != TenantScope::All {
            return Err(Failure::refused(
                ErrorCode::BadRequest,
                format!("the role {} cannot be bound to tenants", self.role),
            ));
        }
        Ok(())
    }

    /// Whether this allows anything that the other does not.
    #[must_use]
    pub fn widens(&self, other: &Self) -> bool {
        !role_includes(other.role, self.role)
            || self.tenants.intersection(&other.tenants) != self.tenants
            || (self.restore_grant && !other.restore_grant)
    }
}

/// Whether the one role may all that the other may.
#[must_use]
pub const fn role_includes(wide: Role, narrow: Role) -> bool {
    match wide {
        Role::Administrator => true,
        Role::Operator => matches!(narrow, Role::Operator | Role::Viewer),
        Role::Viewer => matches!(narrow, Role::Viewer),
        Role::Officer => matches!(narrow, Role::Officer),
    }
}

/// Makes an account.
///
/// # Errors
/// `already_exists` for a name in use, `bad_request` for one that is not allowed, `forbidden` above
/// the bound.
pub fn add(
    rows: &mut dyn RowsMut,
    deed: &Deed<'_>,
    name: &str,
    rights: &Rights,
    password: Option<PasswordHash>,
) -> Result<UserRow, Failure> {
    check_label("a user", name)?;
    rights.check()?;
    if find(rows, name)?.is_some() {
        return Err(Failure::refused(
            ErrorCode::AlreadyExists,
            format!("there is a user {name} already"),
        ));
    }
    if list(rows)?.len() >= USERS_MAX {
        return Err(Failure::refused(
            ErrorCode::Forbidden,
            format!("there are {USERS_MAX} users already"),
        ));
    }
    let user = UserRow {
        id: UserId::random(deed.luck),
        name: name.to_owned(),
        role: rights.role,
        tenants: scope_row(&rights.tenants),
        restore_grant: rights.restore_grant,
        password,
        made_by: deed.person(),
        created_micros: deed.at.as_micros(),
        removed_micros: None,
    };
    put(rows, &user)?;
    rows.put(USER_NAMES, &name_key(name), &user.id.to_bytes())?;
    deed.record(rows, Event::UserAdded, None, &told(&user))?;
    Ok(user)
}

/// Takes an account's rights away for good; its tokens stop with it.
///
/// # Errors
/// `account_unknown`; `forbidden` for the last administrator.
pub fn remove(rows: &mut dyn RowsMut, deed: &Deed<'_>, name: &str) -> Result<UserRow, Failure> {
    let mut user = named(rows, name)?;
    check_not_last(rows, &user)?;
    user.removed_micros = Some(deed.at.as_micros());
    user.password = None;
    put(rows, &user)?;
    rows.remove(USER_NAMES, &name_key(name))?;
    deed.record(rows, Event::UserRemoved, None, &told(&user))?;
    Ok(user)
}

/// Gives an account other rights. Whether that needs a second person is asked before, by
/// [`Rights::widens`].
///
/// # Errors
/// `account_unknown`; `forbidden` where no administrator would be left.
pub(crate) fn change(
    rows: &mut dyn RowsMut,
    deed: &Deed<'_>,
    id: UserId,
    rights: &Rights,
) -> Result<UserRow, Failure> {
    rights.check()?;
    let mut user = by_id(rows, id)?.filter(UserRow::is_active).ok_or_else(|| unknown(&id))?;
    if rights.role != Role::Administrator {
        check_not_last(rows, &user)?;
    }
    user.role = rights.role;
    user.tenants = scope_row(&rights.tenants);
    user.restore_grant = rights.restore_grant;
    put(rows, &user)?;
    deed.record(rows, Event::UserChanged, None, &told(&user))?;
    Ok(user)
}

fn check_not_last(rows: &dyn RowsMut, user: &UserRow) -> Result<(), Failure> {
    let is_another = |other: &UserRow| other.role == Role::Administrator && other.id != user.id;
    if user.role == Role::Administrator && !list(rows)?.iter().any(is_another) {
        return Err(Failure::refused(
            ErrorCode::Forbidden,
            format!("{} is the last administrator", user.name),
        ));
    }
    Ok(())
}

fn told(user: &UserRow) -> [(&'static str, String); 4] {
    let tenants = match user.scope() {
        TenantScope::All => "all".to_owned(),
        TenantScope::Only(tenants) => {
            tenants.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
        }
    };
    [
        ("user", user.id.to_string()),
        ("name", user.name.clone()),
        ("role", user.role.to_string()),
        ("tenants", tenants),
    ]
}

fn put(rows: &mut dyn RowsMut, user: &UserRow) -> Result<(), Failure> {
    Ok(rows.put_value(USERS, &user.id.to_bytes(), user)?)
}

fn name_key(name: &str) -> Vec<u8> {
    name.to_lowercase().into_bytes()
}

fn unknown(what: &dyn std::fmt::Display) -> Failure {
    Failure::refused(ErrorCode::AccountUnknown, format!("there is no user {what}"))
}

/// The active account of this name.
///
/// # Errors
/// What the catalog says.
pub fn find<R: Rows + ?Sized>(rows: &R, name: &str) -> Result<Option<UserRow>, Failure> {
    let key = name_key(name);
    if key.is_empty() || key.len() > offsite_store::catalog::KEY_BYTES_MAX {
        return Ok(None);
    }
    let Some(id) = rows.get(USER_NAMES, &key)? else { return Ok(None) };
    Ok(rows.value::<UserRow>(USERS, &id)?.filter(UserRow::is_active))
}

/// The active account of this name.
///
/// # Errors
/// `account_unknown` where there is none.
pub fn named<R: Rows + ?Sized>(rows: &R, name: &str) -> Result<UserRow, Failure> {
    find(rows, name)?.ok_or_else(|| unknown(&name))
}

/// The account with this id, removed ones included.
///
/// # Errors
/// What the catalog says.
pub fn by_id<R: Rows + ?Sized>(rows: &R, id: UserId) -> Result<Option<UserRow>, Failure> {
    Ok(rows.value(USERS, &id.to_bytes())?)
}

/// Every active account, by name.
///
/// # Errors
/// What the catalog says.
pub fn list<R: Rows + ?Sized>(rows: &R) -> Result<Vec<UserRow>, Failure> {
    let names = rows.scan_prefix(USER_NAMES, b"", None, Order::Ascending, USERS_MAX)?;
    let mut users = Vec::with_capacity(names.len());
    for (_, id) in names {
        users.extend(rows.value::<UserRow>(USERS, &id)?.filter(UserRow::is_active));
    }
    Ok(users)
}

/// Whether `person` is this account, made it, or made who made it: then the two are no four eyes.
///
/// # Errors
/// What the catalog says.
pub fn descends_from<R: Rows + ?Sized>(
    rows: &R,
    user: UserId,
    person: Person,
) -> Result<bool, Failure> {
    let mut current = user;
    for _ in 0..USERS_MAX {
        if person == Person::User(current) {
            return Ok(true);
        }
        match by_id(rows, current)?.and_then(|row| row.made_by) {
            Some(Person::User(maker)) => current = maker,
            // Root of this machine makes the first officers of every target. That he could be one
            // of them is the limit that the manual states; tokens he made himself are refused all
            // the same.
            Some(Person::LocalRoot) | None => return Ok(false),
        }
    }
    Ok(true)
}
