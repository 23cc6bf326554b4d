//! Programs that we did not write, used as our users use them.

use std::process::{Command, Output};

/// Fails with one sentence where a tool is missing; `cargo xtask ci` installs them.
#[track_caller]
pub fn require(tool: &str) {
    let found =
        Command::new("which").arg(tool).output().is_ok_and(|output| output.status.success());
    assert!(found, "{tool} is missing; `cargo xtask ci` installs what the tests need");
}

/// Runs curl quietly with these arguments; returns the status of the answer and its body.
#[track_caller]
pub fn curl(arguments: &[&str]) -> (u16, String) {
    curl_by(Command::new("curl"), arguments)
}

/// The same by a command that has been prepared: with an environment of its own, say.
#[track_caller]
pub fn curl_by(mut command: Command, arguments: &[&str]) -> (u16, String) {
    require("curl");
    let output = command
        .args(["--silent", "--show-error", "--max-time", "30", "--write-out", "\n%{http_code}"])
        .args(arguments)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let (body, status) = text.rsplit_once('\n').unwrap_or(("", "0"));
    (status.parse().unwrap_or(0), body.to_owned())
}

/// Runs openssl with these arguments.
#[track_caller]
pub fn openssl(arguments: &[&str]) -> Output {
    require("openssl");
    Command::new("openssl").args(arguments).output().unwrap()
}

/// Debian's Python, which is the one that has Debian's modules; it leaves no compiled files behind.
#[track_caller]
pub fn python() -> Command {
    let python = || {
        let mut command = Command::new("/usr/bin/python3");
        command.env("PYTHONDONTWRITEBYTECODE", "1");
        command
    };
    let found = python().args(["-c", "import h2"]).output();
    assert!(
        found.is_ok_and(|output| output.status.success()),
        "/usr/bin/python3 with the module h2 is missing; `cargo xtask ci` installs what the tests \
         need"
    );
    python()
}
