//! One suite for every implementation of the catalog.

use std::io;
use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;

use offsite_testkit::disk::{Call, Disk, Fault, Which};
use serde::{Deserialize, Serialize};

use super::*;

const FRUIT: Table = Table::new("fruit");
const STONES: Table = Table::new("stones");

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Fruit {
    name: String,
    n_seeds: u32,
}

impl Value for Fruit {
    const VERSION: u8 = 2;
    const BYTES_MAX: usize = 64;

    fn from_older(version: u8, payload: &[u8]) -> Option<Self> {
        (version == 1)
            .then(|| Self { name: String::from_utf8_lossy(payload).into_owned(), n_seeds: 0 })
    }
}

fn keys(rows: &[Row]) -> Vec<&str> {
    rows.iter().map(|(key, _)| std::str::from_utf8(key).unwrap()).collect()
}

fn fill(catalog: &dyn Catalog, names: &[&str]) {
    catalog
        .write::<_, CatalogError>(|rows| {
            names.iter().try_for_each(|name| rows.put(FRUIT, name.as_bytes(), b"v"))
        })
        .unwrap();
}

fn rows_are_put_read_replaced_and_removed(catalog: &dyn Catalog) {
    let seen = catalog.read::<_, CatalogError>(|rows| rows.get(FRUIT, b"none yet")).unwrap();
    assert_eq!(seen, None);
    catalog
        .write::<_, CatalogError>(|rows| {
            rows.put(FRUIT, b"apple", b"red")?;
            assert_eq!(rows.get(FRUIT, b"apple")?.as_deref(), Some(&b"red"[..]));
            rows.put(FRUIT, b"apple", b"green")?;
            rows.put(STONES, b"apple", b"")?;
            rows.put(FRUIT, b"pear", b"yellow")
        })
        .unwrap();
    let removed = catalog
        .write::<_, CatalogError>(|rows| {
            Ok((rows.remove(FRUIT, b"pear")?, rows.remove(FRUIT, b"pear")?))
        })
        .unwrap();
    assert_eq!(removed, (true, false));
    catalog
        .read::<_, CatalogError>(|rows| {
            assert_eq!(rows.get(FRUIT, b"apple")?.as_deref(), Some(&b"green"[..]));
            assert_eq!(rows.get(STONES, b"apple")?.as_deref(), Some(&b""[..]));
            assert_eq!(rows.get(FRUIT, b"pear")?, None);
            Ok(())
        })
        .unwrap();
}

fn a_refused_change_leaves_no_trace(catalog: &dyn Catalog) {
    fill(catalog, &["kept"]);
    let refused = catalog.write::<(), CatalogError>(|rows| {
        rows.put(FRUIT, b"lost", b"v")?;
        rows.remove(FRUIT, b"kept")?;
        Err(CatalogError::Damaged("on purpose".to_owned()))
    });
    assert!(matches!(refused, Err(CatalogError::Damaged(why)) if why == "on purpose"));
    let left = catalog
        .read::<_, CatalogError>(|rows| rows.scan_prefix(FRUIT, b"", None, Order::Ascending, 9))
        .unwrap();
    assert_eq!(keys(&left), ["kept"]);
}

fn ranges_are_scanned_both_ways_and_paged(catalog: &dyn Catalog) {
    fill(catalog, &["a", "b1", "b2", "b3", "c", "\u{7f}"]);
    catalog
        .read::<_, CatalogError>(|rows| {
            let up = |after: Option<&[u8]>, n_max| {
                rows.scan_prefix(FRUIT, b"b", after, Order::Ascending, n_max)
            };
            let down = |after: Option<&[u8]>, n_max| {
                rows.scan_prefix(FRUIT, b"b", after, Order::Descending, n_max)
            };
            assert_eq!(keys(&up(None, 2)?), ["b1", "b2"]);
            assert_eq!(keys(&up(Some(b"b2"), 2)?), ["b3"]);
            assert_eq!(keys(&up(Some(b"c"), 2)?), [""; 0]);
            assert_eq!(keys(&up(Some(b"a"), 9)?), ["b1", "b2", "b3"]);
            assert_eq!(keys(&down(None, 2)?), ["b3", "b2"]);
            assert_eq!(keys(&down(Some(b"b2"), 2)?), ["b1"]);
            assert_eq!(keys(&down(Some(b"a"), 2)?), [""; 0]);
            assert_eq!(keys(&down(Some(b"z"), 9)?), ["b3", "b2", "b1"]);
            let range = (Bound::Excluded(&b"b1"[..]), Bound::Included(&b"c"[..]));
            assert_eq!(keys(&rows.scan(FRUIT, range, Order::Ascending, 9)?), ["b2", "b3", "c"]);
            let backwards = (Bound::Included(&b"c"[..]), Bound::Included(&b"a"[..]));
            assert_eq!(keys(&rows.scan(FRUIT, backwards, Order::Ascending, 9)?), [""; 0]);
            assert_eq!(keys(&rows.scan(STONES, range, Order::Descending, 9)?), [""; 0]);
            Ok(())
        })
        .unwrap();
}

fn a_prefix_of_the_largest_byte_has_no_end(catalog: &dyn Catalog) {
    catalog
        .write::<_, CatalogError>(|rows| {
            rows.put(FRUIT, &[0xfe], b"")?;
            rows.put(FRUIT, &[0xff, 0xff], b"")?;
            rows.put(FRUIT, &[0xff, 0xff, 7], b"")
        })
        .unwrap();
    let found = catalog
        .read::<_, CatalogError>(|rows| {
            rows.scan_prefix(FRUIT, &[0xff, 0xff], None, Order::Descending, 9)
        })
        .unwrap();
    assert_eq!(found.len(), 2);
}

fn what_is_too_long_is_refused(catalog: &dyn Catalog) {
    let long_key = vec![b'k'; KEY_BYTES_MAX + 1];
    let refused = catalog.write::<(), CatalogError>(|rows| rows.put(FRUIT, &long_key, b""));
    assert!(matches!(refused, Err(CatalogError::TooLong { what: "key", .. })));
    let long_value = vec![0; VALUE_BYTES_MAX + 1];
    let refused = catalog.write::<(), CatalogError>(|rows| rows.put(FRUIT, b"k", &long_value));
    assert!(matches!(refused, Err(CatalogError::TooLong { what: "value", .. })));
    fill(catalog, &["a refusal does not poison"]);
}

fn typed_values_carry_their_version(catalog: &dyn Catalog) {
    let apple = Fruit { name: "apple".to_owned(), n_seeds: 5 };
    catalog
        .write::<_, CatalogError>(|rows| {
            rows.put_value(FRUIT, b"1 apple", &apple)?;
            rows.put(FRUIT, b"2 old", b"\x01quince")?;
            rows.put(FRUIT, b"3 newer", b"\x03?")?;
            rows.put(FRUIT, b"4 older", b"\x00?")?;
            rows.put(FRUIT, b"5 empty", b"")?;
            rows.put(FRUIT, b"6 trailing", b"\x02\x01p\x05!")?;
            rows.put(FRUIT, b"7 cut", b"\x02\x09p")?;
            rows.put(FRUIT, b"8 long", &[2; 65])
        })
        .unwrap();
    let long = Fruit { name: "n".repeat(99), n_seeds: 0 };
    let refused = catalog.write::<(), CatalogError>(|rows| rows.put_value(FRUIT, b"long", &long));
    assert!(matches!(refused, Err(CatalogError::TooLong { bytes_max: 64, .. })));
    catalog
        .read::<_, CatalogError>(|rows| {
            assert_eq!(rows.value::<Fruit>(FRUIT, b"0 none")?, None);
            assert_eq!(rows.value(FRUIT, b"1 apple")?, Some(apple));
            let old: Fruit = rows.value(FRUIT, b"2 old")?.unwrap();
            assert_eq!(old.name, "quince");
            assert!(matches!(
                rows.value::<Fruit>(FRUIT, b"3 newer"),
                Err(CatalogError::VersionUnknown { table: "fruit", found: 3, newest: 2 })
            ));
            assert!(matches!(
                rows.value::<Fruit>(FRUIT, b"4 older"),
                Err(CatalogError::VersionUnknown { table: "fruit", found: 0, newest: 2 })
            ));
            for key in [&b"5 empty"[..], b"6 trailing", b"7 cut"] {
                let read = rows.value::<Fruit>(FRUIT, key);
                assert!(matches!(read, Err(CatalogError::Damaged(_))), "{read:?}");
            }
            assert!(matches!(
                rows.value::<Fruit>(FRUIT, b"8 long"),
                Err(CatalogError::TooLong { .. })
            ));
            assert_eq!(rows.scan_values::<Fruit>(FRUIT, b"1", None, Order::Ascending, 9)?.len(), 1);
            Ok(())
        })
        .unwrap();
}

fn a_reader_sees_one_state(catalog: &dyn Catalog) {
    fill(catalog, &["a"]);
    catalog
        .read::<_, CatalogError>(|rows| {
            fill(catalog, &["b"]);
            let seen = rows.scan_prefix(FRUIT, b"", None, Order::Ascending, 9)?;
            assert_eq!(keys(&seen), ["a"]);
            Ok(())
        })
        .unwrap();
}

/// Every property, each over a catalog of its own.
const SUITE: [fn(&dyn Catalog); 7] = [
    rows_are_put_read_replaced_and_removed,
    a_refused_change_leaves_no_trace,
    ranges_are_scanned_both_ways_and_paged,
    a_prefix_of_the_largest_byte_has_no_end,
    what_is_too_long_is_refused,
    typed_values_carry_their_version,
    a_reader_sees_one_state,
];

#[test]
fn the_memory_catalog_conforms() {
    for property in SUITE {
        let catalog: Arc<dyn Catalog> = Arc::new(MemoryCatalog::new());
        property(&*catalog);
    }
}

#[test]
fn the_redb_catalog_conforms() {
    for property in SUITE {
        let disk = Disk::new(1);
        let path = Path::new("/catalog");
        let catalog: Arc<dyn Catalog> = Arc::new(RedbCatalog::open(&*disk.files(), path).unwrap());
        property(&*catalog);
    }
}

#[test]
fn d_03_a_power_cut_leaves_all_of_a_transaction_or_nothing() {
    for seed in 0..150 {
        let disk = Disk::new(seed);
        let path = Path::new("/catalog");
        let n_before = seed % 40;
        disk.cut_after(n_before + 1);
        let mut n_durable = 0_u64;
        if let Ok(catalog) = RedbCatalog::open(&*disk.files(), path) {
            while put_pair(&catalog, n_durable + 1).is_ok() {
                n_durable += 1;
            }
        }
        disk.power_cut();
        if seed % 5 == 0 {
            disk.cut_after(1 + seed % 7);
            drop(RedbCatalog::open(&*disk.files(), path));
            disk.power_cut();
        }
        let catalog = RedbCatalog::open(&*disk.files(), path).unwrap();
        let (a, b) = catalog
            .read::<_, CatalogError>(|rows| Ok((rows.get(FRUIT, b"n")?, rows.get(STONES, b"n")?)))
            .unwrap();
        assert_eq!(a, b, "seed {seed}: a transaction was cut in half");
        let found = a.map_or(0, |bytes| u64::from_le_bytes(bytes.try_into().unwrap()));
        assert!((n_durable..=n_durable + 1).contains(&found), "seed {seed}: {found} {n_durable}");
    }
}

fn put_pair(catalog: &RedbCatalog, n: u64) -> Result<(), CatalogError> {
    catalog.write(|rows| {
        rows.put(FRUIT, b"n", &n.to_le_bytes())?;
        rows.put(STONES, b"n", &n.to_le_bytes())
    })
}

#[test]
fn d_04_an_error_of_the_disk_ends_writing_until_the_catalog_is_opened_again() {
    let disk = Disk::new(1);
    let path = Path::new("/catalog");
    let catalog = RedbCatalog::open(&*disk.files(), path).unwrap();
    put_pair(&catalog, 1).unwrap();
    let error = io::ErrorKind::Other;
    disk.fail(Fault { which: Which::Syncs, after: 0, error, for_good: false });
    put_pair(&catalog, 2).unwrap_err();
    assert!(matches!(put_pair(&catalog, 3), Err(CatalogError::Poisoned)));
    drop(catalog);
    let catalog = RedbCatalog::open(&*disk.files(), path).unwrap();
    put_pair(&catalog, 4).unwrap();
}

#[test]
fn every_write_transaction_syncs_twice() {
    let disk = Disk::new(1);
    let catalog = RedbCatalog::open(&*disk.files(), Path::new("/catalog")).unwrap();
    for n in 0..3 {
        disk.start_trace();
        put_pair(&catalog, n).unwrap();
        let trace = disk.trace();
        let n_syncs = trace.iter().filter(|step| matches!(step.call, Call::Sync(_))).count();
        assert_eq!(n_syncs, 2, "one sync for the pages, one for the switch: {trace:?}");
    }
}
