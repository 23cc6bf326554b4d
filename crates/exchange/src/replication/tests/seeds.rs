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
        sum.n_disk_faults += tally.n_disk_faults;
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
        sum.n_disk_faults,
        sum.n_resumed,
        sum.n_held,
        sum.n_commit_asked_again,
    ];
    assert!(env::var_os("OFFSITE_SIM_N").is_some() || struck.iter().all(|n| *n > 20), "{struck:?}");
}

#[test]
fn e_10_every_session_over_a_bad_line_ends_with_the_same_bytes() {
    // Below TCP and TLS, loss, reordering and duplicates are delay, and corruption is a cut: this
    // line has both, and both machines are killed. That what arrives is what was sent, that every
    // image is committed once and that little crosses twice is judged by the world.
    let mut sum = (0, 0, 0);
    for seed in 1..=200 {
        let plan = Plan {
            n_volumes: 1,
            n_epochs: 2,
            n_records: 400,
            cut: 40,
            kill_target: 200,
            kill_source: 150,
            lost_answer: 20,
            calm_after: 1_000,
            jitter: 250_000,
            trace: false,
            ..Plan::calm(seed)
        };
        let tally = World::new(plan).run().unwrap_or_else(|broken| panic!("{broken}"));
        sum.0 += tally.n_cuts;
        sum.1 += tally.n_target_kills;
        sum.2 += tally.n_source_kills;
    }
    assert!([sum.0, sum.1, sum.2].iter().all(|n| *n > 200), "the line was good: {sum:?}");
}

#[test]
fn e_17_the_same_seed_replicates_with_the_same_trace() {
    for seed in 1..=20 {
        assert_eq!(run(seed), run(seed), "seed {seed}");
    }
}
