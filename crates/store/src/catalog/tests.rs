//! One suite for every implementation of the catalog.

use std::ops::Bound;
use std::sync::Arc;

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
            for key in [&b"4 older"[..], b"5 empty", b"6 trailing", b"7 cut"] {
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
