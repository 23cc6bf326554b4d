//! What people do: operators on both sides, the weather of clocks, and somebody in the middle.

use offsite_exchange::pairing::source::{Input, Order, Stage as SourceStage};
use offsite_exchange::pairing::target::{
    Decision, Grants, Input as TargetInput, Reply, Stage, Target, TypedCode, Verdict,
};
use offsite_exchange::pairing::{PublicKey, Wish, WishedAgent};
use offsite_model::{AgentId, CoreId, Digest, Luck, RequestId, Span};
use offsite_proto::pairing::CheckCode;

use super::oracle::content;
use super::world::{Event, World};

/// Something a person does, or the weather.
#[derive(Clone, Debug)]
pub(super) enum Act {
    /// A source's operator looks at his console.
    SourceOperator(usize),
    /// The target's operator looks at his.
    TargetOperator,
    /// The target's operator has made up his mind.
    Decide {
        row: PublicKey,
        request: RequestId,
        seen: Digest,
        shown: String,
        is_reject: bool,
        code: TypedCode,
        n_tries: u32,
    },
    /// A clock jumps, an imposter comes or goes.
    Weather,
}

/// The digest of the policy shown: one policy in this world.
const POLICY: Digest = Digest::ZERO;

const ADDRESS: &str = "target.example:8006";

fn wish(n: u64) -> Wish {
    Wish {
        agents: vec![WishedAgent {
            id: AgentId::from_bytes([1; 16]),
            display_name: "web".to_owned(),
            host_name: "web.example".to_owned(),
            logical_bytes: n,
        }],
        customer_id: "4711".to_owned(),
        email_address: "ops@source.example".to_owned(),
        comments: format!("wish {n}"),
        use_seed_drive: false,
        enrolment_code: None,
    }
}

impl World {
    pub(super) fn begin_workload(&mut self) {
        for source in 0..self.sources.len() {
            self.schedule(Span::from_secs(1), Event::Act(Act::SourceOperator(source)));
        }
        self.schedule(Span::from_secs(60), Event::Act(Act::TargetOperator));
        if self.is_storm {
            self.schedule(Span::from_hours(3), Event::Act(Act::Weather));
        }
    }

    /// The storm is over: everything runs, the clocks are right, nobody is in the middle.
    pub(super) fn calm_down(&mut self) {
        self.target.is_imposter_there = false;
        self.target.skew_secs = 0;
        self.sources.iter_mut().for_each(|source| source.skew_secs = 0);
    }

    pub(super) fn oracle_trusts_clock(&self) -> bool {
        !self.is_storm
    }

    fn is_foolish(&self) -> bool {
        self.luck.chance(self.hazards().folly, 1_000)
    }

    pub(super) fn act(&mut self, act: Act) {
        match act {
            Act::SourceOperator(index) => {
                self.source_operator(index);
                let pause = Span::from_secs(self.luck.between(600, 28_800));
                self.schedule(pause, Event::Act(Act::SourceOperator(index)));
            }
            Act::TargetOperator => {
                self.target_operator();
                let pause = Span::from_secs(self.luck.between(60, 14_400));
                self.schedule(pause, Event::Act(Act::TargetOperator));
            }
            Act::Decide { .. } => self.decide(act),
            Act::Weather => self.weather(),
        }
    }

    fn source_operator(&mut self, index: usize) {
        let Some(source) = self.sources[index].live.clone() else { return };
        let is_foolish = self.is_foolish();
        let request = |n| Order::Request { target: ADDRESS.to_owned(), wish: wish(n) };
        let new = request(self.luck.below(1_000));
        let order = match source.stage() {
            SourceStage::Alarmed(_) if self.luck.chance(1, 2) => Order::Resume,
            SourceStage::Alarmed(_) if is_foolish => Order::Forget,
            stage if Self::is_aside(stage) => new,
            SourceStage::AwaitDecision(waiting) => {
                let row = self.target.row(&waiting.link.key);
                let is_locked = row.is_some_and(|row| row.stage().pending().is_locked);
                match self.luck.below(4) {
                    _ if is_locked => Order::Request {
                        target: ADDRESS.to_owned(),
                        wish: waiting.filed.wish.clone(),
                    },
                    0 if is_foolish => Order::Withdraw,
                    _ if is_foolish => new,
                    _ => return,
                }
            }
            SourceStage::AwaitSubmitted(_) | SourceStage::AwaitMeeting(_) if is_foolish => new,
            SourceStage::AwaitFirstSync(_) | SourceStage::AwaitArtifacts(_) if is_foolish => {
                Order::Withdraw
            }
            SourceStage::Active(_) if is_foolish && self.luck.chance(1, 6) => {
                Order::Unpair { delete_points: self.luck.chance(1, 2) }
            }
            SourceStage::AwaitForgotten(_) if is_foolish && self.luck.chance(1, 6) => Order::Forget,
            _ => return,
        };
        self.source_input(index, Input::Operator(order));
    }

    /// The code that the source's operator reads out on the telephone.
    fn code_read_out(&self, row: &Target) -> Option<CheckCode> {
        let mut sources =
            self.sources.iter().map(|node| node.live.clone().unwrap_or_else(|| node.kept()));
        let source = sources.find(|source| source.stage().keys().contains(&row.key()))?;
        source.stage().check_code()
    }

    fn target_operator(&mut self) {
        if !self.target.is_up {
            return;
        }
        let is_foolish = self.is_foolish();
        for row in self.target.rows() {
            match row.stage() {
                Stage::Pending(pending) => {
                    let own = row.check_code(&self.target.key);
                    let code = match (self.luck.below(4), self.code_read_out(&row)) {
                        (0, _) if is_foolish => TypedCode::Malformed,
                        (1, _) if is_foolish => TypedCode::None,
                        (_, Some(code)) => TypedCode::Code(code),
                        // Nobody reads one out: he does not accept.
                        (_, None) => continue,
                    };
                    // A sensible operator compares, and takes nothing whose code differs.
                    if !is_foolish && code != TypedCode::Code(own) {
                        continue;
                    }
                    let act = Act::Decide {
                        row: row.key().clone(),
                        request: pending.request,
                        seen: row.digest(&POLICY),
                        shown: content(&row),
                        is_reject: is_foolish && self.luck.chance(1, 3),
                        code,
                        n_tries: 0,
                    };
                    let thinking = Span::from_secs(self.luck.between(1, 3_600));
                    self.schedule(thinking, Event::Act(act.clone()));
                    if is_foolish {
                        // Two operators at once, or one who clicks twice.
                        let thinking = Span::from_secs(self.luck.between(1, 3_600));
                        self.schedule(thinking, Event::Act(act));
                    }
                }
                Stage::Active(_) if is_foolish && self.luck.chance(1, 12) => {
                    self.row_step(row.key(), TargetInput::Revoke { by: "operator".to_owned() });
                }
                _ => {}
            }
        }
    }

    fn decide(&mut self, act: Act) {
        let Act::Decide { row, request, seen, shown, is_reject, code, n_tries } = act.clone()
        else {
            return;
        };
        let verdict = match is_reject {
            true => Verdict::Reject { message: "not today".to_owned() },
            false => Verdict::Accept {
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
                subject: CoreId::from_bytes(self.random_bytes()),
                serial: self.random_bytes(),
            },
        };
        let decision = Decision {
            request,
            by: "operator".to_owned(),
            target_key: self.target.key.clone(),
            seen: Some(seen),
            policy: POLICY,
            verdict,
        };
        self.oracle.deciding_on = Some(shown);
        let reply = self.row_step(&row, TargetInput::Decide(decision));
        self.oracle.deciding_on = None;
        match reply {
            Some(Ok(Reply::Decided { .. })) => {
                let kept = self.target.row(&row);
                if kept.is_none_or(|row| matches!(row.stage(), Stage::Pending(_))) {
                    self.oracle.break_promise(
                        "A-22: a decision was answered before it was kept".to_owned(),
                    );
                }
            }
            // The program died under the call: he tries again.
            None if n_tries < 8 => {
                let Act::Decide { row, request, seen, shown, is_reject, code, .. } = act else {
                    return;
                };
                let n_tries = n_tries + 1;
                let act = Act::Decide { row, request, seen, shown, is_reject, code, n_tries };
                self.schedule(Span::from_secs(900), Event::Act(act));
            }
            _ => {}
        }
    }

    fn weather(&mut self) {
        if !self.is_storm {
            return;
        }
        match self.luck.below(6) {
            0 => self.target.is_imposter_there = !self.target.is_imposter_there,
            1 => self.target.is_imposter_there = false,
            2 => self.target.skew_secs = self.a_skew(),
            3 | 4 => {
                let index =
                    usize::try_from(self.luck.below(self.sources.len() as u64)).expect("an index");
                self.sources[index].skew_secs = self.a_skew();
            }
            _ => {}
        }
        self.note(|| "weather".to_owned());
        let pause = Span::from_secs(self.luck.between(1_800, 36_000));
        self.schedule(pause, Event::Act(Act::Weather));
    }

    /// Up to two days either way; half of the time, right.
    fn a_skew(&self) -> i64 {
        match self.luck.below(2) {
            0 => 0,
            _ => i64::try_from(self.luck.below(345_600)).expect("small") - 172_800,
        }
    }
}
