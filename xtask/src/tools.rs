//! Programs that the tests use and that we did not write: installed by the system's own package
//! client where that is possible, named in one sentence where it is not.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// Program and the Debian package that holds it.
const TOOLS: &[(&str, &str)] = &[("curl", "curl"), ("openssl", "openssl"), ("strace", "strace")];

/// Installs what is missing.
///
/// # Errors
/// One sentence that names what is missing, where there is no `apt-get` or no right to use it.
pub(crate) fn install() -> Result<()> {
    let missing: Vec<&str> =
        TOOLS.iter().filter(|(tool, _)| !is_there(tool)).map(|(_, package)| *package).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let names = missing.join(" ");
    if !is_there("apt-get") {
        bail!("the tests need {names}: install them with this system's package client");
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
            bail!("the tests need {names}: install them as root with apt-get install {names}");
        }
    }
    Ok(())
}

fn is_there(tool: &str) -> bool {
    let mut probe = Command::new("sh");
    probe.args(["-c", &format!("command -v {tool}")]).stdout(Stdio::null());
    probe.status().is_ok_and(|status| status.success())
}
