//! Worlds of the pairing rules, many seeds. Sizes are arguments: `OFFSITE_SIM_SEED` is the first seed,
//! `OFFSITE_SIM_N` their number.

use std::env;

use offsite_tests::sim::{Plan, World};

fn argument(name: &str, otherwise: u64) -> u64 {
    match env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")),
        Err(_) => otherwise,
    }
}

fn seeds(n: u64) -> std::ops::Range<u64> {
    let first = argument("OFFSITE_SIM_SEED", 1);
    first..first + argument("OFFSITE_SIM_N", n)
}

#[test]
fn e_17_storms_break_no_promise_and_end_in_agreement() {
    let (mut n_events, mut n_crashes, mut n_active, mut n_renewals) = (0, 0, 0, 0);
    for seed in seeds(100) {
        match World::new(Plan::storm(seed)).run() {
            Ok(outcome) => {
                n_events += outcome.n_events;
                n_crashes += outcome.n_crashes;
                n_active += outcome.n_active;
                n_renewals += outcome.n_renewals;
            }
            Err(broken) => panic!("{broken}"),
        }
    }
    println!("{n_events} events, {n_crashes} crashes, {n_active} pairings, {n_renewals} renewals");
}
