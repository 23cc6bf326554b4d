//! What the machine itself needs for the least that each step has to do, by programs that are not
//! ours: compress and write, read, and pass stored bytes through mutual TLS while they are
//! decompressed, hashed and written.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use super::peers::certificates;
use super::step::{Cost, clear, measure};
use crate::machines::Machine;
use crate::tools;

/// What it is called among the contenders.
pub(super) const FLOOR: &str = "floor";

/// The programs it is made of.
pub(super) const PROGRAMS: &[&str] = &["b3sum", "openssl", "socat", "zstd"];

/// Source and target of a pipe over mutual TLS 1.3. Both hold a whole copy; what arrives is decoded
/// and hashed as a target must do that believes nobody.
const PIPE: &str = r#"
set -e
listen="OPENSSL-LISTEN:$PORT,bind=127.0.0.1,reuseaddr,openssl-min-proto-version=TLS1.3"
socat -b 1048576 -u "$listen,cert=server.both,cafile=ca.pem,verify=1" STDOUT \
    | tee there.zst | zstd -q -dc | b3sum > there.sum &
call="OPENSSL:127.0.0.1:$PORT,retry=200,interval=0.02"
socat -b 1048576 -u OPEN:here.zst "$call,cert=client.both,cafile=ca.pem,verify=1"
wait $!
"#;

/// A folder in which the floors of one run are measured.
pub(super) struct Floor {
    folder: PathBuf,
    cold: bool,
}

impl Floor {
    /// Where nothing lies yet; none where a program is missing.
    pub(super) fn start(folder: &Path, cold: bool) -> Result<Option<Self>> {
        if PROGRAMS.iter().any(|program| tools::find(program).is_none()) {
            return Ok(None);
        }
        fs::create_dir_all(folder)?;
        certificates(folder)?;
        Ok(Some(Self { folder: folder.to_owned(), cold }))
    }

    /// The image compressed by two threads at the level that we store with.
    pub(super) fn compress(&self, machine: &Machine) -> Result<Cost> {
        let image = machine.versions.first().context("a machine without versions")?;
        let mut zstd = Command::new("zstd");
        zstd.args(["-q", "-f", "-1", "-T2"]).arg(image).arg("-o").arg(self.folder.join("here.zst"));
        measure(&mut zstd, &[], self.cold)
    }

    /// The image read from its start to its end.
    pub(super) fn read(&self, machine: &Machine, version: usize) -> Result<Cost> {
        let image = machine.versions.get(version).context("no such version")?;
        let mut dd = Command::new("dd");
        dd.arg(format!("if={}", image.display())).args(["of=/dev/null", "bs=1M", "status=none"]);
        measure(&mut dd, &[], self.cold)
    }

    /// What [`Floor::compress`] left, brought to another file by the pipe.
    pub(super) fn pass_on(&self) -> Result<Cost> {
        clear(&self.folder.join("there.zst"))?;
        // Free a moment ago; nobody else on this machine takes ports meanwhile.
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let mut pipe = Command::new("bash");
        pipe.args(["-o", "pipefail", "-c", PIPE]).current_dir(&self.folder);
        pipe.env("PORT", port.to_string()).stdin(Stdio::null()).stderr(Stdio::null());
        measure(&mut pipe, &[], self.cold)
    }
}
