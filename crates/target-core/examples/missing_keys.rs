//! How fast a target says which keys it lacks: makes a store of many small records, or asks one, a
//! window at a time, as row 5 does (look up, list, promise). `cargo xtask bench index` starts both.
//!
//! ```text
//! missing_keys make DIR N     fills a store with N records and goes on writing until it is killed
//! missing_keys ask DIR N      opens it and asks; one line of JSON for each kind of question
//! ```
//!
//! The records are tiny, since only their number counts; their keys are hashes like any other's.
//! They are appended, checked and indexed by the store as those of a peer are.

use std::error::Error;
use std::path::Path;
use std::sync::Arc;

use offsite_daemon::clock::SystemClock;
use offsite_daemon::files::SystemFiles;
use offsite_daemon::luck::SystemLuck;
use offsite_model::{Clock as _, Key, SessionId, TenantId};
use offsite_store::group::{CheckedGroup, Form};
use offsite_store::{Draft, ListEntry, Settings, Store};

/// Keys of a window, as row 5 allows at most.
const WINDOW: u64 = 8_192;
/// Windows whose records may be owed at once.
const WINDOWS_IN_FLIGHT: u64 = 16;
/// Windows asked of each kind.
const WINDOWS: u64 = 200;
const RECORD_BYTES: u32 = 16;
const RECORDS_PER_GROUP: u64 = 256;
/// Records between two points in time at which the store makes what it has durable.
const RECORDS_PER_SESSION: u64 = 1 << 22;

const TENANT: TenantId = TenantId::from_bytes([7; 16]);

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [verb, folder, n_keys] = arguments.as_slice() else {
        return Err("missing_keys make|ask DIR N".into());
    };
    let n_keys: u64 = n_keys.parse()?;
    match verb.as_str() {
        "make" => make(Path::new(folder), n_keys),
        "ask" => ask(Path::new(folder), n_keys),
        other => Err(format!("make or ask, not {other}").into()),
    }
}

/// The bytes of a record: its number, and what makes it none of the absent ones.
fn record(number: u64, is_present: bool) -> [u8; RECORD_BYTES as usize] {
    let mut bytes = [u8::from(is_present) + 1; RECORD_BYTES as usize];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    bytes
}

fn key(number: u64, is_present: bool) -> Key {
    Key::of(&record(number, is_present))
}

fn make(folder: &Path, n_keys: u64) -> Result<(), Box<dyn Error>> {
    let store = Store::create(Arc::new(SystemFiles), folder, &SystemLuck, Settings::default())?;
    let mut next = 0;
    while next < n_keys {
        let mut session = store.session(TENANT)?;
        let end = (next + RECORDS_PER_SESSION).min(n_keys);
        while next < end {
            let last = (next + RECORDS_PER_GROUP).min(end);
            session.append(&group(next..last)?)?;
            next = last;
        }
        session.keep()?;
        eprintln!("{next} of {n_keys}");
    }
    // Somebody is at work when the end comes.
    let id = SessionId::random(&SystemLuck);
    let mut draft = store.draft(TENANT, id, Vec::new())?;
    println!("made");
    loop {
        draft.append(&group(next..next + RECORDS_PER_GROUP)?)?;
        draft.barrier()?;
        next += RECORDS_PER_GROUP;
    }
}

fn group(numbers: std::ops::Range<u64>) -> Result<CheckedGroup, Box<dyn Error>> {
    let records: Vec<_> = numbers.map(|number| record(number, true)).collect();
    let records: Vec<(Key, &[u8])> =
        records.iter().map(|bytes| (Key::of(bytes), bytes.as_slice())).collect();
    Ok(CheckedGroup::encode(Form::Plain, &records, 1)?)
}

fn ask(folder: &Path, n_keys: u64) -> Result<(), Box<dyn Error>> {
    let begun = seconds_up();
    let store = Store::open(Arc::new(SystemFiles), folder, Settings::default())?;
    println!("{{\"open_seconds\": {:.3}}}", seconds_up() - begun);
    let mut draft = store.draft(TENANT, SessionId::random(&SystemLuck), Vec::new())?;
    let mut listed = 0;
    let mut ask = |name: &str, is_present: bool, number: &mut dyn FnMut(u64) -> u64| {
        let mut seconds = 0.0;
        for window in 0..WINDOWS {
            let first = window * WINDOW;
            let keys: Vec<Key> =
                (first..first + WINDOW).map(|n| key(number(n), is_present)).collect();
            let begun = seconds_up();
            let n_found = look_up(&mut draft, &keys, &mut listed)?;
            seconds += seconds_up() - begun;
            let expected = if is_present { keys.len() } else { 0 };
            if n_found != expected {
                return Err(format!("{name}: {n_found} found, {expected} are there").into());
            }
        }
        let per_second = (WINDOWS * WINDOW) as f64 / seconds;
        println!("{{\"keys\": \"{name}\", \"keys_per_second\": {per_second:.0}}}");
        Ok::<_, Box<dyn Error>>(())
    };
    ask("absent", false, &mut |n| n)?;
    // A volume is stored in its order, and asked for in it; each window begins where the last
    // ended.
    let start = n_keys / 3;
    ask("present, in stored order", true, &mut |n| (start + n) % n_keys)?;
    let mut state = 1_u64;
    ask("present, in random order", true, &mut |_| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 11) % n_keys
    })
}

fn seconds_up() -> f64 {
    SystemClock.uptime().as_micros() as f64 / 1e6
}

/// A window of row 5: which are held, the list kept, and the promise durable.
fn look_up(draft: &mut Draft, keys: &[Key], listed: &mut u64) -> Result<usize, Box<dyn Error>> {
    let found = draft.find_many(Form::Plain, keys)?;
    let entries = (*listed..).zip(keys).map(|(ordinal, key)| ListEntry {
        offset: ordinal * u64::from(RECORD_BYTES),
        length: RECORD_BYTES,
        key: *key,
    });
    let entries: Vec<ListEntry> = entries.collect();
    draft.list(*listed, &entries)?;
    *listed += keys.len() as u64;
    let n_found = found.iter().flatten().count();
    // Answers that say "have" wait for it; the others go on until the next barrier, which comes
    // after so many windows at the latest.
    if n_found > 0 || listed.is_multiple_of(WINDOW * WINDOWS_IN_FLIGHT) {
        draft.promise()?;
    }
    Ok(n_found)
}
