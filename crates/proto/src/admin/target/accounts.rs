//! Bodies about accounts, tokens, enrolment codes, approvals and the audit log.

use std::fmt;

use offsite_model::{TokenId, UserId};
use serde::{Deserialize, Serialize};

use super::Role;
use crate::text::{Text, Time};

/// An account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// Its id.
    pub user_id: Text<UserId>,
    /// Its name.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// Names of its tenants; absent = all of them.
    pub tenants: Option<Vec<String>>,
    /// Whether it may read data of its tenants back.
    pub restore_grant: bool,
    /// Whether it has a password.
    pub password: bool,
    /// When it was made.
    pub created_at: Time,
}

/// Makes an account.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AddUser {
    /// Its name.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// Its tenants, by name or id; absent = all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenants: Option<Vec<String>>,
    /// Whether it may read data of its tenants back.
    #[serde(default)]
    pub restore_grant: bool,
    /// Its password; absent = it has tokens only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
}

impl fmt::Debug for AddUser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AddUser")
            .field("name", &self.name)
            .field("role", &self.role)
            .finish_non_exhaustive()
    }
}

/// Gives an account other rights; what is absent stays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChangeUser {
    /// What it may do from then on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// Its tenants from then on, by name or id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenants: Option<Vec<String>>,
    /// Whether it reaches all tenants from then on.
    #[serde(default)]
    pub all_tenants: bool,
    /// Whether it may read data of its tenants back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restore_grant: Option<bool>,
}

/// A change that was made, or one that waits for a second person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changed {
    /// The account as it is now.
    pub user: User,
    /// What waits; absent where the change was made.
    pub approval: Option<Approval>,
}

/// A token, without its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// Its id.
    pub token_id: Text<TokenId>,
    /// The name of its account.
    pub user: String,
    /// The role it is narrowed to.
    pub role: Option<Role>,
    /// When it was made.
    pub created_at: Time,
    /// When it lapses.
    pub expires_at: Time,
    /// `live`, `lapsed` or `revoked`.
    pub state: String,
}

/// Makes a token.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AddToken {
    /// The account; absent = one's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// How long it lasts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub days: Option<u32>,
    /// A narrower role than the account's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// Fewer tenants than the account's, by name or id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenants: Option<Vec<String>>,
}

/// A token that was just made: the only time that its secret is shown.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenAdded {
    /// The token, for the header `AuthToken`.
    pub token: String,
    /// Its id.
    pub token_id: Text<TokenId>,
    /// The name of its account.
    pub user: String,
    /// When it lapses.
    pub expires_at: Time,
}

impl fmt::Debug for TokenAdded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenAdded").field("token_id", &self.token_id).finish_non_exhaustive()
    }
}

/// An enrolment code, without the code.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enrolment {
    /// The name of its tenant.
    pub tenant: String,
    /// The word it was made with.
    pub note: String,
    /// When it was made.
    pub created_at: Time,
    /// When it lapses unused.
    pub expires_at: Time,
    /// `waiting`, `used` or `lapsed`.
    pub state: String,
}

/// Makes an enrolment code.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AddEnrolment {
    /// The tenant, by name or id.
    pub tenant: String,
    /// How long it waits for its use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub days: Option<u32>,
    /// A word for the list.
    #[serde(default)]
    pub note: String,
}

/// An enrolment code that was just made: the only time that it is shown.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnrolmentAdded {
    /// The code.
    pub code: String,
    /// The name of its tenant.
    pub tenant: String,
    /// When it lapses unused.
    pub expires_at: Time,
}

impl fmt::Debug for EnrolmentAdded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EnrolmentAdded").field("tenant", &self.tenant).finish_non_exhaustive()
    }
}

/// An action that waits for a second person, or waited.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approval {
    /// Its id.
    pub approval_id: String,
    /// What shall happen: `adopt_identity`, `widen_role`, `delete_tenant`.
    pub act: String,
    /// Exactly what, fact by fact.
    pub what: Vec<Fact>,
    /// The digest of that: an agreement is bound to it.
    pub digest: String,
    /// Who began it.
    pub initiator: String,
    /// `waiting`, `done`, `rejected` or `lapsed`.
    pub state: String,
    /// When it was begun.
    pub asked_at: Time,
    /// When it lapses.
    pub expires_at: Time,
}

/// A fact by name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fact {
    /// Its name.
    pub name: String,
    /// What it is.
    pub value: String,
}

/// Agrees as the second person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Approve {
    /// The digest of what was seen.
    pub digest: String,
}

/// An entry of the audit log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditEntry {
    /// Its number, from 0.
    pub number: u64,
    /// When.
    pub at: Time,
    /// Who.
    pub principal: String,
    /// The id of the tenant it belongs to.
    pub tenant_id: Option<String>,
    /// What.
    pub event: String,
    /// Facts.
    pub facts: Vec<Fact>,
}

/// What a check of the audit log found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditVerified {
    /// Entries looked at.
    pub entries: u64,
    /// The number of the first bad one; absent when all are good.
    pub first_bad: Option<u64>,
}
