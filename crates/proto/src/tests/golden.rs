//! Golden bytes: what a sample looked like when its layout was decided. `UPDATE_EXPECT=1` writes
//! them anew, which after version 1 means a new version.

use std::fmt::Write as _;
use std::path::PathBuf;

use super::layouts;

fn path(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "fixtures", "v0", &format!("{name}.hex")].iter().collect()
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::new();
    for line in bytes.chunks(32) {
        line.iter().for_each(|byte| write!(text, "{byte:02x}").unwrap());
        text.push('\n');
    }
    text
}

#[test]
#[expect(clippy::disallowed_methods, reason = "fixtures are files of the repository")]
fn the_bytes_are_those_that_were_decided() {
    for layout in layouts::all() {
        let (path, now) = (path(layout.name), hex(&layout.sample));
        if std::env::var_os("UPDATE_EXPECT").is_some() {
            std::fs::write(&path, &now).unwrap();
        }
        let decided = std::fs::read_to_string(&path).unwrap_or_else(|error| {
            panic!("{}: {error}; UPDATE_EXPECT=1 writes it", path.display())
        });
        assert_eq!(now, decided, "{}", layout.name);
    }
}
