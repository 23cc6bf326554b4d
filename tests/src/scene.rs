//! A folder for one test, and waiting for what must come to pass.

use std::path::Path;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::program::Program;

/// How long anything that must happen may take before a test fails.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(25);

/// A folder that is gone after the test.
pub struct Scene {
    folder: TempDir,
}

impl Scene {
    /// An empty folder.
    #[must_use]
    pub fn new() -> Self {
        Self { folder: tempfile::Builder::new().prefix("offsite-").tempdir().unwrap() }
    }

    /// The folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// A target that has been set up under this name, with any free ports and the pace of a test.
    #[must_use]
    pub fn target(&self, name: &str) -> Program {
        self.target_at(name, "127.0.0.1:0")
    }

    /// The same, at a port that is free now and that it keeps when it is started again.
    #[must_use]
    pub fn target_that_stays(&self, name: &str) -> Program {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        self.target_at(name, &free.to_string())
    }

    /// The same, with this address for its replication listener.
    #[must_use]
    pub fn target_at(&self, name: &str, listen: &str) -> Program {
        Program::init_target(self.path(), name, listen)
    }

    /// A source that has been set up under this name, with the pace of a test.
    #[must_use]
    pub fn source(&self, name: &str) -> Program {
        Program::init_source(self.path(), name)
    }

    /// A source that comes back under the id of one that was lost.
    #[must_use]
    pub fn source_as(&self, name: &str, lost: &str) -> Program {
        Program::init_source_as(self.path(), name, lost)
    }

    /// Writes a file of the scene and returns its path as text.
    #[must_use]
    pub fn file(&self, name: &str, content: &[u8]) -> String {
        let path = self.path().join(name);
        std::fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

impl Default for Scene {
    fn default() -> Self {
        Self::new()
    }
}

/// Asks until there is an answer; fails the test with `what` when none comes in time.
#[track_caller]
pub fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    // Nobody ever sends: waiting on this channel is a pause that needs no clock of its own.
    let (_keep_open, pause) = mpsc::channel::<()>();
    while started.elapsed() < DEADLINE {
        if let Some(answer) = ask() {
            return answer;
        }
        let _elapsed = pause.recv_timeout(PAUSE);
    }
    panic!("{what}: not within {} s", DEADLINE.as_secs());
}
