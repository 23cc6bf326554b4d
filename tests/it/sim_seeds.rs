//! Worlds of the pairing rules, many seeds. Sizes are arguments: `OFFSITE_SIM_SEED` is the first
//! seed, `OFFSITE_SIM_N` the number of worlds, crash points or renewals.

use std::env;
use std::thread;

use offsite_model::Span;
use offsite_tests::sim::{Hazards, Outcome, Plan, World};

fn argument(name: &str, otherwise: u64) -> u64 {
    match env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")),
        Err(_) => otherwise,
    }
}

fn first_seed() -> u64 {
    argument("OFFSITE_SIM_SEED", 1)
}

fn size(n: u64) -> u64 {
    argument("OFFSITE_SIM_N", n)
}

fn run(plan: Plan) -> Outcome {
    World::new(plan).run().unwrap_or_else(|broken| panic!("{broken}"))
}

#[test]
fn e_17_storms_break_no_promise_and_end_in_agreement() {
    let (first, n) = (first_seed(), size(1_000));
    let halves = [first..first + n / 2, first + n / 2..first + n].map(|seeds| {
        thread::spawn(move || seeds.map(|seed| run(Plan::storm(seed))).collect::<Vec<_>>())
    });
    let outcomes: Vec<Outcome> = halves.into_iter().flat_map(|half| half.join().unwrap()).collect();
    let sum = |count: fn(&Outcome) -> u64| outcomes.iter().map(count).sum::<u64>();
    println!(
        "{n} worlds from seed {first}: {} events, {} crashes, {} pairings, {} renewals, {} \
            decisions",
        sum(|world| world.n_events),
        sum(|world| world.n_crashes),
        sum(|world| world.n_active),
        sum(|world| world.n_renewals),
        sum(|world| world.n_decisions),
    );
    // The storms were storms.
    assert!(sum(|world| world.n_crashes) > 20 * n);
    assert!(sum(|world| world.n_renewals) > n);
}

#[test]
fn e_17_the_same_seed_gives_the_same_trace() {
    let first = first_seed();
    let mut traces = std::collections::BTreeSet::new();
    for seed in first..first + 20 {
        let (once, again) = (run(Plan::storm(seed)), run(Plan::storm(seed)));
        assert_eq!(once, again, "seed {seed}");
        traces.insert(once.trace);
    }
    assert_eq!(traces.len(), 20, "different seeds give different traces");
}

/// A world of one pairing, long enough for request, decision, installation and first use.
fn one_pairing(seed: u64, crash_at: Option<u64>) -> Plan {
    Plan { calm: Span::from_hours(12), crash_at, ..Plan::calm(seed) }
}

#[test]
fn a_22_and_a_12_a_crash_before_any_effect_leads_to_the_same_place() {
    let n_wanted = size(2_000);
    let (mut n_points, mut seed) = (0, first_seed());
    while n_points < n_wanted {
        let whole = run(one_pairing(seed, None));
        assert_eq!((whole.n_active, whole.n_decisions), (1, 1), "seed {seed}");
        for crash_at in 1..=whole.n_effects {
            let crashed = run(one_pairing(seed, Some(crash_at)));
            assert_eq!(crashed.n_crashes, 1, "seed {seed}, effect {crash_at}");
            assert_eq!(crashed.n_decisions, 1, "seed {seed}, effect {crash_at}");
            n_points += 1;
        }
        seed += 1;
    }
    println!("{n_points} crash points, seeds {}..{seed}", first_seed());
}

#[test]
fn a_13_renewals_lock_nobody_out() {
    let n_wanted = size(200);
    let (mut n_renewals, mut n_crashes, mut seed) = (0, 0, first_seed());
    while n_renewals < n_wanted {
        // Nobody revokes or leaves here: a pairing that ends was lost. Most calls go wrong in some
        // way.
        let hazards =
            Hazards { lost: 200, cut: 250, crash: 30, folly: 0, tampered: 0, ..Hazards::STORM };
        let plan = Plan { storm: Span::from_days(40), hazards, ..Plan::storm(seed) };
        let outcome = run(plan);
        n_renewals += outcome.n_renewals;
        n_crashes += outcome.n_crashes;
        seed += 1;
    }
    println!("{n_renewals} renewals, {n_crashes} crashes, seeds {}..{seed}", first_seed());
}
