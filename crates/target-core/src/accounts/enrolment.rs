//! Enrolment codes: handed out beforehand, they open the reserved pool of requests and say whose
//! operators see a request.
//!
//! A code is 128 random bits, bound to one tenant, good for one key, and proves nothing about that
//! key: a person still decides. Kept as SHA-256 only.

use offsite_daemon::Secret;
use offsite_model::{Span, TenantId, Timestamp};
use offsite_proto::error::ErrorCode;
use offsite_store::catalog::{Order, Rows, RowsMut, Table, TypedRows, TypedRowsMut, Value};
use serde::{Deserialize, Serialize};

use super::code;
use crate::audit::Event;
use crate::deed::Deed;
use crate::failure::Failure;
use crate::principal::KeyThumbprint;

/// Codes, by the SHA-256 of their bits.
pub const CODES: Table = Table::new("enrolment_codes");
/// Codes that there may be.
pub const CODES_MAX: usize = 10_000;
/// How long a code waits for its use where nothing is said.
pub const DAYS_DEFAULT: u32 = 14;
/// The longest a code may wait.
pub const DAYS_MAX: u32 = 90;
const LETTERS: usize = 26;

/// A code as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CodeRow {
    /// The tenant whose operators see what comes with it.
    #[serde(with = "crate::rows::id")]
    pub tenant: TenantId,
    /// A word of who handed it out, for the list.
    pub note: String,
    /// When it was made, in microseconds since 1970.
    pub created_micros: i64,
    /// When it lapses unused.
    pub expires_micros: i64,
    /// The key that used it.
    pub used_by: Option<KeyThumbprint>,
}

impl Value for CodeRow {
    const VERSION: u8 = 0;
    const BYTES_MAX: usize = 4 << 10;
}

impl CodeRow {
    fn is_live(&self, now: Timestamp) -> bool {
        now < Timestamp::from_micros(self.expires_micros)
    }
}

/// Makes a code for a tenant; its text cannot be had again.
///
/// # Errors
/// `bad_request` for no days or too many; `forbidden` above the bound.
pub fn add(
    rows: &mut dyn RowsMut,
    deed: &Deed<'_>,
    tenant: TenantId,
    days: Option<u32>,
    note: &str,
) -> Result<(CodeRow, Secret<String>), Failure> {
    let days = days.unwrap_or(DAYS_DEFAULT);
    if days == 0 || days > DAYS_MAX {
        return Err(Failure::refused(
            ErrorCode::BadRequest,
            format!("a code waits 1 to {DAYS_MAX} days"),
        ));
    }
    if !note.is_empty() {
        super::check_label("a code", note)?;
    }
    forget_lapsed(rows, deed.at)?;
    if list(rows)?.len() >= CODES_MAX {
        return Err(Failure::refused(
            ErrorCode::Forbidden,
            format!("there are {CODES_MAX} codes already"),
        ));
    }
    let mut bits = zeroize::Zeroizing::new([0; 16]);
    deed.luck.fill(&mut *bits);
    let row = CodeRow {
        tenant,
        note: note.to_owned(),
        created_micros: deed.at.as_micros(),
        expires_micros: (deed.at + Span::from_days(days.into())).as_micros(),
        used_by: None,
    };
    rows.put_value(CODES, &code::sha256(&*bits), &row)?;
    deed.record(rows, Event::EnrolmentAdded, Some(tenant), &[("note", note.to_owned())])?;
    Ok((row, Secret::new(text(&bits))))
}

/// Four by four with hyphens, the last group being the checksum.
fn text(bits: &[u8; 16]) -> String {
    let mut letters = code::letters(bits);
    let check = code::checksum(&letters);
    letters.push_str(&check);
    let groups: Vec<_> = letters
        .as_bytes()
        .chunks(4)
        .map(|group| String::from_utf8_lossy(group).into_owned())
        .collect();
    groups.join("-")
}

/// The bits of a code as somebody typed it.
fn bits(typed: &str) -> Option<[u8; 16]> {
    // Longer than any code with any separators: not looked at.
    if typed.len() > 128 {
        return None;
    }
    let letters: String = typed
        .chars()
        .filter(|letter| !matches!(letter, '-' | ' '))
        .map(|letter| match letter.to_ascii_lowercase() {
            'i' | 'l' => '1',
            'o' => '0',
            letter => letter,
        })
        .collect();
    let (letters, check) = letters.split_at_checked(LETTERS)?;
    (code::checksum(letters) == check).then(|| code::bytes(letters))?
}

/// The tenant of a code that this key may still use: unused, or used by this very key before.
/// Changes nothing.
///
/// # Errors
/// What the catalog says.
pub fn tenant_of<R: Rows + ?Sized>(
    rows: &R,
    typed: &str,
    key: &KeyThumbprint,
    now: Timestamp,
) -> Result<Option<TenantId>, Failure> {
    let Some(bits) = bits(typed) else { return Ok(None) };
    let row: Option<CodeRow> = rows.value(CODES, &code::sha256(&bits))?;
    Ok(row
        .filter(|row| row.used_by.map_or_else(|| row.is_live(now), |user| user == *key))
        .map(|row| row.tenant))
}

/// Uses a code up for a key and says its tenant; none for every reason why it is not good.
///
/// # Errors
/// What the catalog says.
pub fn redeem(
    rows: &mut dyn RowsMut,
    deed: &Deed<'_>,
    typed: &str,
    key: &KeyThumbprint,
) -> Result<Option<TenantId>, Failure> {
    let Some(tenant) = tenant_of(rows, typed, key, deed.at)? else { return Ok(None) };
    let Some(bits) = bits(typed) else { return Ok(None) };
    let place = code::sha256(&bits);
    if let Some(mut row) = rows.value::<CodeRow>(CODES, &place)?.filter(|row| row.used_by.is_none())
    {
        row.used_by = Some(*key);
        rows.put_value(CODES, &place, &row)?;
        deed.record(rows, Event::EnrolmentUsed, Some(tenant), &[("note", row.note)])?;
    }
    Ok(Some(tenant))
}

/// Every code that is remembered, newest last.
///
/// # Errors
/// What the catalog says.
pub fn list<R: Rows + ?Sized>(rows: &R) -> Result<Vec<CodeRow>, Failure> {
    let codes = rows.scan_values::<CodeRow>(CODES, b"", None, Order::Ascending, CODES_MAX)?;
    let mut codes: Vec<_> = codes.into_iter().map(|(_, row)| row).collect();
    codes.sort_by_key(|row| row.created_micros);
    Ok(codes)
}

fn forget_lapsed(rows: &mut dyn RowsMut, now: Timestamp) -> Result<(), Failure> {
    let codes = rows.scan_values::<CodeRow>(CODES, b"", None, Order::Ascending, CODES_MAX)?;
    for (key, row) in codes {
        // A used one is kept for as long as its request can live, so that submitting again still
        // works.
        let kept = if row.used_by.is_some() { Span::from_days(90) } else { Span::ZERO };
        if now >= Timestamp::from_micros(row.expires_micros) + kept {
            rows.remove(CODES, &key)?;
        }
    }
    Ok(())
}
