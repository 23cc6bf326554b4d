//! The target's machine: rows on a disk, a gate, a signer, and a driver that obeys effects.

use std::collections::BTreeMap;

use offsite_exchange::pairing::source::{
    Acceptance, Answer, Artifacts, Ask, Call, Failure, Status, Submission,
};
use offsite_exchange::pairing::target::{
    Effect, Input, Issued, Order, Reply, Standing, Step, Target,
};
use offsite_exchange::pairing::{Asked, Moment, PublicKey};
use offsite_model::{CoreId, Digest, Luck, RequestId, Span, Timestamp};
use offsite_proto::error::{ErrorCode, Refusal};
use offsite_proto::version::ProductVersion;

use super::network::jitter;
use super::source_node::skewed;
use super::world::{Event, World};

/// The target.
pub(super) struct TargetNode {
    /// Its own key, for life.
    pub(super) key: PublicKey,
    /// Its core id.
    pub(super) core: CoreId,
    /// Rows as persisted, by the key that filed them. The running program reads them through.
    rows: BTreeMap<PublicKey, Vec<u8>>,
    /// Whether the program runs.
    pub(super) is_up: bool,
    pub(super) boot: u64,
    pub(super) timers: BTreeMap<PublicKey, u64>,
    n_timers: u64,
    pub(super) skew_secs: i64,
    /// Whether somebody else answers at its address.
    pub(super) is_imposter_there: bool,
}

/// Where the answer to a call goes.
type ReturnTo = (usize, u64, Call, Option<Span>);

/// The serial number in a certificate of this world.
pub(super) fn serial_of(certificate_pem: &str) -> [u8; 16] {
    *Digest::of(certificate_pem.as_bytes()).as_bytes().first_chunk().expect("32 bytes hold 16")
}

/// The certificate of an order. Its text decides its digest and, by way of [`serial_of`], what the
/// gate sees.
fn certificate_of(order: &Order) -> String {
    format!("certificate {:02x?} for {:?}", order.serial, order.key)
}

impl TargetNode {
    pub(super) fn new() -> Self {
        Self {
            key: PublicKey::from_der("key of the target"),
            core: CoreId::from_bytes([7; 16]),
            rows: BTreeMap::new(),
            is_up: true,
            boot: 0,
            timers: BTreeMap::new(),
            n_timers: 0,
            skew_secs: 0,
            is_imposter_there: false,
        }
    }

    pub(super) fn key_on_the_wire(&self) -> PublicKey {
        match self.is_imposter_there {
            true => PublicKey::from_der("key of an imposter"),
            false => self.key.clone(),
        }
    }

    pub(super) fn rows(&self) -> Vec<Target> {
        self.rows.values().map(|row| read(row)).collect()
    }

    pub(super) fn row(&self, key: &PublicKey) -> Option<Target> {
        self.rows.get(key).map(|row| read(row))
    }

    /// The row that knows a key.
    pub(super) fn row_of(&self, key: &PublicKey) -> Option<Target> {
        self.row(key).or_else(|| self.rows().into_iter().find(|row| row.keys().contains(&key)))
    }
}

fn read(row: &[u8]) -> Target {
    postcard::from_bytes(row).expect("what was kept can be read")
}

impl World {
    pub(super) fn target_now(&self) -> Timestamp {
        skewed(self.now, self.target.skew_secs)
    }

    fn target_moment(&self) -> Moment {
        Moment { now: self.target_now(), luck: jitter(&self.luck) }
    }

    /// Steps a row without a caller. Says what was replied, if the program lived to reply.
    pub(super) fn row_step(
        &mut self,
        row: &PublicKey,
        input: Input,
    ) -> Option<Result<Reply, Refusal>> {
        if !self.target.is_up {
            return None;
        }
        let row = self.target.row(row)?;
        let line = format!("target {} <- {input:?}", row.stage().name());
        match row.step(input, self.target_moment(), &self.plan.rules) {
            Ok(step) => {
                self.note(|| format!("{line} -> {}", step.row.stage().name()));
                self.row_obey(Some(&row), step)
            }
            Err(illegal) => {
                self.oracle.break_promise(format!("target: {illegal}: {line}"));
                None
            }
        }
    }

    fn row_obey(&mut self, before: Option<&Target>, step: Step) -> Option<Result<Reply, Refusal>> {
        let Step { row, effects } = step;
        let mut reply = None;
        if !effects.iter().any(|effect| matches!(effect, Effect::Persist(_)))
            && before.is_some_and(|before| *before != row)
        {
            self.oracle.break_promise("target: a row changed without being persisted".to_owned());
        }
        for effect in effects {
            if self.dies_now() {
                self.target_dies();
                // What was answered before has left the machine.
                return reply;
            }
            let boot = self.target.boot;
            match effect {
                Effect::Persist(audits) => {
                    let kept = postcard::to_stdvec(&row).expect("plain values can be kept");
                    self.target.rows.insert(row.key().clone(), kept);
                    self.check_persisted(before, &row, &audits);
                }
                Effect::Issue(order) => {
                    // In a storm signing may take hours, so that others can interfere.
                    let is_slow = self.is_storm && self.luck.chance(1, 3);
                    let longest = if is_slow { 14_400_000 } else { 5_000 };
                    let delay = Span::from_millis(self.luck.between(5, longest));
                    let event =
                        Event::Signed { row: row.key().clone(), boot, order: Box::new(order) };
                    self.schedule(delay, event);
                }
                Effect::Close(key) => self.note(|| format!("target closes {key:?}")),
                Effect::Reply(answer) => {
                    self.note(|| format!("target replies {answer:?}"));
                    reply = Some(answer);
                }
                Effect::WakeAfter(span) => {
                    self.target.n_timers += 1;
                    let timer = self.target.n_timers;
                    self.target.timers.insert(row.key().clone(), timer);
                    let event = Event::RowWoken { row: row.key().clone(), boot, timer };
                    self.schedule(span, event);
                }
            }
        }
        reply
    }

    pub(super) fn target_dies(&mut self) {
        self.note(|| "target dies".to_owned());
        self.target.is_up = false;
        self.target.boot += 1;
        self.target.timers.clear();
        let down = Span::from_secs(self.luck.between(1, 600));
        self.schedule(down, Event::TargetStarts);
    }

    pub(super) fn target_starts(&mut self) {
        self.target.is_up = true;
        for row in self.target.rows() {
            self.row_step(row.key(), Input::Start);
        }
    }

    pub(super) fn target_signed(&mut self, row: &PublicKey, boot: u64, order: &Order) {
        if self.target.boot != boot || !self.target.is_up {
            return;
        }
        if self.luck.chance(self.hazards().tampered, 1_000) {
            let reason = "the disk of the authority is full".to_owned();
            self.row_step(row, Input::IssueFailed { serial: order.serial, reason });
            return;
        }
        self.check_signed(row, order);
        let certificate_pem = certificate_of(order);
        let target_pem = "target certificate, then authority".to_owned();
        let issued = Issued {
            serial: order.serial,
            certificate_sha256: *Digest::of(certificate_pem.as_bytes()).as_bytes(),
            target_certificate_sha256: *Digest::of(target_pem.as_bytes()).as_bytes(),
            certificate_pem,
            target_pem,
        };
        self.row_step(row, Input::Issued(issued));
    }

    /// A call arrives: the gate, then the row, then the way back.
    pub(super) fn target_called(
        &mut self,
        source: usize,
        boot: u64,
        call: Call,
        serial: Option<[u8; 16]>,
        answer: Option<Span>,
    ) {
        if !self.target.is_up {
            return;
        }
        let return_to: ReturnTo = (source, boot, call.clone(), answer);
        match self.target_answer(source, &call, serial) {
            Some(reply) => self.send_back(return_to, reply),
            None => self.note(|| format!("no answer to source {source}")),
        }
    }

    fn target_answer(
        &mut self,
        source: usize,
        call: &Call,
        serial: Option<[u8; 16]>,
    ) -> Option<Result<Reply, Refusal>> {
        let key = call.key.clone();
        let not_paired =
            || Some(Err(Refusal::new(ErrorCode::NotPaired, "this key is bound to no pairing")));
        let unknown =
            || Some(Err(Refusal::new(ErrorCode::RequestUnknown, "no such pairing request")));
        if let Ask::Submit(wish) = &call.ask {
            let asked = Asked {
                core_id: CoreId::from_bytes([source as u8; 16]),
                host_name: format!("source {source}"),
                version: ProductVersion::default(),
                wish: wish.clone(),
            };
            let fresh = RequestId::from_bytes(self.random_bytes());
            return match self.target.row_of(&key) {
                Some(row) if *row.key() == key => {
                    self.row_step(&key, Input::Submit { asked, fresh })
                }
                Some(_) => {
                    Some(Err(Refusal::new(ErrorCode::AlreadyExists, "a key of another pairing")))
                }
                None => {
                    let moment = self.target_moment();
                    let step = Target::submitted(key, asked, fresh, moment, &self.plan.rules);
                    self.note(|| format!("target files {fresh}"));
                    self.row_obey(None, step)
                }
            };
        }
        if let Ask::Meet(_) = call.ask {
            return Some(Ok(Reply::Done));
        }
        let Some(row) = self.target.row_of(&key) else {
            return if matches!(call.ask, Ask::Poll(_) | Ask::Fetch(_)) {
                unknown()
            } else {
                not_paired()
            };
        };
        self.check_standings(&row);
        let row_key = row.key().clone();
        let serial = serial.and_then(|shown| self.serial_in(&row, shown));
        let standing = row.standing(&key, serial.as_ref(), self.target_now(), &self.plan.rules);
        let (is_source, is_first_use) = match standing {
            Standing::Source { is_first_use } | Standing::Expired { is_first_use } => {
                (true, is_first_use)
            }
            _ => (false, false),
        };
        if is_first_use {
            self.row_step(&row_key, Input::Used { key: key.clone() });
            if !self.target.is_up {
                return None;
            }
        }
        let is_enrolling = matches!(standing, Standing::Enrolling { .. });
        match &call.ask {
            Ask::Renew(new) if is_source => {
                if self.target.row_of(new).is_some_and(|other| *other.key() != row_key) {
                    return Some(Err(Refusal::new(
                        ErrorCode::AlreadyExists,
                        "a key of another pairing",
                    )));
                }
                let fresh = RequestId::from_bytes(self.random_bytes());
                let serial = self.random_bytes();
                self.row_step(&row_key, Input::Renew { by: key, key: new.clone(), fresh, serial })
            }
            Ask::Poll(request) if is_source || is_enrolling => {
                self.row_step(&row_key, Input::Poll { key, request: *request })
            }
            Ask::Fetch(request) if is_source || is_enrolling => {
                self.row_step(&row_key, Input::Fetch { key, request: *request })
            }
            Ask::Sync(_) if is_source || is_enrolling => {
                self.row_step(&row_key, Input::Sync { key })
            }
            Ask::Leave { delete_points } if standing != Standing::None => {
                self.row_step(&row_key, Input::Leave { key, delete_points: *delete_points })
            }
            Ask::Poll(_) | Ask::Fetch(_) => unknown(),
            _ => not_paired(),
        }
    }

    /// What the gate reads out of a shown certificate: the serial number, if the authority signed
    /// it.
    fn serial_in(&self, row: &Target, shown: [u8; 16]) -> Option<[u8; 16]> {
        self.oracle
            .signed
            .iter()
            .find(|order| serial_of(&certificate_of(order)) == shown)
            .and_then(|order| row.keys().contains(&&order.key).then_some(order.serial))
    }

    fn send_back(&mut self, (source, boot, call, answer): ReturnTo, reply: Result<Reply, Refusal>) {
        let Some(after) = answer else { return };
        let outcome = match reply {
            Err(refusal) => Err(Failure::Refused {
                code: refusal.code,
                message: refusal.message,
                retry_after_secs: refusal.retry_after_secs,
            }),
            Ok(reply) => Ok(self.worded(&call, reply)),
        };
        let outcome = Box::new(outcome);
        self.schedule(after, Event::Answered { source, boot, ticket: call.ticket, outcome });
    }

    /// The answer as the source's driver reads it.
    fn worded(&mut self, call: &Call, reply: Reply) -> Answer {
        let server_time = self.target_now();
        match reply {
            Reply::Submitted { request, expires_at, poll_after_secs } => {
                Answer::Submitted(Submission {
                    request,
                    target_core: self.target.core,
                    stated_target_key: self.target.key.clone(),
                    poll_after_secs,
                    expires_at,
                })
            }
            Reply::Pending { retry_after_secs } => {
                Answer::Pending { retry_after_secs: Some(retry_after_secs) }
            }
            Reply::Accepted {
                message,
                agents,
                certificate_sha256,
                target_certificate_sha256,
                ..
            } => Answer::Accepted(Acceptance {
                message,
                certificate_sha256,
                target_certificate_sha256,
                agents,
            }),
            Reply::Rejected { message, .. } => Answer::Rejected { message },
            Reply::Artifacts(issued) => Answer::Fetched(Box::new(self.downloaded(call, &issued))),
            Reply::Status { state, request, message } => {
                Answer::Synced(Status { state, request, message, server_time })
            }
            Reply::Done if matches!(call.ask, Ask::Meet(_)) => {
                Answer::Met { target_key: self.target.key.clone(), target_core: self.target.core }
            }
            Reply::Decided { .. } | Reply::Done => Answer::Left,
        }
    }

    /// What is read out of the downloads; now and then something that nobody issued.
    fn downloaded(&mut self, call: &Call, issued: &Issued) -> Artifacts {
        let order = self.oracle.signed.iter().find(|order| order.serial == issued.serial);
        let order = order.expect("only what was signed is published").clone();
        let mut artifacts = Artifacts {
            certificate_pem: issued.certificate_pem.clone(),
            target_pem: issued.target_pem.clone(),
            certificate_sha256: issued.certificate_sha256,
            target_certificate_sha256: issued.target_certificate_sha256,
            certificate_key: order.key.clone(),
            target_key: self.target.key.clone(),
            is_signed_by_authority: true,
            not_before: order.not_before,
            not_after: order.not_after,
        };
        if self.luck.chance(self.hazards().tampered, 1_000) {
            match self.luck.below(4) {
                0 => artifacts.certificate_key = PublicKey::from_der("somebody else's"),
                1 => artifacts.target_key = PublicKey::from_der("key of an imposter"),
                2 => artifacts.is_signed_by_authority = false,
                _ => artifacts.certificate_sha256 = [0; 32],
            }
            self.note(|| format!("the download for {:?} is tampered with", call.key));
        }
        artifacts
    }
}
