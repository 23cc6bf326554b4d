//! A network namespace of our own, made and moved into by `ip`, so that no code of ours has to
//! change the namespace of its threads.

use std::ffi::OsString;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::tools;

/// A namespace. It goes away when this is dropped.
#[derive(Debug)]
pub(crate) struct Namespace(String);

impl Namespace {
    /// Makes one that is empty but for loopback. The name is ours: it has our process's number.
    pub(super) fn make(place: &str) -> Result<Self> {
        let name = format!("offsite-{}-{place}", std::process::id());
        ip(&["netns", "add", &name])?;
        let namespace = Self(name);
        namespace.ip(&["link", "set", "lo", "up"])?;
        Ok(namespace)
    }

    /// Its name, as `ip` knows it.
    pub(super) fn name(&self) -> &str {
        &self.0
    }

    /// What starts a program inside: these words before its own. `ip` becomes the program, so it
    /// keeps the process's number.
    pub(crate) fn inside(&self) -> Vec<OsString> {
        let ip = tools::find("ip").unwrap_or_else(|| "ip".into());
        vec![ip.into(), "netns".into(), "exec".into(), self.0.clone().into()]
    }

    /// Changes the network inside.
    pub(super) fn ip(&self, arguments: &[&str]) -> Result<()> {
        ip(&[&["-n", &self.0], arguments].concat())
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        drop(ip(&["netns", "del", &self.0]));
    }
}

/// Runs `ip`.
pub(super) fn ip(arguments: &[&str]) -> Result<()> {
    let mut command = Command::new(tools::find("ip").context("ip of iproute2 is not there")?);
    command.args(arguments);
    let ended = command.stdin(Stdio::null()).output().with_context(|| format!("{command:?}"))?;
    if ended.status.success() {
        return Ok(());
    }
    bail!("{command:?}: {}", String::from_utf8_lossy(&ended.stderr).trim())
}
