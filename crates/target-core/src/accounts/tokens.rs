//! Access tokens: 256 random bits, kept as SHA-256 under an id that is no secret, shown once.
//!
//! The text is `offsite_`, the id, the secret and a checksum, so that a scanner for leaked secrets
//! knows it and a token that was cut while copying is told from one that was revoked, without
//! asking the catalog.
//!
//! **Absent:** the secret itself, after it was shown.

use offsite_daemon::Secret;
use offsite_model::{Span, TenantId, Timestamp, TokenId, UserId};
use offsite_proto::error::ErrorCode;
use offsite_store::catalog::{Order, Rows, RowsMut, Table, TypedRows, TypedRowsMut, Value};
use serde::{Deserialize, Serialize};

use super::code;
use super::users::{self, UserRow, role_includes, scope};
use crate::audit::Event;
use crate::deed::Deed;
use crate::failure::Failure;
use crate::principal::{Account, Person, Role, TenantScope};

/// Tokens, by id.
pub const TOKENS: Table = Table::new("tokens");
/// Tokens that there may be, lapsed ones included while they are remembered.
pub const TOKENS_MAX: usize = 20_000;
/// How long a token lasts where nothing is said.
pub const DAYS_DEFAULT: u32 = 90;
/// The longest a token may last.
pub const DAYS_MAX: u32 = 400;
/// How long an operator session lasts that was opened with a password.
pub const SESSION: Span = Span::from_hours(12);
/// How long a lapsed or revoked token stays in the list.
const REMEMBERED: Span = Span::from_days(30);
const PREFIX: &str = "offsite_";
const ID_LETTERS: usize = 26;
const SECRET_LETTERS: usize = 52;

/// A token as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenRow {
    /// Its id.
    #[serde(with = "crate::rows::id")]
    pub id: TokenId,
    /// Whose it is.
    #[serde(with = "crate::rows::id")]
    pub user: UserId,
    /// SHA-256 of its secret.
    pub sha256: [u8; 32],
    /// The role it is narrowed to; none = the account's own.
    pub role: Option<Role>,
    /// The tenants it is narrowed to; none = the account's own.
    pub tenants: Option<Vec<[u8; 16]>>,
    /// Who made it, where it was not its owner.
    pub minted_by: Option<Person>,
    /// When it was made, in microseconds since 1970.
    pub created_micros: i64,
    /// When it lapses.
    pub expires_micros: i64,
    /// When it was revoked.
    pub revoked_micros: Option<i64>,
}

impl Value for TokenRow {
    const VERSION: u8 = 0;
    const BYTES_MAX: usize = 64 << 10;
}

impl TokenRow {
    /// When it lapses.
    #[must_use]
    pub const fn expires_at(&self) -> Timestamp {
        Timestamp::from_micros(self.expires_micros)
    }

    /// Whether it opens anything at this moment.
    #[must_use]
    pub fn is_live(&self, now: Timestamp) -> bool {
        self.revoked_micros.is_none() && now < self.expires_at()
    }
}

/// What a token shall be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// How long it lasts.
    pub life: Span,
    /// The role it is narrowed to.
    pub role: Option<Role>,
    /// The tenants it is narrowed to.
    pub tenants: TenantScope,
}

impl Wanted {
    /// A token with all rights of its owner that lasts so many days.
    ///
    /// # Errors
    /// `bad_request` for no days or too many.
    pub fn days(days: Option<u32>) -> Result<Self, Failure> {
        let days = days.unwrap_or(DAYS_DEFAULT);
        if days == 0 || days > DAYS_MAX {
            return Err(Failure::refused(
                ErrorCode::BadRequest,
                format!("a token lasts 1 to {DAYS_MAX} days"),
            ));
        }
        Ok(Self { life: Span::from_days(days.into()), role: None, tenants: TenantScope::All })
    }

    /// A token for an operator session.
    #[must_use]
    pub const fn session() -> Self {
        Self { life: SESSION, role: None, tenants: TenantScope::All }
    }
}

/// Makes a token; its text is in no row and cannot be had again.
///
/// # Errors
/// `bad_request` where it would be wider than its owner; `forbidden` above the bound.
pub fn issue(
    rows: &mut dyn RowsMut,
    deed: &Deed<'_>,
    owner: &UserRow,
    wanted: &Wanted,
) -> Result<(TokenRow, Secret<String>), Failure> {
    if wanted.role.is_some_and(|role| !role_includes(owner.role, role)) {
        return Err(Failure::refused(
            ErrorCode::BadRequest,
            format!(
                "a token of {} cannot have more rights than its role {}",
                owner.name, owner.role
            ),
        ));
    }
    if !is_consistent(wanted.role.unwrap_or(owner.role), &wanted.tenants) {
        return Err(Failure::refused(
            ErrorCode::BadRequest,
            format!("a token of the role {} cannot be bound to tenants", owner.role),
        ));
    }
    forget_lapsed(rows, deed.at)?;
    if rows.scan_prefix(TOKENS, b"", None, Order::Ascending, TOKENS_MAX)?.len() >= TOKENS_MAX {
        return Err(Failure::refused(
            ErrorCode::Forbidden,
            format!("there are {TOKENS_MAX} tokens already"),
        ));
    }
    let mut secret = zeroize::Zeroizing::new([0; 32]);
    deed.luck.fill(&mut *secret);
    let id = TokenId::random(deed.luck);
    let minted_by = deed.person().filter(|person| *person != Person::User(owner.id));
    let token = TokenRow {
        id,
        user: owner.id,
        sha256: code::sha256(&*secret),
        role: wanted.role,
        tenants: users::scope_row(&wanted.tenants),
        minted_by,
        created_micros: deed.at.as_micros(),
        expires_micros: (deed.at + wanted.life).as_micros(),
        revoked_micros: None,
    };
    rows.put_value(TOKENS, &id.to_bytes(), &token)?;
    deed.record(rows, Event::TokenAdded, None, &told(&token, owner))?;
    Ok((token, text(id, &secret)))
}

/// Whether the table of rights knows such a caller: administrators and officers act on what belongs
/// to no tenant, so one of them with bounds could make himself an account without.
const fn is_consistent(role: Role, tenants: &TenantScope) -> bool {
    let reaches_all = matches!(role, Role::Administrator | Role::Officer);
    !reaches_all || matches!(tenants, TenantScope::All)
}

fn text(id: TokenId, secret: &[u8; 32]) -> Secret<String> {
    let mut text = format!("{PREFIX}{}", code::letters(&id.to_bytes()));
    text.push_str(&zeroize::Zeroizing::new(code::letters(secret)));
    let check = code::checksum(&text);
    text.push_str(&check);
    Secret::new(text)
}

/// The parts of a token's text; none where it was mistyped or is no token.
fn parts(offered: &str) -> Option<(TokenId, zeroize::Zeroizing<[u8; 32]>)> {
    let rest = offered.strip_prefix(PREFIX)?;
    let (id, rest) = rest.split_at_checked(ID_LETTERS)?;
    let (secret, check) = rest.split_at_checked(SECRET_LETTERS)?;
    let told = offered.get(..offered.len().checked_sub(check.len())?)?;
    if code::checksum(told) != check {
        return None;
    }
    Some((TokenId::from_bytes(code::bytes(id)?), zeroize::Zeroizing::new(code::bytes(secret)?)))
}

/// Whose token this is and what it lets him do now; none for every reason why it is not good.
///
/// The secret is compared in constant time, and an unknown id costs a comparison too.
///
/// # Errors
/// What the catalog says.
pub fn check<R: Rows + ?Sized>(
    rows: &R,
    offered: &str,
    now: Timestamp,
) -> Result<Option<Account>, Failure> {
    let Some((id, secret)) = parts(offered) else { return Ok(None) };
    let token: Option<TokenRow> = rows.value(TOKENS, &id.to_bytes())?;
    let expected = token.as_ref().map_or([0; 32], |token| token.sha256);
    let same =
        aws_lc_rs::constant_time::verify_slices_are_equal(&expected, &code::sha256(&*secret))
            .is_ok();
    let Some(token) = token.filter(|token| same && token.is_live(now)) else { return Ok(None) };
    let Some(user) = users::by_id(rows, token.user)?.filter(UserRow::is_active) else {
        return Ok(None);
    };
    let narrowed = token.role.filter(|role| role_includes(user.role, *role));
    let role = narrowed.unwrap_or(user.role);
    let tenants = user.scope().intersection(&scope(token.tenants.as_deref()));
    // The account may have got a wider role since the token was made.
    if !is_consistent(role, &tenants) {
        return Ok(None);
    }
    Ok(Some(Account {
        user: user.id,
        role,
        tenants,
        restore_grant: user.restore_grant,
        minted_by: token.minted_by,
        name: user.name,
    }))
}

/// Ends a token.
///
/// # Errors
/// `account_unknown` where there is none.
pub fn revoke(rows: &mut dyn RowsMut, deed: &Deed<'_>, id: TokenId) -> Result<TokenRow, Failure> {
    let mut token = find(rows, id)?;
    if token.revoked_micros.is_none() {
        token.revoked_micros = Some(deed.at.as_micros());
        rows.put_value(TOKENS, &id.to_bytes(), &token)?;
        let facts = [("token", id.to_string()), ("user", token.user.to_string())];
        deed.record(rows, Event::TokenRevoked, None, &facts)?;
    }
    Ok(token)
}

/// The token with this id.
///
/// # Errors
/// `account_unknown` where there is none.
pub fn find<R: Rows + ?Sized>(rows: &R, id: TokenId) -> Result<TokenRow, Failure> {
    rows.value(TOKENS, &id.to_bytes())?.ok_or_else(|| {
        Failure::refused(ErrorCode::AccountUnknown, format!("there is no token {id}"))
    })
}

/// Every token that is remembered, of one account or of all.
///
/// # Errors
/// What the catalog says.
pub fn list<R: Rows + ?Sized>(rows: &R, of: Option<UserId>) -> Result<Vec<TokenRow>, Failure> {
    let tokens = rows.scan_values::<TokenRow>(TOKENS, b"", None, Order::Ascending, TOKENS_MAX)?;
    let mut tokens: Vec<_> = tokens
        .into_iter()
        .map(|(_, token)| token)
        .filter(|token| of.is_none_or(|of| token.user == of))
        .collect();
    tokens.sort_by_key(|token| (token.created_micros, token.id));
    Ok(tokens)
}

fn forget_lapsed(rows: &mut dyn RowsMut, now: Timestamp) -> Result<(), Failure> {
    for token in list(rows, None)? {
        let ended = token.revoked_micros.unwrap_or(token.expires_micros);
        if now.since(Timestamp::from_micros(ended)) > REMEMBERED {
            rows.remove(TOKENS, &token.id.to_bytes())?;
        }
    }
    Ok(())
}

fn told(token: &TokenRow, owner: &UserRow) -> [(&'static str, String); 3] {
    [
        ("token", token.id.to_string()),
        ("user", owner.name.clone()),
        ("expires", offsite_proto::text::Time(token.expires_at()).to_string()),
    ]
}

/// The tenants that a list of ids means.
#[must_use]
pub fn only(tenants: Option<Vec<TenantId>>) -> TenantScope {
    tenants.map_or(TenantScope::All, TenantScope::only)
}
