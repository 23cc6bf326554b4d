//! What the commands share that read the data directory without a daemon.
//!
//! Nothing in the directory is changed, so it may lie on a read-only mount, and several such
//! commands may run at once. A daemon keeps them out: what it changes under a reader would look
//! like damage.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use offsite_daemon::{DataDir, SystemFiles};
use offsite_model::FileSystem;
use offsite_store::Overlay;

use crate::place::PROGRAM;
use offsite_terminal::{Exit, Failure};

/// Takes a data directory for reading; its files, on which every change stays in memory.
pub(super) fn take(data: &Path) -> Result<DataDir, Failure> {
    let files: Arc<dyn FileSystem> = Arc::new(Overlay::new(Arc::new(SystemFiles)));
    DataDir::open(files, data, PROGRAM)
        .map_err(|error| Failure::new(Exit::Failed, "data_directory", error.to_string(), ""))
}

/// The wish of a person to stop, as the work sees it.
#[derive(Clone, Debug, Default)]
pub(super) struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Whether the work is to end at the next safe point.
    pub(super) fn is_wished(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Told when the command's future is dropped, which is how an interruption shows.
struct Asker(Stop);

impl Drop for Asker {
    fn drop(&mut self) {
        self.0.0.store(true, Ordering::Relaxed);
    }
}

/// Does work on a thread of its own. When this is dropped the work is asked to stop; the program
/// ends when it has.
pub(super) async fn work<T: Send + 'static>(
    work: impl FnOnce(&Stop) -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    let stop = Stop::default();
    let _asker = Asker(stop.clone());
    let done = tokio::task::spawn_blocking(move || work(&stop)).await;
    done.map_err(|error| Failure::failed(format!("the work failed: {error}")))?
}
