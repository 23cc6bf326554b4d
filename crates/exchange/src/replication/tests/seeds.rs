//! Many worlds. Sizes are arguments: `OFFSITE_SIM_SEED` is the first seed, `OFFSITE_SIM_N` their
//! number.

use std::env;

use super::storm::Plan;
use super::world::{Tally, World};

fn argument(name: &str, otherwise: u64) -> u64 {
    match env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")),
        Err(_) => otherwise,
    }
}

fn run(seed: u64) -> Tally {
    World::new(Plan::storm(seed)).run().unwrap_or_else(|broken| panic!("{broken}"))
}

#[test]
fn e_17_replication_storms_lose_nothing_and_invent_nothing() {
    let first = argument("OFFSITE_SIM_SEED", 1);
    let mut sum = Tally::default();
    for seed in first..first + argument("OFFSITE_SIM_N", 1_000) {
        let tally = run(seed);
        sum.n_events += tally.n_events;
        sum.n_cuts += tally.n_cuts;
        sum.n_target_kills += tally.n_target_kills;
        sum.n_source_kills += tally.n_source_kills;
        sum.n_wrong_groups += tally.n_wrong_groups;
        sum.n_collected += tally.n_collected;
        sum.n_lost_answers += tally.n_lost_answers;
        sum.n_resumed += tally.n_resumed;
        sum.n_held += tally.n_held;
        sum.n_commit_asked_again += tally.n_commit_asked_again;
        sum.bytes_sent += tally.bytes_sent;
        sum.bytes_sent_again += tally.bytes_sent_again;
    }
    println!("{sum:#?}");
    // A storm that never strikes proves nothing.
    let struck = [
        sum.n_cuts,
        sum.n_target_kills,
        sum.n_source_kills,
        sum.n_wrong_groups,
        sum.n_collected,
        sum.n_lost_answers,
        sum.n_resumed,
        sum.n_held,
        sum.n_commit_asked_again,
    ];
    assert!(env::var_os("OFFSITE_SIM_N").is_some() || struck.iter().all(|n| *n > 20), "{struck:?}");
}

#[test]
fn e_17_the_same_seed_replicates_with_the_same_trace() {
    for seed in 1..=20 {
        assert_eq!(run(seed), run(seed), "seed {seed}");
    }
}
