//! D-18: what every layout looked like when it was frozen, and what each of them refuses.
//!
//! The bytes lie in `fixtures/vN`, N being the version; they are written once. Whoever changes a
//! layout finds that test red and raises the version, which begins a new directory
//! (docs/decisions/0009-format-version-1.md).

use std::fmt::Write as _;
use std::path::PathBuf;

use super::layouts;
use crate::catalog::decode_value;
use crate::draft::{DRAFTS, DraftRow};
use crate::format::FILE_VERSION;

fn path(name: &str) -> PathBuf {
    let version = format!("v{FILE_VERSION}");
    [env!("CARGO_MANIFEST_DIR"), "fixtures", &version, &format!("{name}.hex")].iter().collect()
}

/// Lines of 32 bytes; lines that are zeros are counted.
fn hex(bytes: &[u8]) -> String {
    let mut text = String::new();
    let mut n_zeros = 0;
    let flush = |text: &mut String, n: &mut u32| {
        if *n > 0 {
            writeln!(text, "zeros {n}").unwrap();
        }
        *n = 0;
    };
    for line in bytes.chunks(32) {
        if line.len() == 32 && line.iter().all(|byte| *byte == 0) {
            n_zeros += 1;
            continue;
        }
        flush(&mut text, &mut n_zeros);
        line.iter().for_each(|byte| write!(text, "{byte:02x}").unwrap());
        text.push('\n');
    }
    flush(&mut text, &mut n_zeros);
    text
}

#[test]
#[expect(clippy::disallowed_methods, reason = "fixtures are files of the repository")]
fn d_18_every_layout_is_as_it_was_frozen() {
    let layouts = layouts::all().into_iter().map(|layout| (layout.name, layout.sample));
    for (name, sample) in layouts.chain(layouts::keys()) {
        let (path, now) = (path(&name), hex(&sample));
        // Only what is not there is written: frozen bytes are never brought in line with the code.
        if !path.exists() && std::env::var_os("UPDATE_EXPECT").is_some() {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, &now).unwrap();
        }
        let frozen = std::fs::read_to_string(&path).unwrap_or_else(|error| {
            panic!("{}: {error}; a new layout's bytes: UPDATE_EXPECT=1", path.display())
        });
        assert!(
            now == frozen,
            "{name} is another layout now; a change needs a new FILE_VERSION.\n\
                frozen:\n{frozen}now:\n{now}"
        );
    }
}

#[test]
fn d_18_every_prefix_and_one_more_byte_are_refused() {
    for layout in layouts::all() {
        (layout.read)(&layout.sample).unwrap_or_else(|error| panic!("{}: {error}", layout.name));
        let (name, n) = (&layout.name, layout.sample.len());
        // Of what is large every length near its ends, and some between.
        let is_tried =
            |cut: &usize| n < 2_000 || *cut < 200 || n - cut < 200 || cut.is_multiple_of(97);
        for cut in (0..n).filter(is_tried) {
            assert!((layout.read)(&layout.sample[..cut]).is_err(), "{name} cut at {cut} is taken");
        }
        for extra in [0, 0xff] {
            let longer = [&layout.sample[..], &[extra]].concat();
            // What is appended to may have a torn tail, which is cut.
            let is_taken = (layout.read)(&longer).is_ok();
            assert_eq!(is_taken, layout.is_appended_to, "{name} and {extra}");
        }
    }
}

/// Entries of the journal have a version of their own: each has kinds that those before it lack.
fn newest(layout: &str, offset: usize) -> u8 {
    const ENTRY_OFFSET: usize = 88;
    let is_entry = layout == "journal" && offset == ENTRY_OFFSET;
    match layout {
        _ if is_entry => 3,
        "value_later_lock" => 3,
        layout if layout.starts_with("value_later") => 2,
        _ => FILE_VERSION,
    }
}

#[test]
fn d_18_a_kind_of_entry_is_read_under_its_own_version_alone() {
    let named = |name: &str| layouts::all().into_iter().find(|layout| layout.name == name).unwrap();
    for (name, version) in [
        ("value_entry", 2),
        ("value_later_purge", 1),
        ("value_later_collect", 3),
        ("value_later_lock", 2),
    ] {
        let mut bytes = named(name).sample;
        assert!(crate::rows::decode_entry(&bytes).is_ok(), "{name}");
        bytes[0] = version;
        assert!(crate::rows::decode_entry(&bytes).is_err(), "{name} as version {version}");
    }
}

/// The row of a session as version 1 had it, before the end of its log was noted.
#[test]
#[expect(clippy::disallowed_methods, reason = "fixtures are files of the repository")]
fn d_18_the_first_row_of_a_session_is_read() {
    let frozen = std::fs::read_to_string(path("value_draft")).unwrap();
    let digits = frozen.trim().as_bytes().as_chunks::<2>().0;
    let digits = digits.iter().map(|pair| std::str::from_utf8(pair).unwrap());
    let bytes: Vec<u8> = digits.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect();
    let row: DraftRow = decode_value(DRAFTS, &bytes).unwrap();
    let opening = b"an opening".to_vec();
    assert_eq!(row, DraftRow { tenant: [1; 16], log: 1029, end: None, opening });
    assert!(decode_value::<DraftRow>(DRAFTS, &[&bytes[..], &[0]].concat()).is_err());
}

#[test]
fn d_18_another_version_is_refused_with_both_versions() {
    let mut n_refused = 0;
    for layout in layouts::all() {
        for place in &layout.versions {
            let newest = newest(&layout.name, place.offset);
            for found in [0, newest + 1, u8::MAX] {
                let mut bytes = layout.sample.clone();
                bytes[place.offset] = found;
                (place.reseal)(&mut bytes);
                let said = (layout.read)(&bytes).unwrap_err().to_string();
                let is_named = said.contains(&format!("version {found}, "))
                    && (said.contains(&format!("knows {newest}"))
                        || said.contains(&format!("knows up to {newest}")));
                assert!(is_named, "{} at {}: {said}", layout.name, place.offset);
                n_refused += 1;
            }
        }
    }
    assert!(n_refused > 50, "{n_refused}");
}

/// Reserved bytes have no meaning yet, and a program that does not know theirs must not go on.
#[test]
fn d_18_reserved_bytes_that_are_not_zero_are_refused() {
    let places: &[(&str, &[usize])] = &[
        ("root_file", &[12, 40, 59]),
        ("segment", &[5, 7, 12, 48, 59, 70, 71, 64 + 48, 64 + 59]),
        ("key_run", &[5, 12, 72, 4091]),
        ("journal", &[5, 64, 75]),
        ("draft", &[5, 12, 48, 65, 67]),
        ("page_full", &[6, 7]),
        ("page_patch", &[6]),
    ];
    let layouts = layouts::all();
    for (name, places) in places {
        let layout = layouts.iter().find(|layout| layout.name == *name).unwrap();
        for place in *places {
            for sealed in &layout.versions {
                let mut bytes = layout.sample.clone();
                bytes[*place] = 0x80;
                (sealed.reseal)(&mut bytes);
                assert!((layout.read)(&bytes).is_err(), "{name} at {place} is taken");
            }
        }
    }
}
