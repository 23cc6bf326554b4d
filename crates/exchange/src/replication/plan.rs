//! What is to be sent: our images less theirs, in an order in which every image finds its parent.
//!
//! Images are compared by volume, epoch and digest. Parents come before children; missing parents
//! of orphans come before everything else, since each makes points complete that are there already;
//! otherwise the oldest comes first.

use std::collections::{BTreeMap, BTreeSet};

use offsite_model::{Digest, Timestamp, VolumeId};

/// The name of an image in its chain: volume and epoch.
pub type ImageName = (VolumeId, u32);

/// An image that we have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ours {
    /// Volume and epoch.
    pub name: ImageName,
    /// Digest of its list.
    pub digest: Digest,
    /// Epoch and digest of the image it refers to; absent for a base image.
    pub parent: Option<(u32, Digest)>,
    /// When it was taken.
    pub taken_at: Timestamp,
    /// Whether it is on a seed drive that the target has not consumed.
    pub is_seeded: bool,
}

/// An image that the target has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Theirs {
    /// Volume and epoch.
    pub name: ImageName,
    /// Digest of its list.
    pub digest: Digest,
    /// Epoch of the image it refers to.
    pub previous: Option<u32>,
    /// Whether its base or a predecessor is absent there.
    pub is_orphaned: bool,
}

/// One image to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Work {
    /// Its index among ours.
    pub image: usize,
    /// The work that sends its parent, by index in the plan; absent where the target has it or need
    /// not.
    pub after: Option<usize>,
    /// Whether it may land before its parent: that is on a seed drive, or waits at the target for
    /// what this plan sends.
    pub allow_orphan: bool,
}

/// Why an image is not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// The target has another content under this epoch.
    OtherContent,
    /// Neither side has its parent, or the parent is itself not sent.
    NoParent,
    /// It is on a seed drive that is on its way.
    OnSeedDrive,
}

/// What to send, in this order, and what not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// To send.
    pub work: Vec<Work>,
    /// Not to send, by index among ours.
    pub left_out: Vec<(usize, Obstacle)>,
}

/// Compares two catalogues.
#[must_use]
pub fn plan(ours: &[Ours], theirs: &[Theirs]) -> Plan {
    let mut planner = Planner {
        ours,
        by_name: ours.iter().enumerate().map(|(index, image)| (image.name, index)).collect(),
        theirs: theirs.iter().map(|image| (image.name, *image)).collect(),
        verdicts: BTreeMap::new(),
        plan: Plan::default(),
    };
    let urgent = planner.parents_of_orphans(theirs);
    let mut order: Vec<usize> = (0..ours.len()).collect();
    let rank = |image: &Ours| (!urgent.contains(&image.name), image.taken_at, image.name);
    order.sort_by_key(|index| ours.get(*index).map(rank));
    for index in order {
        planner.add_with_parents(index);
    }
    planner.plan
}

#[derive(Clone, Copy)]
enum Verdict {
    There,
    Sent(usize),
    LeftOut(Obstacle),
}

struct Planner<'a> {
    ours: &'a [Ours],
    by_name: BTreeMap<ImageName, usize>,
    theirs: BTreeMap<ImageName, Theirs>,
    verdicts: BTreeMap<usize, Verdict>,
    plan: Plan,
}

impl Planner<'_> {
    /// Names on the way from an orphan to its base.
    fn parents_of_orphans(&self, theirs: &[Theirs]) -> BTreeSet<ImageName> {
        let mut names = BTreeSet::new();
        for orphan in theirs.iter().filter(|image| image.is_orphaned) {
            let mut next = orphan.previous.map(|epoch| (orphan.name.0, epoch));
            // A name is followed once, so that a chain that bites its tail ends.
            while let Some(name) = next.filter(|name| names.insert(*name)) {
                let ours = self.by_name.get(&name).and_then(|index| self.ours.get(*index));
                next = ours.and_then(|image| image.parent).map(|(epoch, _)| (name.0, epoch));
            }
        }
        names
    }

    fn add_with_parents(&mut self, index: usize) {
        // The chain up to the first image that is judged already, then down again: no recursion,
        // chains are long.
        let mut chain = Vec::new();
        let mut next = Some(index);
        while let Some(index) = next.filter(|index| !self.verdicts.contains_key(index)) {
            if chain.contains(&index) {
                break;
            }
            chain.push(index);
            next = self.missing_index(index).or_else(|| self.parent_index(index));
        }
        while let Some(index) = chain.pop() {
            let Some(image) = self.ours.get(index).copied() else { continue };
            let verdict = self.judge(index, &image);
            if let Verdict::LeftOut(obstacle) = verdict {
                self.plan.left_out.push((index, obstacle));
            }
            self.verdicts.insert(index, verdict);
        }
    }

    fn parent_index(&self, index: usize) -> Option<usize> {
        let image = self.ours.get(index)?;
        let (epoch, digest) = image.parent?;
        let parent = self.by_name.get(&(image.name.0, epoch)).copied()?;
        self.ours.get(parent).filter(|parent| parent.digest == digest).map(|_| parent)
    }

    /// What the parent of an image waits for at the target, by index among ours.
    fn missing_index(&self, index: usize) -> Option<usize> {
        let image = self.ours.get(index)?;
        let (volume, mut epoch) = (image.name.0, image.parent?.0);
        let mut is_waiting = false;
        // Epochs fall from child to parent; whoever says otherwise is not followed.
        while let Some(theirs) = self.theirs.get(&(volume, epoch)) {
            let previous = theirs.previous.filter(|before| theirs.is_orphaned && *before < epoch);
            epoch = previous?;
            is_waiting = true;
        }
        is_waiting.then(|| self.by_name.get(&(volume, epoch)).copied()).flatten()
    }

    fn judge(&mut self, index: usize, image: &Ours) -> Verdict {
        match self.theirs.get(&image.name) {
            Some(theirs) if theirs.digest == image.digest => return Verdict::There,
            Some(_) => return Verdict::LeftOut(Obstacle::OtherContent),
            None if image.is_seeded => return Verdict::LeftOut(Obstacle::OnSeedDrive),
            None => {}
        }
        let (after, allow_orphan) = match image.parent {
            None => (None, false),
            Some((epoch, digest)) => {
                let there = self.theirs.get(&(image.name.0, epoch));
                let there = there.filter(|theirs| theirs.digest == digest);
                let of = |index: Option<usize>| self.verdicts.get(&index?);
                match of(self.parent_index(index)) {
                    _ if there.is_some_and(|theirs| !theirs.is_orphaned) => (None, false),
                    // It would wait with its parent for ever, unless that is helped now.
                    _ if there.is_some() => match of(self.missing_index(index)) {
                        Some(Verdict::Sent(_)) => (None, true),
                        _ => return Verdict::LeftOut(Obstacle::NoParent),
                    },
                    Some(Verdict::Sent(work)) => (Some(*work), false),
                    Some(Verdict::LeftOut(Obstacle::OnSeedDrive)) => (None, true),
                    _ => return Verdict::LeftOut(Obstacle::NoParent),
                }
            }
        };
        let work = self.plan.work.len();
        self.plan.work.push(Work { image: index, after, allow_orphan });
        Verdict::Sent(work)
    }
}

#[cfg(test)]
#[path = "tests/plan.rs"]
mod tests;
