//! Killing a real program at its n-th durable step, from outside: no fault is compiled into what is
//! tested.
//!
//! `strace` counts the calls that make something durable or visible (syncs, renames, answers on a
//! socket) and sends SIGKILL instead of the n-th one. It counts for each thread by itself, and our
//! programs write from several: so enumerating n until no thread gets that far kills at many steps,
//! and a step that always falls to a thread which has done little is met by the worlds of one seed
//! alone (`exchange`, `target-core` and `source-core` kill at every step).

use std::process::Command;

/// Where a program is killed: before its `nth` call (from 1) of one of these.
#[derive(Clone, Copy, Debug)]
pub struct Kill {
    /// System calls, separated by commas.
    pub calls: &'static str,
    /// Which of them.
    pub nth: u32,
}

impl Kill {
    /// Every call that makes something durable or gives it its name.
    pub const DURABLE: &'static str = "fsync,fdatasync,rename,renameat,renameat2";

    /// A command that runs `program` and kills it there.
    #[must_use]
    pub fn command(self, program: &std::path::Path) -> Command {
        let Self { calls, nth } = self;
        let mut command = Command::new("strace");
        command
            .args(["-f", "-qqq", "-o", "/dev/null", "-e"])
            .arg(format!("trace={calls}"))
            .arg("-e")
            .arg(format!("inject={calls}:signal=SIGKILL:when={nth}"))
            .arg(program);
        command
    }
}
