//! Programs that tests, demo and benches use and that we did not write: installed by the system's
//! own package client where that is possible, named in one sentence where it is not.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// Program, or the name of a probe of [`is_there`], and the Debian package that holds it.
const TOOLS: &[(&str, &str)] = &[
    ("b3sum", "b3sum"),
    ("borg", "borgbackup"),
    ("casync", "casync"),
    ("curl", "curl"),
    ("debugfs", "e2fsprogs"),
    ("mkfs.ext4", "e2fsprogs"),
    ("ip", "iproute2"),
    ("openssl", "openssl"),
    ("python3", "python3"),
    (PYTHON_H2, "python3-h2"),
    ("rclone", "rclone"),
    ("restic", "restic"),
    ("rsync", "rsync"),
    ("socat", "socat"),
    ("ssh", "openssh-client"),
    ("ssh-keygen", "openssh-client"),
    ("sshd", "openssh-server"),
    ("strace", "strace"),
    ("zstd", "zstd"),
];

/// A module of Debian's Python.
const PYTHON_H2: &str = "python3 -c 'import h2'";

/// The programs that the tests use.
pub(crate) const OF_TESTS: &[&str] = &["curl", "ip", "openssl", "python3", PYTHON_H2, "strace"];

/// Installs which of these are missing.
///
/// # Errors
/// One sentence that names what is missing, where there is no `apt-get` or no right to use it.
pub(crate) fn install(needed: &[&str]) -> Result<()> {
    let is_missing = |(tool, _): &&(&str, &str)| needed.contains(tool) && !is_there(tool);
    let mut missing: Vec<&str> =
        TOOLS.iter().filter(is_missing).map(|(_, package)| *package).collect();
    missing.dedup();
    if missing.is_empty() {
        return Ok(());
    }
    let names = missing.join(" ");
    if find("apt-get").is_none() {
        bail!("this needs {names}: install them with this system's package client");
    }
    println!("installing {names}");
    for arguments in [vec!["update", "-q"], [vec!["install", "-y", "-q"], missing].concat()] {
        let status = Command::new("apt-get")
            .args(&arguments)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .stdout(Stdio::null())
            .status()
            .context("cannot run apt-get")?;
        if !status.success() {
            bail!("this needs {names}: install them as root with apt-get install {names}");
        }
    }
    Ok(())
}

/// A program is looked for; a module is asked for, of the Python that the package is for: another
/// one in the search path does not have it.
fn is_there(tool: &str) -> bool {
    if tool != PYTHON_H2 {
        return find(tool).is_some();
    }
    let asked = Command::new("/usr/bin/python3")
        .args(["-c", "import h2"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    asked.is_ok_and(|status| status.success())
}

/// Where a program lies: in the search path, or where administrators' programs are, which many
/// people's search paths leave out.
pub(crate) fn find(tool: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    folders.map(|folder| folder.join(tool)).find(|path| path.is_file())
}
