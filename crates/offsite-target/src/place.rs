//! Where the data directory lies when nobody says.

use std::env;
use std::path::PathBuf;

use offsite_daemon::process;

/// The name of this program, in messages and in its directory.
pub(crate) const PROGRAM: &str = "offsite-target";
/// The store of recovery points, in the data directory.
pub(crate) const STORE: &str = "store";
/// The socket of the daemon, in the data directory.
pub(crate) const SOCKET: &str = "run/offsite.sock";

/// The system's usual place for state: `/var/lib` for root, the home directory for everybody else.
pub(crate) fn usual() -> PathBuf {
    let named = |name: &str| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    if process::owner() == 0 {
        return PathBuf::from("/var/lib").join(PROGRAM);
    }
    let state = named("XDG_STATE_HOME").or_else(|| Some(named("HOME")?.join(".local/state")));
    state.unwrap_or_else(|| PathBuf::from("/var/lib")).join(PROGRAM)
}
