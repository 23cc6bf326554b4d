//! Passwords and tokens that a caller keeps in files: never on a command line, where every process
//! of the machine can read them.

use std::io::Read;
use std::path::Path;

use offsite_daemon::{Secret, SystemFiles};
use offsite_model::FileSystem;
use offsite_terminal::Failure;

/// Bytes of such a file; more than a password or a token can have.
const BYTES_MAX: u64 = 4 << 10;

/// The first line of the file; `-` is standard input. It is opened by this command, with the
/// caller's rights.
pub(crate) fn first_line(path: &Path, what: &str) -> Result<Secret<String>, Failure> {
    let shown = path.display();
    let bytes = if path.as_os_str() == "-" {
        let mut bytes = Vec::new();
        std::io::stdin().lock().take(BYTES_MAX).read_to_end(&mut bytes).map(|_| bytes)
    } else {
        SystemFiles.read(path, BYTES_MAX)
    };
    let bytes =
        bytes.map_err(|error| Failure::usage(format!("cannot read {shown}: {error}"), ""))?;
    let text = Secret::new(
        String::from_utf8(bytes)
            .map_err(|_| Failure::usage(format!("the {what} in {shown} is not UTF-8"), ""))?,
    );
    match text.expose().lines().next() {
        Some(line) if !line.is_empty() => Ok(Secret::new(line.to_owned())),
        _ => Err(Failure::usage(format!("the first line of {shown} holds no {what}"), "")),
    }
}
