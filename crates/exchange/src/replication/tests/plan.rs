//! The plan against a naive one that asks every rule of every image until nothing changes.

use offsite_model::Luck as _;
use offsite_testkit::SeededLuck;

use super::*;

fn world(luck: &SeededLuck) -> (Vec<Ours>, Vec<Theirs>) {
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for volume in 0..=luck.below(2) as u8 {
        let volume = VolumeId::from_bytes([volume; 16]);
        let mut last: Option<(u32, Digest)> = None;
        let mut is_gap_there = false;
        for epoch in 0..luck.between(1, 9) as u32 {
            let digest = Digest::of(&luck.bytes(8));
            let parent = if luck.chance(1, 5) { None } else { last };
            let name = (volume, epoch);
            let taken_at = Timestamp::from_secs(i64::from(epoch) + luck.below(3) as i64);
            let is_ours = !luck.chance(1, 8);
            if is_ours {
                ours.push(Ours { name, digest, parent, taken_at, is_seeded: luck.chance(1, 6) });
            }
            let is_there = luck.chance(1, 3);
            if is_there {
                let digest = if luck.chance(1, 6) { Digest::of(b"other") } else { digest };
                let is_orphaned = parent.is_some() && is_gap_there;
                let previous = parent.map(|(epoch, _)| epoch);
                theirs.push(Theirs { name, digest, previous, is_orphaned });
            }
            is_gap_there = !is_there || (parent.is_some() && is_gap_there);
            last = Some((epoch, digest));
        }
    }
    luck.shuffle(&mut ours);
    luck.shuffle(&mut theirs);
    (ours, theirs)
}

/// Indices that must be sent, found by asking again and again.
fn naive(ours: &[Ours], theirs: &[Theirs]) -> BTreeSet<usize> {
    let there = |name| theirs.iter().find(|image| image.name == name);
    // Whole there, or waiting for something that is sent.
    let has = |name: ImageName, digest, sent: &BTreeSet<usize>| {
        let Some(image) = there(name).filter(|image| image.digest == digest) else { return false };
        let mut next = (name.0, image.previous.unwrap_or(0));
        if !image.is_orphaned {
            return true;
        }
        while let Some(image) = there(next) {
            if !image.is_orphaned {
                return false;
            }
            next = (name.0, image.previous.unwrap_or(0));
        }
        sent.iter().any(|index| ours[*index].name == next)
    };
    let named = |name| theirs.iter().any(|image| image.name == name);
    let mut sent = BTreeSet::new();
    loop {
        let before = sent.len();
        for (index, image) in ours.iter().enumerate() {
            let parent_ok = image.parent.is_none_or(|(epoch, digest)| {
                let name = (image.name.0, epoch);
                let own = |other: &&Ours| other.name == name && other.digest == digest;
                has(name, digest, &sent)
                    || !(named(name) && there(name).is_some_and(|image| image.digest == digest))
                        && ours.iter().enumerate().any(|(other, parent)| {
                            own(&parent)
                                && (sent.contains(&other) || (parent.is_seeded && !named(name)))
                        })
            });
            if !named(image.name) && !image.is_seeded && parent_ok {
                sent.insert(index);
            }
        }
        if sent.len() == before {
            return sent;
        }
    }
}

#[test]
fn what_a_parent_waits_for_is_planned_before_its_child_whatever_the_clocks_say() {
    let volume = VolumeId::from_bytes([1; 16]);
    let digest = |epoch: u32| Digest::of(&epoch.to_le_bytes());
    let ours = |epoch: u32, taken_at| Ours {
        name: (volume, epoch),
        digest: digest(epoch),
        parent: Some((epoch - 1, digest(epoch - 1))),
        taken_at: Timestamp::from_secs(taken_at),
        is_seeded: false,
    };
    let theirs = |epoch: u32, is_orphaned| Theirs {
        name: (volume, epoch),
        digest: digest(epoch),
        previous: epoch.checked_sub(1).filter(|before| *before > 0),
        is_orphaned,
    };
    // 3 waits for 2 and 5 for 4; the clock of 4 says that it is the oldest.
    let (late, early) = (ours(2, 100), ours(4, 50));
    let there = [theirs(1, false), theirs(3, true), theirs(5, true)];
    let both = plan(&[early, late], &there);
    let work = |image, allow_orphan| Work { image, after: None, allow_orphan };
    assert_eq!(both.work, [work(1, false), work(0, true)]);
    // Where nobody sends what its parent waits for, it would wait for ever with it.
    let alone = plan(&[early], &there);
    assert_eq!((alone.work, alone.left_out), (vec![], vec![(0, Obstacle::NoParent)]));
}

/// What a target's retention has removed is told as an orphan without a predecessor.
#[test]
fn what_the_target_purged_is_not_sent_again_and_nothing_refers_to_it() {
    let volume = VolumeId::from_bytes([1; 16]);
    let digest = |epoch: u32| Digest::of(&epoch.to_le_bytes());
    let ours = |epoch: u32, has_parent: bool| Ours {
        name: (volume, epoch),
        digest: digest(epoch),
        parent: has_parent.then(|| (epoch - 1, digest(epoch - 1))),
        taken_at: Timestamp::from_secs(epoch.into()),
        is_seeded: false,
    };
    let purged = |epoch: u32| Theirs {
        name: (volume, epoch),
        digest: digest(epoch),
        previous: None,
        is_orphaned: true,
    };
    let there = [purged(1), purged(2)];
    let plan = |ours: &[Ours]| plan(ours, &there);
    assert_eq!(plan(&[ours(1, false), ours(2, true)]), Plan::default());
    // A difference to one of them waits until it is announced as a base image.
    let three = plan(&[ours(1, false), ours(2, true), ours(3, true)]);
    assert_eq!((three.work, three.left_out), (vec![], vec![(2, Obstacle::NoParent)]));
    let anew = plan(&[ours(1, false), ours(2, true), ours(3, false)]);
    assert_eq!(anew.work, [Work { image: 2, after: None, allow_orphan: false }]);
}

#[test]
fn the_plan_sends_what_a_naive_one_sends_and_parents_first() {
    let luck = SeededLuck::from_env_or(1);
    let (mut n_sent, mut n_urgent) = (0, 0);
    for round in 0..3_000 {
        let (ours, theirs) = world(&luck);
        let plan = plan(&ours, &theirs);
        let sent: BTreeSet<usize> = plan.work.iter().map(|work| work.image).collect();
        assert_eq!(sent, naive(&ours, &theirs), "round {round}: {ours:#?} {theirs:#?}");
        assert_eq!(sent.len(), plan.work.len(), "round {round}: something is sent twice");
        let mut seen_ordinary = false;
        for (place, work) in plan.work.iter().enumerate() {
            let image = ours[work.image];
            if let Some(after) = work.after {
                assert!(after < place, "round {round}: a child before its parent");
                let parent = ours[plan.work[after].image];
                assert_eq!(Some((parent.name.1, parent.digest)), image.parent);
            }
            // Whatever an orphan waits for directly comes before what nobody waits for.
            let is_urgent = theirs.iter().any(|orphan| {
                orphan.is_orphaned
                    && orphan.previous.map(|epoch| (orphan.name.0, epoch)) == Some(image.name)
            });
            let serves_urgent = |mut work: usize| loop {
                let later = plan.work.iter().skip(work + 1).position(|w| w.after == Some(work));
                match later {
                    Some(n) => work = work + 1 + n,
                    None => break false,
                }
                let name = ours[plan.work[work].image].name;
                if theirs.iter().any(|o| {
                    o.is_orphaned && o.previous.map(|epoch| (o.name.0, epoch)) == Some(name)
                }) {
                    break true;
                }
            };
            n_urgent += u64::from(is_urgent);
            assert!(!(is_urgent && seen_ordinary), "round {round}: an orphan's parent waits");
            seen_ordinary |= !is_urgent && !serves_urgent(place) && {
                let chain = Planner {
                    ours: &ours,
                    by_name: ours.iter().enumerate().map(|(i, o)| (o.name, i)).collect(),
                    theirs: BTreeMap::new(),
                    verdicts: BTreeMap::new(),
                    plan: Plan::default(),
                };
                !chain.parents_of_orphans(&theirs).contains(&image.name)
            };
        }
        n_sent += plan.work.len();
    }
    assert!(
        n_sent > 3_000 && n_urgent > 300,
        "{n_sent} sent, {n_urgent} urgent: nothing was tried"
    );
}
