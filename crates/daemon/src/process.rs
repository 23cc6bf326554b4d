//! What a process that holds keys asks of the kernel: no core files, no readers of its memory.

use std::io;

use rustix::process::{DumpableBehavior, Resource, Rlimit};

/// Forbids core files and lets no other process of the same user read this one's memory. To be
/// called before the first secret is read.
///
/// # Errors
///
/// What the kernel answered; a daemon must not start then.
pub fn harden() -> io::Result<()> {
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    rustix::process::setrlimit(Resource::Core, none)?;
    // The limit alone is not enough: a core handler on the other end of a pipe is not bound by it,
    // and a dumpable process can be traced.
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    Ok(())
}

/// The user as whom this process makes files, and who must own its private ones.
#[must_use]
pub fn owner() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// The number of this process.
#[must_use]
pub fn id() -> u32 {
    std::process::id()
}

/// Does work in a thread of its own that leaves the processors to everybody else's, and waits for
/// it; threads that it starts do so too. Memory and locks it shares as any other.
///
/// # Panics
/// Where the work does.
pub fn giving_way<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    let gives_way = || {
        // Of the thread that calls it, on Linux. Where it is refused the work is done all the same.
        rustix::process::setpriority_process(None, NICEST).ok();
        work()
    };
    std::thread::scope(|scope| match scope.spawn(gives_way).join() {
        Ok(done) => done,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}

/// The least claim to a processor.
const NICEST: i32 = 19;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_18_no_core_files_and_no_readers() {
        harden().unwrap();
        let core = rustix::process::getrlimit(Resource::Core);
        assert_eq!((core.current, core.maximum), (Some(0), Some(0)));
        assert_eq!(rustix::process::dumpable_behavior().unwrap(), DumpableBehavior::NotDumpable);
    }
}
