//! What must never happen, watched effect by effect, and what must have come true in the end.
//!
//! The oracle keeps its own account (contents as text, times by the world's clock), so that a
//! mistake in the machine's digest or clock rules is not repeated here.

use std::collections::BTreeMap;

use offsite_exchange::pairing::PublicKey;
use offsite_exchange::pairing::source::{Artifacts, Call, Stage as SourceStage};
use offsite_exchange::pairing::target::{Audit, Order, Stage, Standing, Target};
use offsite_model::{RequestId, Timestamp};

use super::world::World;

/// The account of one world.
#[derive(Debug, Default)]
pub(super) struct Oracle {
    broken: Option<String>,
    /// Every certificate that was signed.
    pub(super) signed: Vec<Order>,
    /// What the operator who is deciding just now was shown.
    pub(super) deciding_on: Option<String>,
    /// Rows whose request is decided, with the content that was shown.
    decided: BTreeMap<PublicKey, String>,
    /// Acceptances, by request.
    n_accepted: BTreeMap<RequestId, usize>,
    /// Published certificates, by request.
    published: BTreeMap<RequestId, [u8; 16]>,
    /// When the overlap of a renewal began, by the world's clock.
    overlaps: BTreeMap<PublicKey, Timestamp>,
    pub(super) n_active: u64,
    pub(super) n_renewals: u64,
    pub(super) n_decisions: u64,
}

impl Oracle {
    /// Notes the first broken promise.
    pub(super) fn break_promise(&mut self, what: String) {
        self.broken.get_or_insert(what);
    }

    pub(super) fn broken(&self) -> Option<String> {
        self.broken.clone()
    }

    fn must(&mut self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.break_promise(what());
        }
    }
}

/// What an operator is shown of a request.
pub(super) fn content(row: &Target) -> String {
    format!("{:?}", row.stage().pending().asked)
}

impl World {
    /// A source is about to say something.
    pub(super) fn check_call(&mut self, index: usize, call: &Call) {
        let node = &self.sources[index];
        let stage = node.live.as_ref().expect("it is running").stage();
        let has_key = node.keys.contains(&call.key);
        let is_alarmed = matches!(stage, SourceStage::Alarmed(_));
        let is_pinned = stage.link().is_none_or(|link| call.pin.as_ref() == Some(&link.target_key));
        let oracle = &mut self.oracle;
        oracle.must(has_key, || {
            format!("A-12: source {index} calls with {:?}, which it lost", call.key)
        });
        oracle.must(!is_alarmed, || format!("A-05: source {index} goes on after an alarm"));
        oracle.must(is_pinned, || format!("A-05: source {index} calls without its pin"));
    }

    /// A source has gone from one stage to another.
    pub(super) fn check_source_move(
        &mut self,
        index: usize,
        before: &SourceStage,
        after: &SourceStage,
    ) {
        if let (Some(old), Some(new)) = (before.link(), after.link()) {
            let is_same = old.target_key == new.target_key;
            self.oracle.must(is_same, || format!("A-05: source {index} pins another key"));
        }
        let is_ended = matches!(after, SourceStage::Ended(ended) if ended.before.is_some());
        if is_ended && !matches!(before, SourceStage::Ended(_)) {
            // Locked out: the pairing lives, and its owner believes that it has ended.
            let keys = before.keys();
            let lives = |row: &Target| match row.stage() {
                Stage::Active(paired) | Stage::AwaitFirstUse(paired) => {
                    keys.contains(&&paired.live.order.key)
                }
                _ => false,
            };
            let living =
                keys.iter().filter_map(|key| self.target.row_of(key)).any(|row| lives(&row));
            self.oracle.must(!living, || {
                format!("A-13: source {index} is locked out of a living pairing")
            });
        }
    }

    /// A source puts a certificate in place.
    pub(super) fn check_install(&mut self, index: usize, key: &PublicKey, artifacts: &Artifacts) {
        let node = &self.sources[index];
        let has_key = node.keys.contains(key);
        let target_key = self.target.key.clone();
        let is_signed = self.oracle.signed.iter().any(|order| order.key == *key);
        let oracle = &mut self.oracle;
        oracle.must(has_key, || {
            format!("A-12: source {index} installs a certificate without its key")
        });
        oracle.must(artifacts.certificate_key == *key, || {
            format!("A-05: source {index} installs a certificate of another key")
        });
        oracle.must(artifacts.target_key == target_key, || {
            format!("A-05: source {index} trusts another target")
        });
        oracle.must(is_signed && artifacts.is_signed_by_authority, || {
            format!("A-05: source {index} installs what nobody signed")
        });
        let digest = offsite_model::Digest::of(artifacts.certificate_pem.as_bytes());
        oracle.must(artifacts.certificate_sha256 == *digest.as_bytes(), || {
            format!("A-05: source {index} installs what was not announced")
        });
    }

    /// The authority has signed.
    pub(super) fn check_signed(&mut self, row: &PublicKey, order: &Order) {
        if self.oracle.signed.iter().any(|signed| signed.serial == order.serial) {
            return;
        }
        self.oracle.signed.push(order.clone());
        let is_first = self.target.row(row).is_some_and(|row| *row.key() == order.key);
        if is_first {
            let n_signed =
                self.oracle.signed.iter().filter(|signed| signed.request == order.request).count();
            let n_accepted = self.oracle.n_accepted.get(&order.request).copied().unwrap_or(0);
            self.oracle.must(n_signed <= n_accepted, || {
                format!(
                    "A-22: {n_signed} certificates for {n_accepted} decisions on {}",
                    order.request
                )
            });
        }
    }

    /// A row was written.
    pub(super) fn check_persisted(
        &mut self,
        before: Option<&Target>,
        row: &Target,
        audits: &[Audit],
    ) {
        let now = self.now;
        let key = row.key().clone();
        let shown = content(row);
        let oracle = &mut self.oracle;
        for audit in audits {
            match audit {
                Audit::Accepted { .. } | Audit::Rejected { .. } => {
                    oracle.n_decisions += 1;
                    let is_accepted = matches!(audit, Audit::Accepted { .. });
                    if is_accepted {
                        *oracle.n_accepted.entry(row.stage().pending().request).or_default() += 1;
                    }
                    let seen = oracle.deciding_on.clone();
                    oracle.must(seen.as_ref() == Some(&shown), || {
                        format!("A-03: decided on content that was not shown: {shown}")
                    });
                    let first = oracle.decided.insert(key.clone(), shown.clone());
                    oracle.must(first.is_none(), || format!("A-22: {key:?} was decided twice"));
                    let was_locked =
                        before.is_some_and(|before| before.stage().pending().is_locked);
                    oracle.must(!(was_locked && is_accepted), || {
                        format!("A-04: {key:?} was accepted while locked")
                    });
                }
                Audit::Changed { is_approval_void: true } | Audit::IssueFailed { .. }
                    if matches!(row.stage(), Stage::Pending(_)) =>
                {
                    oracle.decided.remove(&key);
                }
                Audit::Published => {
                    let decided = oracle.decided.get(&key).cloned();
                    oracle.must(decided.as_ref() == Some(&shown), || {
                        format!("A-03: a certificate for content not shown: {shown}")
                    });
                }
                Audit::RenewalGranted => {
                    oracle.overlaps.insert(key.clone(), now);
                }
                Audit::KeyRetired { .. } => {
                    oracle.overlaps.remove(&key);
                }
                _ => {}
            }
        }
        if let Stage::AwaitFirstUse(paired) | Stage::Active(paired) = row.stage() {
            let renewed = match &paired.renewal {
                Some(offsite_exchange::pairing::target::Renewal::AwaitFirstUse {
                    certificate,
                    ..
                }) => Some(certificate),
                _ => None,
            };
            for certificate in std::iter::once(&paired.live).chain(renewed) {
                let order = &certificate.order;
                let first = *oracle.published.entry(order.request).or_insert(order.serial);
                oracle.must(first == order.serial, || {
                    format!("A-22: two certificates for request {}", order.request)
                });
            }
        }
    }

    /// No source has two good keys once the overlap is over.
    pub(super) fn check_standings(&mut self, row: &Target) {
        let now = self.target_now();
        let rules = self.plan.rules;
        let n_good = row
            .keys()
            .into_iter()
            .filter(|key| {
                let serials = self.oracle.signed.iter().filter(|order| order.key == **key);
                serials.into_iter().any(|order| {
                    let standing = row.standing(key, Some(&order.serial), now, &rules);
                    matches!(standing, Standing::Source { .. } | Standing::Expired { .. })
                })
            })
            .count();
        let overlap = self.oracle.overlaps.get(row.key()).copied();
        let is_over = overlap.is_none_or(|began| self.now > began + rules.overlap);
        // The target's own clock may have been set back, which lengthens an overlap by as much.
        let is_clock_right = self.oracle_trusts_clock();
        self.oracle.must(n_good <= 2, || format!("A-13: {n_good} good keys"));
        self.oracle.must(n_good <= 1 || !is_over || !is_clock_right, || {
            format!("A-13: two good keys after the overlap of {:?}", row.key())
        });
    }

    /// In the end, both sides agree.
    pub(super) fn check_agreement(&mut self) {
        for index in 0..self.sources.len() {
            let Some(source) = self.sources[index].live.clone() else {
                self.oracle.break_promise(format!("source {index} did not come up again"));
                continue;
            };
            let stage = source.stage();
            let row = stage.keys().first().and_then(|key| self.target.row_of(key));
            let agree = match (stage, &row) {
                (SourceStage::Active(active), Some(row)) => match row.stage() {
                    Stage::Active(paired) => {
                        paired.live.order.key == active.link.key || active.renewal.is_some()
                    }
                    _ => false,
                },
                _ => false,
            };
            let row = row.map_or("no row", |row| row.stage().name());
            self.oracle.must(agree, || {
                format!("in the end source {index} is {} and the target has {row}", stage.name())
            });
        }
    }
}
