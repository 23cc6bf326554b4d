//! Running a program that an operator named, for a bounded time.
//!
//! It runs without a shell, without input, in a process group of its own, so that what it started
//! can be ended together with it.
//!
//! **Absent:** what for (hooks of the source).

use std::ffi::OsStr;
use std::io::{self, Read};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use offsite_model::Span;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions};

/// Bytes of its complaints that are kept.
const COMPLAINT_BYTES: usize = 1_000;
/// How long its complaints are waited for after its end: a child of its own may hold the pipe open.
const COMPLAINT_WAIT: Duration = Duration::from_millis(500);

/// Why a program did not end well.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CommandError {
    /// It was not started.
    #[error("could not be started: {0}")]
    Start(io::Error),
    /// It ended with another status than 0.
    #[error("ended with status {status}{complaint}")]
    Status {
        /// The status.
        status: i32,
        /// The end of what it wrote to its standard error, after a colon.
        complaint: String,
    },
    /// A signal ended it.
    #[error("was ended by signal {signal}{complaint}")]
    Signal {
        /// The signal's number.
        signal: i32,
        /// As above.
        complaint: String,
    },
    /// It took too long, and was killed with everything it had started.
    #[error("did not end within {} s and was killed{complaint}", within.as_secs())]
    TimedOut {
        /// The time it had.
        within: Span,
        /// As above.
        complaint: String,
    },
}

/// Runs a program to its end, with these variables added to the environment.
///
/// # Errors
/// See [`CommandError`].
pub fn run(program: &Path, variables: &[(&str, &str)], within: Span) -> Result<(), CommandError> {
    let mut command = Command::new(program);
    for (name, value) in variables {
        // A variable cannot hold a NUL byte; without it the program would not start at all.
        command.env(name, OsStr::new(&value.replace('\0', "")));
    }
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .map_err(CommandError::Start)?;
    let complaint = listen(&mut child);
    let in_time = ends_within(&child, within);
    if !in_time {
        kill_group(&child);
    }
    let status = child.wait().map_err(CommandError::Start)?;
    if in_time && status.success() {
        return Ok(());
    }
    let complaint = complaint.recv_timeout(COMPLAINT_WAIT).map(said).unwrap_or_default();
    Err(match (in_time, status.code()) {
        (false, _) => CommandError::TimedOut { within, complaint },
        (true, Some(status)) => CommandError::Status { status, complaint },
        (true, None) => {
            CommandError::Signal { signal: status.signal().unwrap_or_default(), complaint }
        }
    })
}

/// Waits for the end without reaping, so that the number of the process stays its own until we have
/// killed it.
fn ends_within(child: &Child, within: Span) -> bool {
    let Some(pid) = pid(child) else { return true };
    let (ended, end) = mpsc::channel();
    std::thread::spawn(move || {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        while let Err(rustix::io::Errno::INTR) = rustix::process::waitid(WaitId::Pid(pid), options)
        {
        }
        ended.send(()).ok();
    });
    end.recv_timeout(within.to_std()).is_ok()
}

fn kill_group(child: &Child) {
    if let Some(pid) = pid(child) {
        // It may have ended in this very moment; it is a zombie then, and the signal means nothing.
        rustix::process::kill_process_group(pid, Signal::KILL).ok();
    }
}

fn pid(child: &Child) -> Option<Pid> {
    i32::try_from(child.id()).ok().and_then(Pid::from_raw)
}

/// Reads what it writes to its standard error, and keeps the end.
fn listen(child: &mut Child) -> mpsc::Receiver<Vec<u8>> {
    let (told, tells) = mpsc::channel();
    if let Some(mut pipe) = child.stderr.take() {
        std::thread::spawn(move || {
            let (mut kept, mut piece) = (Vec::new(), [0; 4096]);
            while let Ok(n @ 1..) = pipe.read(&mut piece) {
                kept.extend_from_slice(piece.get(..n).unwrap_or_default());
                let extra = kept.len().saturating_sub(COMPLAINT_BYTES);
                kept.drain(..extra);
            }
            told.send(kept).ok();
        });
    }
    tells
}

fn said(bytes: Vec<u8>) -> String {
    let text = String::from_utf8_lossy(&bytes);
    let words: Vec<_> = text.split_whitespace().collect();
    if words.is_empty() { String::new() } else { format!(": {}", words.join(" ")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use offsite_model::{FileSystem as _, OpenMode};
    use rustix::fs::{CWD, Mode};

    fn script(folder: &tempfile::TempDir, text: &str) -> std::path::PathBuf {
        let path = folder.path().join("hook");
        let file = crate::SystemFiles.open(&path, OpenMode::CreateNew).unwrap();
        file.write_all_at(format!("#!/bin/sh\n{text}\n").as_bytes(), 0).unwrap();
        drop(file);
        rustix::fs::chmodat(CWD, &path, Mode::RWXU, rustix::fs::AtFlags::empty()).unwrap();
        path
    }

    fn outcome(text: &str, millis: u64) -> String {
        let folder = tempfile::tempdir().unwrap();
        let program = script(&folder, text);
        let ran = run(&program, &[("WORD", "yes")], Span::from_millis(millis));
        ran.map_or_else(|error| error.to_string(), |()| "done".to_owned())
    }

    #[test]
    fn a_program_ends_well_or_says_why_not() {
        assert_eq!(outcome("test \"$WORD\" = yes", 60_000), "done");
        assert_eq!(outcome("echo no  space >&2; exit 3", 60_000), "ended with status 3: no space");
        assert_eq!(outcome("kill -TERM $$", 60_000), "was ended by signal 15");
        let missing = run(Path::new("/nowhere/hook"), &[], Span::from_secs(1)).unwrap_err();
        assert!(missing.to_string().starts_with("could not be started"), "{missing}");
    }

    #[test]
    fn a_program_that_hangs_is_killed_with_its_children() {
        // The child would hold the pipe for an hour if it survived its parent.
        let text = outcome("echo begun >&2; /bin/sleep 3600 & wait", 300);
        assert_eq!(text, "did not end within 0 s and was killed: begun");
    }
}
