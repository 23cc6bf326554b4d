//! Scenes: small worlds without chance, and what happens in them line by line.

use std::collections::VecDeque;

use offsite_model::{AgentId, Key, Luck as _, Span};
use offsite_proto::error::ErrorCode;
use offsite_proto::group::GroupEntry;
use offsite_proto::text::Big;
use offsite_proto::window::ListEntry;
use offsite_testkit::{SeededLuck, expect};

use super::storm::{Plan, target_rules};
use super::world::{RECORD, World};
use crate::replication::target::{
    CommitFault, Effect, Ending, Input, ParentStanding, Rules, Session, Spec, StageFault, Standing,
    decide,
};

fn scene(plan: Plan, prepare: impl FnOnce(&mut World)) -> String {
    let mut world = World::new(plan);
    prepare(&mut world);
    world.run().unwrap_or_else(|broken| panic!("{broken}\n{}", world.trace));
    world.trace
}

#[test]
fn two_round_trips_before_the_first_key() {
    // Everything the job asks is one round trip, row 56 the other; then keys flow, windows ahead of
    // answers.
    let trace = scene(Plan { n_records: 60, ..Plan::calm(3) }, |_| {});
    let lines: Vec<&str> = trace.lines().collect();
    let first_key = lines.iter().position(|line| line.contains("KEYS 0")).unwrap();
    let third_key = lines.iter().position(|line| line.contains("KEYS 2")).unwrap();
    let first_answer = lines.iter().position(|line| line.contains("WANTED")).unwrap();
    assert!(third_key < first_answer, "{trace}");
    expect![["
        source asks Pairing
        source asks MayStart
        source asks FreeSpace
        source asks SeedDrives
        source asks Mirror
        source asks Images
        source asks Orphans
        plan: 1 to send
          v1e0 Open
          v1e0 is opened: Fresh
          v1e0 KEYS 0: 16 from 0
    "]]
    .assert_eq(&lines[..=first_key].join("\n"));
}

#[test]
fn resumes_after_cut_mid_window() {
    let trace = scene(Plan { n_records: 48, ..Plan::calm(5) }, |world| {
        world.cut_after_windows = Some(2);
    });
    let from = trace.lines().skip_while(|line| !line.contains("KEYS 0"));
    expect![["
          v1e0 KEYS 0: 14 from 0
          v1e0 KEYS 1: 15 from 14
          v1e0 KEYS 2: 7 from 29
          v1e0 WANTED 0: 11110011100010
          v1e0 WANTED 1: 111110111110101
          v1e0 WANTED 2: 1011111
          v1e0 group as it lies: [0, 1, 2, 3]
          v1e0 group as it lies: [6, 7, 8]
          v1e0 group as it lies: [12]
          v1e0 group as it lies: [14, 15, 16, 17]
          v1e0 group as it lies: [20, 21]
          v1e0 group as it lies: [22, 23, 24]
          v1e0 group as it lies: [28]
          v1e0 group made anew: [18, 26]
        --- the link is cut
          v1e0 rests after failure 1
          v1e0 Open
          v1e0 Transferred(Some(00000000-0000-0000-0000-000000000001))
          v1e0 is opened: Live
          v1e0 KEYS 0: 14 from 0
          v1e0 KEYS 1: 15 from 14
          v1e0 KEYS 2: 7 from 29
          v1e0 WANTED 0: 00000000000000
          v1e0 WANTED 1: 000010111110101
          v1e0 WANTED 2: 1011111
          v1e0 group as it lies: [20, 21]
          v1e0 group as it lies: [22, 23, 24]
          v1e0 group as it lies: [28]
          v1e0 group made anew: [18, 26]
          v1e0 group as it lies: [32]
          v1e0 group as it lies: [33]
          v1e0 group as it lies: [34, 35]
          v1e0 group made anew: [29, 31]
          v1e0 BeginCommit
          v1e0 Poke(30)
          v1e0 is stored: Ok(())
          v1e0 ends: Committed
        job ends: Succeeded
    "]]
    .assert_eq(&from.collect::<Vec<_>>().join("\n"));
}

#[test]
fn a_group_partly_wanted_is_made_anew() {
    // The target has every second record of the image already, from another of the tenant's images.
    let trace = scene(Plan { n_records: 16, ..Plan::calm(7) }, |world| {
        let records = world.images[0].list.iter().filter(|listed| !listed.entry.is_zeros());
        let held: Vec<_> = records.skip(1).step_by(4).map(|listed| listed.entry.key()).collect();
        world.store.extend(held.into_iter().map(|key| (key, true)));
    });
    let from = trace.lines().skip_while(|line| !line.contains("KEYS 0"));
    expect![["
          v1e0 KEYS 0: 10 from 0
          v1e0 WANTED 0: 1010110100
          v1e0 group as it lies: [2]
          v1e0 group as it lies: [4]
          v1e0 group as it lies: [5]
          v1e0 group made anew: [0, 7]
          v1e0 BeginCommit
          v1e0 Poke(30)
          v1e0 is stored: Ok(())
          v1e0 ends: Committed
        job ends: Succeeded
    "]]
    .assert_eq(&from.collect::<Vec<_>>().join("\n"));
}

#[test]
fn wrong_bytes_under_a_key_are_refused_and_sent_raw() {
    let trace = scene(Plan { n_records: 8, ..Plan::calm(9) }, |world| world.wrong_next = 1);
    let from = trace.lines().skip_while(|line| !line.contains("KEYS 0"));
    expect![["
          v1e0 KEYS 0: 5 from 0
          v1e0 WANTED 0: 11010
          v1e0 WRONG group: [0, 1]
          v1e0 group as it lies: [3]
          v1e0 FAIL hash_mismatch: a group does not hold what its table says
          v1e0 rests after failure 1
          v1e0 Open
          v1e0 Transferred(Some(00000000-0000-0000-0000-000000000001))
          v1e0 is opened: Live
          v1e0 KEYS 0: 5 from 0
          v1e0 WANTED 0: 11000
          v1e0 group made raw: [0, 1]
          v1e0 BeginCommit
          v1e0 Poke(30)
          v1e0 is stored: Ok(())
          v1e0 ends: Committed
        job ends: Succeeded
    "]]
    .assert_eq(&from.collect::<Vec<_>>().join("\n"));
}

#[test]
fn an_orphans_parent_goes_first() {
    // Epoch 1 is on the target without its base; epoch 2 and the base are to be sent.
    let trace = scene(Plan { n_records: 4, n_epochs: 3, ..Plan::calm(11) }, |world| {
        let image = world.images[1].clone();
        let list: Vec<ListEntry> = image.list.iter().map(|listed| listed.entry).collect();
        world.store.extend(list.iter().map(|entry| (entry.key(), true)));
        world.committed.insert(image.ours.name, (image.ours.digest, list));
    });
    let opened = trace.lines().filter(|line| line.contains("opened") || line.contains("stored"));
    let opened = opened.map(str::trim);
    expect![["
          v1e0 is opened: Fresh
          v1e2 is opened: Fresh
          v1e2 is stored: Ok(())
          v1e0 is stored: Ok(())
    "]]
    .assert_eq(&opened.collect::<Vec<_>>().join("\n"));
}

#[test]
fn d_12_a_lost_lease_costs_the_lease_and_not_the_data() {
    let trace = scene(Plan { n_records: 8, ..Plan::calm(13) }, |world| world.lease_lost_next = 1);
    let from = trace.lines().skip_while(|line| !line.contains("BeginCommit"));
    expect![["
          v1e0 BeginCommit
          v1e0 Poke(30)
          v1e0 is stored: Err(LeaseLost)
          v1e0 rests after failure 1
          v1e0 Open
          v1e0 Transferred(Some(00000000-0000-0000-0000-000000000001))
          v1e0 is opened: FromDraft
          v1e0 BeginCommit
          v1e0 Poke(30)
          v1e0 is stored: Ok(())
          v1e0 ends: Committed
        job ends: Succeeded
    "]]
    .assert_eq(&from.collect::<Vec<_>>().join("\n"));
}

#[test]
fn what_cannot_be_kept_ends_the_session_and_not_the_image() {
    let (mut live, list) = session(8);
    let keys = Input::Keys { window: 0, first_ordinal: 0, entries: list };
    let effects = live.step(keys, Span::ZERO);
    let [Effect::LookUp { ticket, keys }] = &effects[..] else { panic!("{effects:?}") };
    let held = vec![true; keys.len()];
    live.step(Input::LookedUp { ticket: *ticket, held }, Span::ZERO);
    let effects = live.step(Input::NotKept(CommitFault::Unavailable), Span::ZERO);
    let [Effect::Fail(refusal), Effect::EndStreams] = &effects[..] else { panic!("{effects:?}") };
    assert!(refusal.retryable && refusal.code == ErrorCode::RepositoryUnavailable, "{refusal:?}");
    assert!(live.stage().leaves_draft());
    // What was under way is answered no more.
    assert_eq!(live.step(Input::DraftWritten { ticket: 0 }, Span::ZERO), []);
}

#[test]
fn e_08_a_slow_disk_bounds_what_waits_and_ends_nobody() {
    // The disk takes 5 MB/s, for groups and for barriers alike; the source sends all it may.
    const BYTES_PER_SECOND: u64 = 5_000_000;
    const GROUP_RECORDS: u64 = 256;
    let rules = Rules { idle: Span::from_secs(60), ..Rules::default() };
    let group_bytes = GROUP_RECORDS * u64::from(RECORD);
    let n_groups = 30 * 60 * BYTES_PER_SECOND / group_bytes;
    let n_records = n_groups * GROUP_RECORDS;
    let (mut live, list) = long_session(n_records, rules);
    let mut now = 0_u64;
    let at = |now: u64| Span::from_micros(now);
    let (mut granted, mut sent, mut most_waiting) = (live.granted_bytes(), 0, 0);
    let (mut windows, mut offered) = (list.chunks(8_192).zip(0_u32..), VecDeque::new());
    let mut wanted: VecDeque<(u64, ListEntry)> = VecDeque::new();
    let mut queue: VecDeque<(u64, Input)> = VecDeque::new();
    let (mut disk_free_at, mut first, mut undurable, mut syncing) = (0, 0_u64, 0_u64, 0_u64);
    let mut most_undurable = 0;
    loop {
        let mut effects;
        if let Some((time, input)) = queue.pop_front_if(|(time, _)| *time <= now) {
            now = now.max(time);
            match &input {
                Input::Staged { .. } => undurable += group_bytes,
                Input::Flushed { .. } => undurable -= syncing,
                _ => {}
            }
            most_undurable = most_undurable.max(undurable);
            effects = live.step(input, at(now));
        } else if sent + group_bytes <= granted && wanted.len() as u64 >= GROUP_RECORDS {
            let records = wanted.drain(..GROUP_RECORDS as usize);
            let entry =
                |(at, entry): (u64, ListEntry)| GroupEntry::new(at, entry.key(), entry.bytes());
            let table = records.map(entry).collect();
            sent += group_bytes;
            effects =
                live.step(Input::Group { table, is_encrypted: false, bytes: group_bytes }, at(now));
        } else if wanted.len() < 40_000
            && offered.len() < 4
            && let Some((entries, window)) = windows.next()
        {
            let entries = entries.to_vec();
            let n = entries.len() as u64;
            offered.push_back((first, entries.clone()));
            effects = live.step(Input::Keys { window, first_ordinal: first, entries }, at(now));
            first += n;
        } else if let Some((time, _)) = queue.front() {
            // Nobody may send: time passes until the disk is done.
            now = *time;
            effects = live.step(Input::Tick, at(now));
        } else if wanted.is_empty() {
            break;
        } else {
            panic!("at {now}: nothing is under way and {} records are owed", wanted.len());
        }
        most_waiting = most_waiting.max(live.staging_bytes() + (granted - sent));
        while let Some(effect) = (!effects.is_empty()).then(|| effects.remove(0)) {
            match effect {
                Effect::LookUp { ticket, .. } => {
                    let held = Vec::new();
                    effects.extend(live.step(Input::LookedUp { ticket, held }, at(now)));
                }
                Effect::Stage { group } => {
                    disk_free_at =
                        now.max(disk_free_at) + group_bytes * 1_000_000 / BYTES_PER_SECOND;
                    queue.push_back((disk_free_at, Input::Staged { group, outcome: Ok(()) }));
                }
                Effect::Barrier { number } => {
                    syncing = undurable;
                    disk_free_at = now.max(disk_free_at) + syncing * 1_000_000 / BYTES_PER_SECOND;
                    queue.push_back((disk_free_at, Input::Flushed { number }));
                }
                Effect::Reply(_) => {
                    let (first, entries): (u64, Vec<ListEntry>) = offered.pop_front().unwrap();
                    wanted.extend((first..).zip(entries));
                }
                Effect::Grant(bytes) => granted = bytes,
                Effect::Fail(refusal) => panic!("at {now}: {refusal}"),
                Effect::Suspend | Effect::EndStreams => panic!("at {now}: the session ended"),
                _ => {}
            }
        }
    }
    assert!(now > 30 * 60 * 1_000_000, "half an hour was not simulated: {now}");
    assert!(most_waiting <= 64 << 20, "{most_waiting} bytes waited");
    assert!(most_undurable <= (256 + 64) << 20, "{most_undurable} bytes were not durable");
    eprintln!("most waiting {most_waiting}, most not durable {most_undurable}");
}

/// A session of an image of so many records of their own.
fn long_session(n_records: u64, rules: Rules) -> (Session, Vec<ListEntry>) {
    let entry = |at: u64| {
        let offset = at * u64::from(RECORD);
        ListEntry::record(offset, RECORD, Key::of(&at.to_le_bytes()))
    };
    let list: Vec<ListEntry> = (0..n_records).map(entry).collect();
    let mut open = World::new(Plan::calm(1)).images[0].open.clone();
    open.record_count = Big(n_records);
    open.size_bytes = Big(n_records * u64::from(RECORD));
    let id = offsite_model::SessionId::from_bytes([1; 16]);
    (Session::new(id, Spec::check(open).unwrap(), rules, Span::ZERO), list)
}

#[test]
fn e_09_a_killed_target_costs_a_barrier_and_what_was_under_way() {
    let rules = target_rules();
    let bound = rules.barrier_bytes + rules.behind_bytes + 2 * rules.credit_bytes;
    let mut most = 0;
    for seed in 1..=125 {
        for n_windows in [8, 16, 24, 28] {
            let mut world = World::new(Plan { n_records: 700, jitter: 40, ..Plan::calm(seed) });
            world.kill_after_windows = Some(n_windows);
            let tally = world.run().unwrap();
            assert_eq!(tally.n_target_kills, 1);
            let again = tally.bytes_sent_again;
            assert!(again <= bound, "seed {seed}: {again} bytes sent again, at most {bound}");
            most = most.max(again);
        }
    }
    assert!(most > 0, "nothing was lost, so nothing was tried");
}

#[test]
fn e_11_asked_to_commit_again_and_again_it_commits_once() {
    let (mut session, list) = session(8);
    let keys = Input::Keys { window: 0, first_ordinal: 0, entries: list };
    for effect in session.step(keys, Span::ZERO) {
        let Effect::LookUp { ticket, keys } = effect else { continue };
        let held = vec![true; keys.len()];
        for effect in session.step(Input::LookedUp { ticket, held }, Span::ZERO) {
            let Effect::WriteDraft { ticket, .. } = effect else { continue };
            session.step(Input::DraftWritten { ticket }, Span::ZERO);
        }
    }
    let mut n_commits = 0;
    let mut ask = |session: &mut Session| {
        let effects = session.step(Input::End { commit: true }, Span::ZERO);
        n_commits += effects.iter().filter(|effect| **effect == Effect::Commit).count();
        effects.into_iter().find_map(|effect| match effect {
            Effect::Answer(answer) => Some(answer),
            _ => None,
        })
    };
    for _ in 0..10 {
        assert_eq!(ask(&mut session), Some(Ok(Ending::Running)));
        assert_eq!(session.poke(), Ok(false));
    }
    session.step(Input::Stored(Ok(())), Span::ZERO);
    for _ in 0..10 {
        assert_eq!(ask(&mut session), Some(Ok(Ending::Done)));
        assert_eq!(session.poke(), Ok(true));
        // Opening again finds it done, and a late abort undoes nothing.
        session.step(Input::Reopened, Span::ZERO);
        session.step(Input::End { commit: false }, Span::ZERO);
    }
    assert_eq!(n_commits, 1);
}

fn session(n_records: u64) -> (Session, Vec<ListEntry>) {
    let world = World::new(Plan { n_records, ..Plan::calm(1) });
    let image = &world.images[0];
    let spec = Spec::check(image.open.clone()).unwrap();
    let id = offsite_model::SessionId::from_bytes([1; 16]);
    let list = image.list.iter().map(|listed| listed.entry).collect();
    (Session::new(id, spec, target_rules(), Span::ZERO), list)
}

#[test]
fn b_08_a_have_waits_for_its_hold() {
    let (mut session, list) = session(8);
    let keys = Input::Keys { window: 0, first_ordinal: 0, entries: list.clone() };
    let effects = session.step(keys, Span::ZERO);
    let [Effect::LookUp { ticket, keys }] = &effects[..] else { panic!("{effects:?}") };
    let held = vec![true; keys.len()];
    let effects = session.step(Input::LookedUp { ticket: *ticket, held }, Span::ZERO);
    let [Effect::WriteDraft { is_awaited: true, ticket, .. }] = &effects[..] else {
        panic!("nothing may be answered before the draft is durable: {effects:?}")
    };
    let effects = session.step(Input::DraftWritten { ticket: *ticket }, Span::ZERO);
    assert!(matches!(&effects[..], [Effect::Reply(_)]), "{effects:?}");
}

#[test]
fn b_04_only_what_is_wanted_is_taken() {
    let (mut session, list) = session(8);
    let record = list.iter().position(|entry| !entry.is_zeros()).unwrap();
    let entry = list[record];
    let group = |key| Input::Group {
        table: vec![GroupEntry::new(record as u64, key, entry.bytes())],
        is_encrypted: false,
        bytes: 100,
    };
    let refused = |effects: Vec<Effect>| match &effects[..] {
        [Effect::Fail(refusal)] => refusal.code,
        other => panic!("{other:?}"),
    };
    // Before any key was offered; then under another key than the one offered.
    assert_eq!(refused(session.step(group(entry.key()), Span::ZERO)), ErrorCode::WrongState);
    let keys = Input::Keys { window: 0, first_ordinal: 0, entries: list };
    let Some(Effect::LookUp { ticket, .. }) = session.step(keys, Span::ZERO).pop() else {
        panic!()
    };
    session.step(Input::LookedUp { ticket, held: Vec::new() }, Span::ZERO);
    let other = Key::of(b"other");
    assert_eq!(refused(session.step(group(other), Span::ZERO)), ErrorCode::WrongState);
    let effects = session.step(group(entry.key()), Span::ZERO);
    assert_eq!(effects, [Effect::Stage { group: 0 }]);
    // Twice is once too often.
    assert_eq!(refused(session.step(group(entry.key()), Span::ZERO)), ErrorCode::WrongState);
    // A refused group names its ordinals and is wanted again.
    let outcome = Err(StageFault::HashMismatch);
    let effects = session.step(Input::Staged { group: 0, outcome }, Span::ZERO);
    let [Effect::Fail(refusal), ..] = &effects[..] else { panic!("{effects:?}") };
    assert_eq!(refusal.detail.as_ref().unwrap()["ordinals"], serde_json::json!([record]));
    assert_eq!(session.step(group(entry.key()), Span::ZERO), [Effect::Stage { group: 1 }]);
}

#[test]
fn e_07_more_than_was_granted_is_refused() {
    let (mut session, _) = session(8);
    let bytes = target_rules().credit_bytes + 1;
    let group = Input::Group { table: Vec::new(), is_encrypted: false, bytes };
    let effects = session.step(group, Span::ZERO);
    assert!(
        matches!(&effects[..], [Effect::Fail(r)] if r.code == ErrorCode::TooLarge),
        "{effects:?}"
    );
}

#[test]
fn d_16_another_list_than_announced_is_never_committed() {
    // Wrong, missing, extra and reordered references: whatever is not the list is refused before it
    // is visible.
    let luck = SeededLuck::from_env_or(4);
    for round in 0..200 {
        let (mut session, mut list) = session(24);
        let n = list.len() as u64;
        let at = luck.below(n) as usize;
        match round % 4 {
            0 => {
                let key = Key::of(&luck.bytes(4));
                list[at] = ListEntry::record(list[at].offset(), 4096, key);
            }
            1 => {
                list.remove(at);
            }
            2 => list.push(ListEntry::record(24 * 4096, 4096, Key::of(b"extra"))),
            _ => {
                let other = (at + 1) % list.len();
                let (a, b) = (list[at], list[other]);
                list[at] = b;
                list[other] = a;
            }
        }
        let unchanged = World::new(Plan { n_records: 24, ..Plan::calm(1) });
        if list.iter().eq(unchanged.images[0].list.iter().map(|listed| &listed.entry)) {
            continue;
        }
        let mut effects = Vec::new();
        for (window, entries) in list.chunks(16).enumerate() {
            let first_ordinal = window as u64 * 16;
            let window = window as u32;
            let keys = Input::Keys { window, first_ordinal, entries: entries.to_vec() };
            for effect in session.step(keys, Span::ZERO) {
                let Effect::LookUp { ticket, keys } = effect else { continue };
                let held = vec![true; keys.len()];
                for effect in session.step(Input::LookedUp { ticket, held }, Span::ZERO) {
                    if let Effect::WriteDraft { ticket, is_awaited: true, .. } = effect {
                        session.step(Input::DraftWritten { ticket }, Span::ZERO);
                    }
                }
            }
        }
        effects.extend(session.step(Input::End { commit: true }, Span::ZERO));
        assert!(!effects.contains(&Effect::Commit), "round {round} at {at}: {list:?}");
        assert!(session.poke().is_err());
    }
}

#[test]
fn d_16_a_list_without_all_of_its_records_is_never_committed() {
    let (mut session, list) = session(24);
    let keys = Input::Keys { window: 0, first_ordinal: 0, entries: list.clone() };
    let Some(Effect::LookUp { ticket, .. }) = session.step(keys, Span::ZERO).pop() else {
        panic!()
    };
    session.step(Input::LookedUp { ticket, held: Vec::new() }, Span::ZERO);
    let commit = |session: &Session| session.clone().step(Input::End { commit: true }, Span::ZERO);
    let is_refused = |session: &Session| match &commit(session)[..] {
        [Effect::Answer(Err(refusal))] => refusal.code == ErrorCode::Incomplete,
        _ => false,
    };
    let mut sent = std::collections::BTreeSet::new();
    for (ordinal, entry) in (0_u64..).zip(&list) {
        if entry.is_zeros() || !sent.insert(entry.key()) {
            continue;
        }
        assert!(is_refused(&session), "without record {ordinal}: {:?}", commit(&session));
        let table = vec![GroupEntry::new(ordinal, entry.key(), entry.bytes())];
        let group = Input::Group { table, is_encrypted: false, bytes: 100 };
        let effects = session.step(group, Span::ZERO);
        let [Effect::Stage { group }] = effects[..] else { panic!("{effects:?}") };
        assert!(is_refused(&session), "before record {ordinal} is stored: {:?}", commit(&session));
        session.step(Input::Staged { group, outcome: Ok(()) }, Span::ZERO);
    }
    assert!(sent.len() > 2, "{}", sent.len());
    assert!(commit(&session).contains(&Effect::Commit));
}

#[test]
fn row_56_is_judged_by_what_is_there() {
    let world = World::new(Plan { n_epochs: 2, n_records: 9, ..Plan::calm(2) });
    let base = Spec::check(world.images[0].open.clone()).unwrap();
    let child = Spec::check(world.images[1].open.clone()).unwrap();
    let standing = Standing {
        is_agent_known: true,
        is_paused: false,
        has_space: true,
        is_available: true,
        parent: ParentStanding::Absent,
        committed: None,
        session: None,
        draft: None,
    };
    let code = |spec: &Spec, standing: Standing<'_>| match decide(spec, &standing) {
        Ok(opening) => format!("{opening:?}"),
        Err(refusal) => refusal.code.to_string(),
    };
    let digest = base.digest();
    let mut other = world.images[0].open.clone();
    other.image_digest.0 = child.digest();
    let other = Spec::check(other).unwrap();
    let live = Session::new(
        offsite_model::SessionId::from_bytes([1; 16]),
        base.clone(),
        target_rules(),
        Span::ZERO,
    );
    let mut orphan = world.images[1].open.clone();
    orphan.allow_orphan = true;
    let orphan = Spec::check(orphan).unwrap();
    let told = [
        ("fresh", code(&base, standing)),
        ("unknown agent", code(&base, Standing { is_agent_known: false, ..standing })),
        ("paused", code(&base, Standing { is_paused: true, ..standing })),
        ("full", code(&base, Standing { has_space: false, ..standing })),
        ("offline", code(&base, Standing { is_available: false, ..standing })),
        ("live", code(&base, Standing { session: Some(&live), ..standing })),
        ("live, other", code(&other, Standing { session: Some(&live), ..standing })),
        ("draft", code(&base, Standing { draft: Some(&base), ..standing })),
        ("draft of another", code(&base, Standing { draft: Some(&other), ..standing })),
        ("committed", code(&base, Standing { committed: Some(digest), ..standing })),
        ("committed, other", code(&other, Standing { committed: Some(digest), ..standing })),
        ("no parent", code(&child, standing)),
        ("no parent, orphan", code(&orphan, standing)),
        (
            "parent",
            code(&child, Standing { parent: ParentStanding::Committed(digest), ..standing }),
        ),
        (
            "parent on its way",
            code(&child, Standing { parent: ParentStanding::Transferring(digest), ..standing }),
        ),
        (
            "another parent",
            code(
                &child,
                Standing { parent: ParentStanding::Committed(child.digest()), ..standing },
            ),
        ),
    ];
    let told: Vec<String> = told.iter().map(|(when, what)| format!("{when}: {what}")).collect();
    expect![["
        fresh: Fresh
        unknown agent: agent_unknown
        paused: replication_paused
        full: no_space
        offline: repository_unavailable
        live: Live
        live, other: already_exists
        draft: FromDraft
        draft of another: Fresh
        committed: Committed
        committed, other: already_exists
        no parent: base_missing
        no parent, orphan: Fresh
        parent: Fresh
        parent on its way: Fresh
        another parent: base_missing
    "]]
    .assert_eq(&told.join("\n"));
    let mut bad = world.images[0].open.clone();
    bad.agent_id.0 = AgentId::from_bytes([0; 16]);
    bad.record_size = 5_000;
    assert_eq!(Spec::check(bad).unwrap_err().code, ErrorCode::BadRequest);
}
