//! Random interleavings of everything that adds, holds, locks, removes and moves records, against
//! maps; see `world`.
//!
//! `OFFSITE_STEPS` says how many steps, `OFFSITE_SEED` with which world to begin. The long run is
//! one call with both, of either test:
//! `OFFSITE_STEPS=1000000 OFFSITE_SEED=1 cargo test -p offsite-store --lib -- --nocapture d_09_int`

use super::world::{STEPS, Tally, World};

fn from_env(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

/// Steps below which nothing is said of how often what happened.
const STEPS_FEW: u64 = 9_000;

/// Lives through worlds of [`STEPS`] steps; in one of so many of them a power cut is made ready.
fn worlds(n_steps: u64, cut_one_in: u64) -> Tally {
    let first = from_env("OFFSITE_SEED").unwrap_or(0);
    let n_worlds = from_env("OFFSITE_STEPS").unwrap_or(n_steps).div_ceil(STEPS);
    let mut tally = Tally::default();
    for seed in first..first + n_worlds {
        let life = std::panic::AssertUnwindSafe(|| World::live(seed, cut_one_in));
        match std::panic::catch_unwind(life) {
            Ok(one) => tally.add(&one),
            Err(cause) => {
                eprintln!("failed with OFFSITE_SEED={seed} OFFSITE_STEPS=1");
                std::panic::resume_unwind(cause);
            }
        }
    }
    println!("worlds {first} to {}: {tally:?}", first + n_worlds - 1);
    tally
}

#[test]
fn d_09_interleaved_collections_agree_with_the_model() {
    let tally = worlds(180_000, 200);
    let Tally { n_steps, n_locked, n_lock_kept, n_purged, .. } = tally;
    if n_steps < STEPS_FEW {
        return;
    }
    assert!(n_locked * 200 > n_steps && n_purged * 100 > n_steps, "{tally:?}");
    assert!(n_lock_kept * 1000 > n_steps, "{tally:?}");
}

#[test]
fn c_10_locks_and_what_they_keep_outlive_a_cut_in_the_middle_of_anything() {
    let tally = worlds(54_000, 12);
    let Tally { n_steps, n_locked, n_cuts, n_in_flight, n_locks_in_flight, .. } = tally;
    if n_steps < STEPS_FEW {
        return;
    }
    assert!(n_locked * 200 > n_steps && n_cuts * 50 > n_steps, "{tally:?}");
    assert!(n_in_flight * 100 > n_steps && n_locks_in_flight * 2000 > n_steps, "{tally:?}");
}
