//! `init`: makes the data directory. Works without a daemon, and in an empty directory only.

use std::sync::Arc;

use offsite_daemon::{DataDir, Secret, SystemClock, SystemFiles, SystemLuck, process};
use offsite_model::{FileSystem, Luck};
use offsite_store::Store;
use offsite_target_core::World;
use offsite_target_core::setup;
use offsite_terminal::{Exit, Failure, facts};
use serde_json::json;

use crate::cli::Init;
use crate::context::Context;
use crate::identity;
use crate::place::{PROGRAM, STORE};
use crate::settings::{self, Listen};

/// Runs it.
pub(crate) fn run(context: &Context, told: &Init) -> Result<Exit, Failure> {
    check(told)?;
    let files: Arc<dyn FileSystem> = Arc::new(SystemFiles);
    let luck: Arc<dyn Luck> = Arc::new(SystemLuck);
    let world =
        World { clock: Arc::new(SystemClock), luck: Arc::clone(&luck), files: Arc::clone(&files) };
    process::harden()
        .map_err(|error| Failure::failed(format!("cannot forbid core files: {error}")))?;
    let data = DataDir::begin_set_up(Arc::clone(&files), &context.data, PROGRAM)
        .map_err(|error| Failure::new(Exit::Refused, "data_directory", error.to_string(), ""))?;
    let root = absolute(data.path())?;
    let made = identity::create(&files, &root, &told.name, &*world.clock, &*luck)
        .map_err(|error| Failure::failed(format!("{error:#}")))?;
    let store = root.join(STORE);
    // The store is part of what the set-up finishes: a death in between leaves no directory to
    // serve from.
    drop(
        Store::create(Arc::clone(&files), &store, &*luck, offsite_store::Settings::default())
            .map_err(|error| {
                Failure::failed(format!("cannot make {}: {error}", store.display()))
            })?,
    );
    let first = setup::set_up(&root, &store, &world, process::owner())
        .map_err(|error| Failure::failed(format!("cannot make the catalog: {error}")))?;
    let listen = Listen { replication: told.listen, operator: told.operator };
    files
        .write_atomically(&data.config_path(), settings::text(&told.name, listen).as_bytes())
        .map_err(|error| Failure::failed(format!("cannot write the configuration: {error}")))?;
    data.finish_set_up().map_err(|error| Failure::failed(error.to_string()))?;
    let fingerprint = made.identity.certificate.thumbprint().to_string();
    let core = made.identity.core.to_string();
    show(context, &core, &first.name, &first.token, &fingerprint)
}

fn check(told: &Init) -> Result<(), Failure> {
    let is_plain = !told.name.trim().is_empty()
        && told.name.len() <= 64
        && !told.name.chars().any(char::is_control);
    if is_plain {
        return Ok(());
    }
    Err(Failure::usage("the name must have 1 to 64 bytes without control characters", ""))
}

/// Rows keep the store's path, and a daemon may be started from elsewhere.
fn absolute(path: &std::path::Path) -> Result<std::path::PathBuf, Failure> {
    std::path::absolute(path)
        .map_err(|error| Failure::failed(format!("cannot resolve {}: {error}", path.display())))
}

fn show(
    context: &Context,
    core: &str,
    administrator: &str,
    token: &Secret<String>,
    fingerprint: &str,
) -> Result<Exit, Failure> {
    let document = json!({
        "target_id": core,
        "administrator": administrator,
        "token": token.expose(),
        "fingerprint": fingerprint,
    });
    context.out.result(&document, |_| {
        let lines = facts(&[
            ("target", Some(core.to_owned())),
            ("fingerprint", Some(fingerprint.to_owned())),
            ("administrator", Some(administrator.to_owned())),
            ("token", Some(token.expose().clone())),
        ]);
        let data = context.data.display();
        format!(
            "{lines}\n\nThe token is shown this once; keep it as you keep a password.\n\
             Keep a copy of {data}/keys: sources pin the key in it.\n\
             Start the daemon with: offsite-target serve --data '{data}'"
        )
    })
}
