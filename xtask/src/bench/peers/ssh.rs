//! An ssh server of our own making for peers whose wire is ssh: own keys, a free port, this machine
//! only.

use std::ffi::OsString;
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::done;
use crate::tools;

/// How long the server may take to listen.
const PATIENCE: Duration = Duration::from_secs(20);

pub(super) struct Sshd {
    server: Child,
    folder: PathBuf,
}

impl Sshd {
    /// Starts a server whose sessions find `program` in their search path.
    pub(super) fn start(folder: &Path, program: &Path) -> Result<Self> {
        tools::install(&["sshd", "ssh", "ssh-keygen"])?;
        let folder = folder.join("ssh");
        fs::create_dir_all(folder.join("bin"))?;
        for key in ["user", "host"] {
            let file = folder.join(key);
            done(
                Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(file),
            )?;
        }
        fs::create_dir_all("/run/sshd").context("ssh's own folder (needs root)")?;
        // Free a moment ago; nobody else on this machine takes ports meanwhile.
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let home = folder.display();
        let beside = program.parent().unwrap_or(program).display();
        let settings = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {home}/host\n\
             AuthorizedKeysFile {home}/user.pub\nStrictModes no\nPermitRootLogin yes\nUsePAM no\n\
             PidFile none\nSetEnv PATH={beside}:/usr/bin:/bin HOME={home}\n"
        );
        fs::write(folder.join("settings"), settings)?;
        let wrapper = folder.join("bin/ssh");
        let options =
            "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR";
        let text =
            format!("#!/bin/sh\nexec /usr/bin/ssh -p {port} -i '{home}/user' {options} \"$@\"\n");
        fs::write(&wrapper, text)?;
        fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755))?;
        let program = tools::find("sshd").context("sshd is not there")?;
        let mut serve = Command::new(program);
        serve.arg("-D").arg("-f").arg(folder.join("settings"));
        let server =
            serve.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            ensure!(begun.elapsed() < PATIENCE, "sshd does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(Self { server, folder })
    }

    /// The server's process.
    pub(super) fn pid(&self) -> u32 {
        self.server.id()
    }

    /// A search path in which `ssh` reaches this server.
    pub(super) fn search_path(&self) -> OsString {
        let mut path = self.folder.join("bin").into_os_string();
        path.push(":");
        path.push(std::env::var_os("PATH").unwrap_or_default());
        path
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        drop(self.server.kill());
        drop(self.server.wait());
    }
}
