//! What a new target holds before its first start: the default storage, and the first administrator
//! with a token.

use std::path::Path;

use offsite_daemon::Secret;
use offsite_proto::error::ErrorCode;
use offsite_store::catalog::{RedbCatalog, Transactions};

use crate::accounts::tokens::{self, Wanted};
use crate::accounts::users::{self, Rights};
use crate::audit::Event;
use crate::deed::Deed;
use crate::failure::Failure;
use crate::principal::{Account, Principal, Role, TenantScope};
use crate::storage_list;
use crate::target::{CATALOG_FILE, World};

/// The name of the first administrator.
pub const ADMINISTRATOR: &str = "administrator";
/// The name of the default storage.
const STORAGE: &str = "default";

/// The first administrator: the only time that his token is seen.
pub struct FirstAdministrator {
    /// His name.
    pub name: String,
    /// His token.
    pub token: Secret<String>,
}

/// Makes the catalog of a new target in this directory, with its images going to `storage`.
///
/// # Errors
/// What the catalog says; `bad_request` for a path that cannot be written as text.
pub fn set_up(
    directory: &Path,
    storage: &Path,
    world: &World,
    uid: u32,
) -> Result<FirstAdministrator, Failure> {
    let catalog = RedbCatalog::open(&*world.files, &directory.join(CATALOG_FILE))?;
    let storage = storage.to_str().ok_or_else(|| {
        Failure::refused(ErrorCode::BadRequest, "the data directory's path is not UTF-8")
    })?;
    let root = Principal::LocalRoot { uid };
    let deed = Deed { by: &root, at: world.clock.now(), luck: &*world.luck };
    catalog.write(|rows| {
        deed.record(rows, Event::Initialised, None, &[])?;
        storage_list::add(rows, &deed, STORAGE, storage)?;
        let all = TenantScope::All;
        let rights = Rights { role: Role::Administrator, tenants: all, restore_grant: true };
        let user = users::add(rows, &deed, ADMINISTRATOR, &rights, None)?;
        // Whoever runs `init` is the first administrator, so the token counts as his own: else
        // nobody could ever be the second person for what root begins.
        let himself = Principal::User(Account {
            user: user.id,
            name: user.name.clone(),
            role: user.role,
            tenants: TenantScope::All,
            restore_grant: true,
            minted_by: None,
        });
        let own = Deed { by: &himself, ..deed };
        let (_, token) = tokens::issue(rows, &own, &user, &Wanted::days(None)?)?;
        Ok(FirstAdministrator { name: user.name, token })
    })
}

/// Writes into the audit log that the daemon starts or stops.
///
/// # Errors
/// What the catalog says.
pub fn record_turn(target: &crate::Target, uid: u32, started: bool) -> Result<(), Failure> {
    let root = Principal::LocalRoot { uid };
    let deed = target.deed(&root);
    let event = if started { Event::Started } else { Event::Stopped };
    target.catalog().write(|rows| Ok(deed.record(rows, event, None, &[])?))
}
