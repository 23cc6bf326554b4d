//! Opening an operator session with a password (N1), and recognising a token: the two ways an
//! operator proves who he is.
//!
//! One text for every reason why not: no such account, no password, a wrong one, too many failures.

use std::sync::Arc;

use offsite_daemon::Secret;
use offsite_model::{Clock, Luck, Timestamp};
use offsite_proto::error::{ErrorCode, Refusal};
use offsite_store::catalog::{Catalog, Transactions};

use super::passwords::Passwords;
use super::throttle::{Network, Throttle};
use super::tokens::{self, TokenRow, Wanted};
use super::users::{self, UserRow};
use crate::audit::Event;
use crate::deed::Deed;
use crate::failure::Failure;
use crate::principal::{Account, Principal, TenantScope};

/// Who may log in, and what guards it.
pub struct Logins {
    catalog: Arc<dyn Catalog>,
    clock: Arc<dyn Clock>,
    luck: Arc<dyn Luck>,
    /// Hashes passwords, two at once.
    pub passwords: Passwords,
    throttle: Throttle,
}

impl Logins {
    /// Over this catalog.
    #[must_use]
    pub fn new(catalog: Arc<dyn Catalog>, clock: Arc<dyn Clock>, luck: Arc<dyn Luck>) -> Self {
        let passwords = Passwords::new(&*luck);
        Self { catalog, clock, luck, passwords, throttle: Throttle::new() }
    }

    /// Opens a session.
    ///
    /// # Errors
    /// `unauthenticated` for every reason; `busy` when too many log in at once.
    pub async fn login(
        &self,
        name: &str,
        password: Secret<String>,
        from: Network,
    ) -> Result<(UserRow, TokenRow, Secret<String>), Refusal> {
        let user = self.catalog.read::<_, Failure>(|rows| users::find(rows, name))?;
        let kept = user.as_ref().and_then(|user| user.password.clone());
        let now = self.clock.now();
        let who = name.to_lowercase();
        let admit = || self.throttle.begin(&who, from, now);
        let Some(admitted) = self.passwords.verify(kept, password, admit).await? else {
            self.record_failure(user.as_ref(), now)?;
            return Err(refused());
        };
        admitted.succeeded();
        // The account may have been removed while its password was being hashed.
        let Some(user) = user else { return Err(refused()) };
        self.catalog
            .write::<_, Failure>(|rows| {
                let user = users::by_id(rows, user.id)?.filter(UserRow::is_active);
                let user = user.ok_or_else(refused)?;
                let by = Principal::User(account(&user));
                let deed = Deed { by: &by, at: now, luck: &*self.luck };
                deed.record(rows, Event::LoginSucceeded, None, &[("user", user.name.clone())])?;
                let (token, text) = tokens::issue(rows, &deed, &user, &Wanted::session())?;
                Ok((user, token, text))
            })
            .map_err(Refusal::from)
    }

    /// Failures of accounts that exist are in the audit log; of others, a guesser could fill it
    /// with any text.
    fn record_failure(&self, user: Option<&UserRow>, now: Timestamp) -> Result<(), Refusal> {
        let Some(user) = user else { return Ok(()) };
        let deed = Deed { by: &Principal::Anon, at: now, luck: &*self.luck };
        self.catalog
            .write::<_, Failure>(|rows| {
                let facts = [("user", user.name.clone())];
                Ok(deed.record(rows, Event::LoginFailed, None, &facts)?)
            })
            .map_err(Refusal::from)
    }

    /// Whose token this is and what it lets him do now.
    ///
    /// # Errors
    /// `unauthenticated` for every reason why it is not good.
    pub fn recognise(&self, token: &str) -> Result<Principal, Refusal> {
        let now = self.clock.now();
        let account = self.catalog.read::<_, Failure>(|rows| tokens::check(rows, token, now))?;
        account.map(Principal::User).ok_or_else(|| {
            Refusal::new(ErrorCode::Unauthenticated, "the token is not known, or no longer good")
        })
    }
}

fn account(user: &UserRow) -> Account {
    Account {
        user: user.id,
        name: user.name.clone(),
        role: user.role,
        tenants: TenantScope::All.intersection(&user.scope()),
        restore_grant: user.restore_grant,
        minted_by: None,
    }
}

fn refused() -> Refusal {
    Refusal::new(
        ErrorCode::Unauthenticated,
        "the name or the password is wrong, or there were too many failures: then wait 15 minutes",
    )
}
