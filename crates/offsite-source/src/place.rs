//! Where things lie: the data directory when nobody says, and what is named relative to here.

use std::env;
use std::path::{Path, PathBuf};

use offsite_daemon::process;
use offsite_terminal::Failure;

const PROGRAM: &str = "offsite-source";

/// The system's usual place for state: `/var/lib` for root, the home directory for everybody else.
pub(crate) fn usual() -> PathBuf {
    let named = |name: &str| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    if process::owner() == 0 {
        return PathBuf::from("/var/lib").join(PROGRAM);
    }
    let state =
        named("XDG_STATE_HOME").or_else(|| Some(named("HOME")?.join(".local").join("state")));
    state.unwrap_or_else(|| PathBuf::from("/var/lib")).join(PROGRAM)
}

/// A path as the daemon, which runs elsewhere, has to be told it.
pub(crate) fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    if path.is_absolute() {
        return Ok(path.to_owned());
    }
    let here = env::current_dir().map_err(|error| {
        let message = format!("cannot tell the current directory: {error}");
        Failure::failed(message).hinting("give the absolute path")
    })?;
    Ok(here.join(path))
}
