//! kill -9 of either side at every durable step of pairing: the same end is reached by asking
//! again.

use offsite_tests::pairing::{add_agent, id_of, pending, request, state};
use offsite_tests::{Kill, Program, Scene, eventually};

/// Drives one side's pairing through a kill at its n-th durable step; `false` when there was no
/// n-th step.
fn pairs_in_spite_of(nth: u32, killed: Side) -> bool {
    let scene = Scene::new();
    let target = scene.target_that_stays("target");
    let source = scene.source("source");
    let kill = Kill { calls: Kill::DURABLE, nth };
    let mut target_daemon = match killed {
        Side::Target => target.serve_under(kill),
        Side::Source => Some(target.serve()),
    };
    let mut source_daemon = match killed {
        Side::Source => source.serve_under(kill),
        Side::Target => Some(source.serve()),
    };
    let mut was_killed = false;
    let mut revive = |was_killed: &mut bool| {
        for (daemon, program) in [(&mut target_daemon, &target), (&mut source_daemon, &source)] {
            if daemon.as_mut().is_none_or(|daemon| !daemon.is_alive()) {
                *was_killed = true;
                *daemon = Some(program.serve());
            }
        }
    };
    revive(&mut was_killed);
    let image = scene.path();
    eventually("the agent is there", || {
        revive(&mut was_killed);
        if source.run(&["agents", "show", "web"]).code != 0 {
            let _again = std::panic::catch_unwind(|| add_agent(&source, image, "web"));
        }
        (source.run(&["agents", "show", "web"]).code == 0).then_some(())
    });
    eventually("both sides are active", || {
        revive(&mut was_killed);
        step(&target, &source)
    });
    let sources = eventually("the target lists its sources", || {
        revive(&mut was_killed);
        let list = target.run(&["sources", "list", "--json"]);
        (list.code == 0).then(|| list.json())
    });
    let n_active =
        sources.as_array().unwrap().iter().filter(|row| row["state"] == "active").count();
    assert_eq!(n_active, 1, "killed at step {nth} of the {killed:?}: {sources}");
    was_killed
}

#[derive(Clone, Copy, Debug)]
enum Side {
    Source,
    Target,
}

/// What the two operators do next, whatever was interrupted.
fn step(target: &Program, source: &Program) -> Option<()> {
    // Either command may find that its daemon has just died of the kill.
    let status = source.run(&["pair", "status", "--json"]);
    if status.code != 0 {
        return None;
    }
    match status.json()["state"].as_str()? {
        "active" => return Some(()),
        "unpaired" => {
            let url = format!("https://{}", target.address("replication"));
            let _asked = source.run(&["pair", "request", &url, "--agent", "web"]);
        }
        _ => {
            let list = target.run(&["requests", "list", "--json"]);
            if list.code == 0
                && let Some(row) =
                    list.json().as_array()?.iter().find(|row| row["status"] == "pending")
            {
                let code = row["check_code"].as_str()?;
                let _decided = target.run(&["requests", "accept", &id_of(row), "--code", code]);
            }
        }
    }
    None
}

/// Kills at the first step of a thread, the second, and so on until no thread gets that far.
fn every_step(killed: Side, n_min: u32) {
    // Two walks, over the odd steps and the even ones.
    let walk = |first: u32| {
        let reached =
            (0..).map(|n| first + 2 * n).take_while(|nth| pairs_in_spite_of(*nth, killed));
        u32::try_from(reached.count()).unwrap()
    };
    let (odd, even) = std::thread::scope(|scope| {
        let (odd, even) = (scope.spawn(|| walk(1)), scope.spawn(|| walk(2)));
        (odd.join().unwrap(), even.join().unwrap())
    });
    let n_steps = odd + even;
    assert!(n_steps >= n_min, "{killed:?}: {n_steps} steps, fewer than starting and pairing take");
    eprintln!("{killed:?}: killed {n_steps} times");
}

#[test]
fn a_12_kill_9_of_the_source_at_every_durable_step() {
    every_step(Side::Source, 6);
}

#[test]
fn a_22_kill_9_of_the_target_at_many_durable_steps() {
    every_step(Side::Target, 6);
}

#[test]
fn the_decision_survives_a_kill_right_after_it() {
    let scene = Scene::new();
    let target = scene.target_that_stays("target");
    let daemon = target.serve();
    let source = scene.source("source");
    let _source_daemon = source.serve();
    add_agent(&source, scene.path(), "web");
    request(&target, &source);
    let row = pending(&target);
    let code = row["check_code"].as_str().unwrap();
    target.json(&["requests", "accept", &id_of(&row), "--code", code]);
    daemon.kill_9();
    let _daemon = target.serve();
    eventually("active after the restart", || (state(&source) == "active").then_some(()));
}
