//! Where the data directory lies when nobody says.

use std::env;
use std::path::PathBuf;

use offsite_daemon::process;

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
