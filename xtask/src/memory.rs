//! A bound on the memory of processes, page cache included: a control group of the kernel, of
//! either version.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

const V1: &str = "/sys/fs/cgroup/memory";
const V2: &str = "/sys/fs/cgroup";

/// A control group that goes away with this value.
pub(crate) struct MemoryGroup {
    folder: PathBuf,
    peak: &'static str,
}

impl MemoryGroup {
    /// A group of this name whose processes may use so many bytes together, and no swap.
    pub(crate) fn new(name: &str, bytes: u64) -> Result<Self> {
        let is_v1 = Path::new(V1).join("memory.limit_in_bytes").exists();
        let (root, limit, peak) = match is_v1 {
            true => (V1, "memory.limit_in_bytes", "memory.max_usage_in_bytes"),
            false => (V2, "memory.max", "memory.peak"),
        };
        if !is_v1 {
            // Refused where it is so already.
            drop(fs::write(Path::new(root).join("cgroup.subtree_control"), "+memory"));
        }
        let folder = Path::new(root).join(format!("{name}-{}", std::process::id()));
        fs::create_dir(&folder).context("make a control group (needs root)")?;
        let group = Self { folder, peak };
        fs::write(group.folder.join(limit), bytes.to_string()).context("bound a control group")?;
        let no_swap = if is_v1 { "memory.swappiness" } else { "memory.swap.max" };
        // Absent where the kernel has no swap at all.
        drop(fs::write(group.folder.join(no_swap), "0"));
        Ok(group)
    }

    /// A command that puts itself into the group before it becomes the program.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", "echo $$ > \"$0\" && exec \"$@\""]);
        command.arg(self.folder.join("cgroup.procs")).arg(program);
        command
    }

    /// The most that was used at once.
    pub(crate) fn peak_bytes(&self) -> Result<u64> {
        let path = self.folder.join(self.peak);
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        text.trim().parse().with_context(|| format!("{} holds no number", path.display()))
    }
}

impl Drop for MemoryGroup {
    fn drop(&mut self) {
        drop(fs::remove_dir(&self.folder));
    }
}
