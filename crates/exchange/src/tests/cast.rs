//! The cast: one source and one target that talk in memory, without network, disk or delay, and a
//! script of what they did.

use std::collections::VecDeque;

use offsite_model::{CoreId, Digest, RequestId, Span, Timestamp};
use offsite_proto::error::{ErrorCode, Refusal};
use offsite_proto::version::ProductVersion;

use crate::pairing::source::{
    self, Answer, Artifacts, Ask, Call, Failure, Order as Wanted, Source, Status, Submission,
};
use crate::pairing::target::{
    self, Decision, Grants, Input, Issued, Order, Reply, Standing, Target, TypedCode, Verdict,
};
use crate::pairing::{Asked, Moment, PublicKey, Rules, Wish, WishedAgent};

pub(super) const START: Timestamp = Timestamp::from_secs(1_800_000_000);
pub(super) const POLICY: Digest = Digest::ZERO;

pub(super) fn wish(comments: &str) -> Wish {
    Wish {
        agents: vec![WishedAgent {
            id: offsite_model::AgentId::from_bytes([1; 16]),
            display_name: "web".to_owned(),
            host_name: String::new(),
            logical_bytes: 1 << 30,
        }],
        customer_id: String::new(),
        email_address: String::new(),
        comments: comments.to_owned(),
        use_seed_drive: false,
        enrolment_code: None,
    }
}

pub(super) fn asked(comments: &str) -> Asked {
    Asked {
        core_id: CoreId::from_bytes([2; 16]),
        host_name: "source".to_owned(),
        version: ProductVersion::default(),
        wish: wish(comments),
    }
}

pub(super) fn target_key() -> PublicKey {
    PublicKey::from_der("key of the target")
}

/// What the target's driver makes of an order.
pub(super) fn signed(order: &Order) -> Issued {
    Issued {
        serial: order.serial,
        certificate_pem: format!("certificate {:02x?}", order.serial),
        target_pem: "target".to_owned(),
        certificate_sha256: [order.serial[0]; 32],
        target_certificate_sha256: [9; 32],
    }
}

pub(super) fn accept(target: &Target, code: TypedCode, serial: u8) -> Input {
    Input::Decide(Decision {
        request: target.stage().pending().request,
        by: "operator".to_owned(),
        target_key: target_key(),
        seen: Some(target.digest(&POLICY)),
        policy: POLICY,
        verdict: Verdict::Accept {
            code,
            grants: Grants {
                tenant: None,
                storage: None,
                quota_bytes: None,
                allow_restore: false,
                lock_days: 0,
                agents: Vec::new(),
            },
            message: Some("welcome".to_owned()),
            subject: CoreId::from_bytes([3; 16]),
            serial: [serial; 16],
        },
    })
}

/// Says what becomes of a call instead of the target.
pub(super) type Meddle = Box<dyn Fn(&Call) -> Option<Failure>>;

/// Changes what is downloaded.
pub(super) type Tamper = Box<dyn Fn(&mut Artifacts)>;

/// One source and one target.
pub(super) struct Duet {
    pub(super) source: Source,
    pub(super) target: Option<Target>,
    pub(super) rules: Rules,
    pub(super) now: Timestamp,
    /// The target's clock less the source's.
    pub(super) skew_secs: i64,
    pub(super) meddle: Option<Meddle>,
    /// Changes what is downloaded.
    pub(super) tamper: Option<Tamper>,
    pub(super) script: Vec<String>,
    pub(super) wake: Option<Span>,
    /// Certificates ordered and not signed yet.
    pub(super) orders: Vec<Order>,
    signed: Vec<Order>,
    installed: Vec<PublicKey>,
    n: u8,
}

impl Duet {
    pub(super) fn new() -> Self {
        Self {
            source: Source::new(),
            target: None,
            rules: Rules::shipped(),
            now: START,
            skew_secs: 0,
            meddle: None,
            tamper: None,
            script: Vec::new(),
            wake: None,
            orders: Vec::new(),
            signed: Vec::new(),
            installed: Vec::new(),
            n: 0,
        }
    }

    /// A pairing that is active.
    pub(super) fn active() -> Self {
        let mut duet = Self::new();
        duet.request("hello");
        duet.accept();
        duet.sign();
        duet.later();
        assert_eq!(duet.source.stage().name(), "Active", "{:#?}", duet.script);
        duet.script.clear();
        duet
    }

    fn fresh(&mut self) -> u8 {
        self.n += 1;
        self.n
    }

    fn moment(&self) -> Moment {
        Moment { now: self.now, luck: 0 }
    }

    fn target_now(&self) -> Timestamp {
        let skew = Span::from_secs(self.skew_secs.unsigned_abs());
        if self.skew_secs < 0 { self.now - skew } else { self.now + skew }
    }

    pub(super) fn request(&mut self, comments: &str) {
        let order = Wanted::Request { target: "target".to_owned(), wish: wish(comments) };
        self.order(order);
    }

    pub(super) fn order(&mut self, order: Wanted) {
        self.say("operator  at the source", &order);
        self.hear(source::Input::Operator(order));
    }

    /// Lets the time of the source's timer pass.
    pub(super) fn later(&mut self) {
        let span = self.wake.take().expect("the source waits for something");
        self.now = self.now + span;
        self.script.push(format!("          {span:?} later"));
        self.hear(source::Input::Woken);
    }

    /// The target's operator accepts, with the right code.
    pub(super) fn accept(&mut self) {
        let target = self.target.clone().expect("there is a request");
        let code = TypedCode::Code(target.check_code(&target_key()));
        let serial = self.fresh();
        self.row(accept(&target, code, serial)).expect("accepted");
    }

    /// What was ordered is signed.
    pub(super) fn sign(&mut self) {
        for order in std::mem::take(&mut self.orders) {
            let issued = signed(&order);
            self.signed.push(order);
            self.step_row(Input::Issued(issued));
        }
    }

    pub(super) fn row(&mut self, input: Input) -> Result<Reply, Refusal> {
        self.step_row(input).expect("a reply")
    }

    fn step_row(&mut self, input: Input) -> Option<Result<Reply, Refusal>> {
        let at = Moment { now: self.target_now(), luck: 0 };
        let step = self.target.as_ref().expect("a row").step(input, at, &self.rules);
        self.obey_row(step.expect("a move of the target"))
    }

    fn obey_row(&mut self, step: target::Step) -> Option<Result<Reply, Refusal>> {
        let name = step.row.stage().name();
        self.target = Some(step.row);
        let mut reply = None;
        for effect in step.effects {
            match effect {
                target::Effect::Persist(audits) => {
                    self.script.push(format!("target    keeps {name}: {audits:?}"));
                }
                target::Effect::Issue(order) => {
                    self.script.push(format!("target    orders a certificate for {:?}", order.key));
                    self.orders.push(order);
                }
                target::Effect::Close(key) => self.script.push(format!("target    closes {key:?}")),
                target::Effect::Reply(answer) => reply = Some(answer),
                target::Effect::WakeAfter(_) => {}
            }
        }
        reply
    }

    fn say(&mut self, who: &str, what: &impl std::fmt::Debug) {
        let what = format!("{what:?}");
        let end = what.find([' ', '(', '{']).unwrap_or(what.len());
        self.script.push(format!("{who}: {}", &what[..end]));
    }

    pub(super) fn hear(&mut self, input: source::Input) {
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            let step = self.source.step(input, self.moment(), &self.rules);
            let source::Step { source, effects } = step.expect("a move of the source");
            self.source = source;
            for effect in effects {
                match effect {
                    source::Effect::Persist => {
                        self.script.push(format!("source    keeps {}", self.source.stage().name()));
                    }
                    source::Effect::MakeKey => {
                        let n = self.fresh();
                        let key = PublicKey::from_der(format!("key {n}"));
                        self.script.push(format!("source    makes {key:?}"));
                        inputs.push_back(source::Input::KeyMade(key));
                    }
                    source::Effect::Call(call) => {
                        self.wake = None;
                        let outcome = self.carry(&call);
                        inputs.push_back(source::Input::Answered(call.ticket, outcome));
                    }
                    source::Effect::Install { key, .. } => {
                        self.script.push(format!("source    installs {key:?}"));
                        self.installed.push(key.clone());
                        inputs.push_back(source::Input::Installed(key));
                    }
                    source::Effect::ForgetKey(key) => {
                        self.script.push(format!("source    forgets {key:?}"));
                    }
                    source::Effect::Tell(event) => {
                        self.script.push(format!("source    tells {event:?}"));
                    }
                    source::Effect::WakeAfter(span) => self.wake = Some(span),
                }
            }
        }
    }

    fn carry(&mut self, call: &Call) -> Result<Answer, Failure> {
        let ask = format!("{:?}", call.ask);
        let end = ask.find([' ', '(', '{']).unwrap_or(ask.len());
        let shown = format!("{:?}", call.key);
        let line = format!("source    {} ({shown}, {:?})", &ask[..end], call.shown);
        if let Some(failure) = self.meddle.as_ref().and_then(|meddle| meddle(call)) {
            self.script.push(format!("{line}: {failure:?}"));
            return Err(failure);
        }
        self.script.push(line);
        let place = self.script.len() - 1;
        let answer = self.answer(call).map_err(|refusal| Failure::Refused {
            code: refusal.code,
            message: refusal.message,
            retry_after_secs: refusal.retry_after_secs,
        });
        let word = match &answer {
            Ok(answer) => answer.name().to_owned(),
            Err(Failure::Refused { code, .. }) => code.to_string(),
            Err(other) => format!("{other:?}"),
        };
        self.script[place].push_str(&format!(": {word}"));
        answer
    }

    fn answer(&mut self, call: &Call) -> Result<Answer, Refusal> {
        let not_paired = Refusal::new(ErrorCode::NotPaired, "not paired");
        let key = call.key.clone();
        let target_core = CoreId::from_bytes([7; 16]);
        if let Ask::Meet(_) = call.ask {
            return Ok(Answer::Met { target_key: target_key(), target_core });
        }
        if let Ask::Submit(wish) = &call.ask {
            let asked = Asked { wish: wish.clone(), ..asked("") };
            let fresh = RequestId::from_bytes([self.fresh(); 16]);
            let reply = if self.target.as_ref().is_some_and(|row| *row.key() == key) {
                self.step_row(Input::Submit { asked, fresh })
            } else {
                let at = Moment { now: self.target_now(), luck: 0 };
                let step = Target::submitted(key, asked, fresh, at, &self.rules);
                self.obey_row(step)
            };
            return self.worded(reply.expect("a reply")?);
        }
        let Some(row) = self.target.clone() else { return Err(not_paired) };
        let serial = self.signed.iter().find(|order| {
            order.key == key && call.shown == source::Shown::Issued && self.installed.contains(&key)
        });
        let serial = serial.map(|order| order.serial);
        let standing = row.standing(&key, serial.as_ref(), self.target_now(), &self.rules);
        if let Standing::Source { is_first_use: true } | Standing::Expired { is_first_use: true } =
            standing
        {
            self.step_row(Input::Used { key: key.clone() });
        }
        let input = match (&call.ask, standing) {
            (Ask::Leave { delete_points }, Standing::Gone) => {
                Input::Leave { key, delete_points: *delete_points }
            }
            (Ask::Poll(_) | Ask::Fetch(_), Standing::None | Standing::Gone) => {
                return Err(Refusal::new(ErrorCode::RequestUnknown, "no such pairing request"));
            }
            (_, Standing::None | Standing::Gone) => return Err(not_paired),
            (Ask::Renew(new), _) => Input::Renew {
                by: key,
                key: new.clone(),
                fresh: RequestId::from_bytes([self.fresh(); 16]),
                serial: [self.fresh(); 16],
            },
            (Ask::Poll(request), _) => Input::Poll { key, request: *request },
            (Ask::Fetch(request), _) => Input::Fetch { key, request: *request },
            (Ask::Sync(_), _) => Input::Sync { key },
            (Ask::Leave { delete_points }, _) => {
                Input::Leave { key, delete_points: *delete_points }
            }
            (Ask::Meet(_) | Ask::Submit(_), _) => unreachable!("answered above"),
        };
        let reply = self.row(input)?;
        self.worded(reply)
    }

    fn worded(&self, reply: Reply) -> Result<Answer, Refusal> {
        Ok(match reply {
            Reply::Submitted { request, expires_at, poll_after_secs } => {
                Answer::Submitted(Submission {
                    request,
                    target_core: CoreId::from_bytes([7; 16]),
                    stated_target_key: target_key(),
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
            } => Answer::Accepted(source::Acceptance {
                message,
                certificate_sha256,
                target_certificate_sha256,
                agents,
            }),
            Reply::Rejected { message, .. } => Answer::Rejected { message },
            Reply::Artifacts(issued) => {
                let order = self.signed.iter().find(|order| order.serial == issued.serial);
                let order = order.expect("only what was signed is published");
                let mut artifacts = Artifacts {
                    certificate_pem: issued.certificate_pem,
                    target_pem: issued.target_pem,
                    certificate_sha256: issued.certificate_sha256,
                    target_certificate_sha256: issued.target_certificate_sha256,
                    certificate_key: order.key.clone(),
                    target_key: target_key(),
                    is_signed_by_authority: true,
                    not_before: order.not_before,
                    not_after: order.not_after,
                };
                if let Some(tamper) = &self.tamper {
                    tamper(&mut artifacts);
                }
                Answer::Fetched(Box::new(artifacts))
            }
            Reply::Status { state, request, message } => {
                Answer::Synced(Status { state, request, message, server_time: self.target_now() })
            }
            Reply::Decided { .. } | Reply::Done => Answer::Left,
        })
    }

    pub(super) fn script(&self) -> String {
        self.script.join("\n")
    }
}
