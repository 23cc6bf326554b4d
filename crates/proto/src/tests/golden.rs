//! D-18 on the wire: what a sample of each layout looked like when it was frozen. The bytes lie in
//! `fixtures/vN`, N being the version, and are written once: whoever changes a layout finds this
//! test red and raises the version (docs/decisions/0009-format-version-1.md).

use std::fmt::Write as _;
use std::path::PathBuf;

use super::layouts;
use crate::bitmap::BITMAP_MEDIA;
use crate::stream::{STREAM_VERSION, StreamKind};

fn path(name: &str) -> PathBuf {
    let version = format!("v{STREAM_VERSION}");
    [env!("CARGO_MANIFEST_DIR"), "fixtures", &version, &format!("{name}.hex")].iter().collect()
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
fn d_18_every_layout_of_the_wire_is_as_it_was_frozen() {
    for layout in layouts::all() {
        let (path, now) = (path(layout.name), hex(&layout.sample));
        // Only what is not there is written: frozen bytes are never brought in line with the code.
        if !path.exists() && std::env::var_os("UPDATE_EXPECT").is_some() {
            std::fs::write(&path, &now).unwrap();
        }
        let frozen = std::fs::read_to_string(&path).unwrap_or_else(|error| {
            panic!("{}: {error}; a new layout's bytes: UPDATE_EXPECT=1", path.display())
        });
        let name = layout.name;
        assert_eq!(now, frozen, "{name} is another layout now; a change needs a new version");
    }
}

#[test]
fn media_types_name_the_version_of_their_bytes() {
    let kinds = [
        StreamKind::Keys,
        StreamKind::Wanted,
        StreamKind::Records,
        StreamKind::Receipt,
        StreamKind::Blocks,
    ];
    for media in kinds.iter().map(|kind| kind.media_type()).chain([BITMAP_MEDIA]) {
        assert!(media.ends_with(&format!("; version={STREAM_VERSION}")), "{media}");
    }
}
