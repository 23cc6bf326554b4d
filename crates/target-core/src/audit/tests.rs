//! G-08: what an attacker with the catalog file can do to the chain short of rewriting it to its
//! end.

use offsite_store::catalog::MemoryCatalog;

use super::*;

fn chain(n: u64) -> MemoryCatalog {
    let catalog = MemoryCatalog::new();
    for number in 0..n {
        let entry = Entry {
            at: Timestamp::from_secs(i64::try_from(number).unwrap()),
            principal: &Principal::LocalRoot { uid: 0 },
            tenant: None,
            event: Event::TenantAdded,
            facts: &[("name", format!("tenant {number}"))],
        };
        catalog.write::<_, CatalogError>(|rows| record(rows, &entry)).unwrap();
    }
    catalog
}

fn change(catalog: &MemoryCatalog, change: impl FnOnce(&mut dyn RowsMut)) {
    catalog
        .write::<_, CatalogError>(|rows| {
            change(rows);
            Ok(())
        })
        .unwrap();
}

fn kept(rows: &dyn RowsMut, number: u64) -> Kept {
    rows.value(ENTRIES, &number.to_be_bytes()).unwrap().unwrap()
}

fn put(rows: &mut dyn RowsMut, number: u64, kept: &Kept) {
    rows.put_value(ENTRIES, &number.to_be_bytes(), kept).unwrap();
}

fn first_bad(catalog: &MemoryCatalog) -> Option<u64> {
    verify(catalog).unwrap().first_bad
}

#[test]
fn g_08_a_good_chain_is_good() {
    for n in [0, 1, 2, 2_500] {
        assert_eq!(verify(&chain(n)).unwrap(), Verified { n_entries: n, first_bad: None });
    }
}

#[test]
fn g_08_verify_names_the_first_bad_entry() {
    const N: u64 = 20;
    for number in 0..N {
        let edited = chain(N);
        change(&edited, |rows| {
            let mut entry = kept(rows, number);
            entry.facts[0].1 = "nothing to see".to_owned();
            put(rows, number, &entry);
        });
        assert_eq!(first_bad(&edited), Some(number), "edited");

        // The same by someone who knows how digests are made.
        let replaced = chain(N);
        change(&replaced, |rows| {
            let mut entry = kept(rows, number);
            entry.facts[0].1 = "nothing to see".to_owned();
            entry.digest = *entry.computed().unwrap().as_bytes();
            put(rows, number, &entry);
        });
        assert_eq!(first_bad(&replaced), Some(number), "replaced");

        let deleted = chain(N);
        change(&deleted, |rows| {
            rows.remove(ENTRIES, &number.to_be_bytes()).unwrap();
        });
        assert_eq!(first_bad(&deleted), Some(number), "deleted");

        let cut = chain(N);
        change(&cut, |rows| {
            for later in number..N {
                rows.remove(ENTRIES, &later.to_be_bytes()).unwrap();
            }
        });
        assert_eq!(first_bad(&cut), Some(number), "cut");

        let garbage = chain(N);
        change(&garbage, |rows| rows.put(ENTRIES, &number.to_be_bytes(), b"\0\xff").unwrap());
        assert_eq!(first_bad(&garbage), Some(number), "garbage");
    }
    for number in 0..N - 1 {
        let swapped = chain(N);
        change(&swapped, |rows| {
            let (a, b) = (kept(rows, number), kept(rows, number + 1));
            put(rows, number, &b);
            put(rows, number + 1, &a);
        });
        assert_eq!(first_bad(&swapped), Some(number), "swapped");
    }
}

#[test]
fn an_entry_and_its_deed_are_one_transaction() {
    let catalog = chain(3);
    let entry = Entry {
        at: Timestamp::default(),
        principal: &Principal::Anon,
        tenant: None,
        event: Event::TenantAdded,
        facts: &[],
    };
    let failed = catalog.write::<(), CatalogError>(|rows| {
        record(rows, &entry)?;
        Err(CatalogError::Poisoned)
    });
    assert!(failed.is_err());
    assert_eq!(verify(&catalog).unwrap(), Verified { n_entries: 3, first_bad: None });
}

#[test]
fn long_facts_are_cut_at_a_character() {
    let long = "ä".repeat(FACT_BYTES_MAX);
    assert_eq!(bounded(&long).len(), FACT_BYTES_MAX);
    assert_eq!(bounded(&format!("x{long}")).len(), FACT_BYTES_MAX - 1);
}

#[test]
fn g_11_entries_are_shown_to_their_tenants() {
    let catalog = chain(2);
    let tenant = TenantId::from_bytes([1; 16]);
    let entry = Entry {
        at: Timestamp::default(),
        principal: &Principal::Anon,
        tenant: Some(tenant),
        event: Event::RequestSubmitted,
        facts: &[],
    };
    catalog.write::<_, CatalogError>(|rows| record(rows, &entry)).unwrap();
    let shown = |scope: TenantScope| {
        catalog.read::<_, CatalogError>(|rows| newest(rows, &scope, 10)).unwrap().len()
    };
    assert_eq!(shown(TenantScope::All), 3);
    assert_eq!(shown(TenantScope::only(vec![tenant])), 1);
    assert_eq!(shown(TenantScope::only(vec![TenantId::from_bytes([2; 16])])), 0);
}

#[test]
fn words_are_distinct() {
    for (index, event) in Event::ALL.iter().enumerate() {
        assert!(!Event::ALL[..index].iter().any(|other| other.as_str() == event.as_str()));
    }
}
