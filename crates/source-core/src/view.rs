//! A pairing in the words that operators and scripts read: state, connection, message, what to do
//! next.
//!
//! Pure: a stage of the machine, what was last seen of the line, and the clock go in; words come
//! out.
//!
//! **Absent:** decisions. Nothing here changes a pairing.

use offsite_exchange::pairing::PublicKey;
use offsite_exchange::pairing::source::{Cause, Stage, Trouble};
use offsite_model::Timestamp;
use offsite_pki::Thumbprint;
use offsite_proto::admin::source::{Connection, Pairing, State};
use offsite_proto::error::ErrorCode;
use offsite_proto::text::{Text, Time};

use crate::install::thumbprint;

/// What was last seen of the line to a target; forgotten at a restart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Face {
    /// When the target last answered.
    pub last_answer_at: Option<Timestamp>,
    /// How far the target's clock is ahead of ours, in seconds, as last measured.
    pub skew_secs: Option<i64>,
    /// What a person should know besides.
    pub remark: Option<String>,
    /// What a person can do about the last failure; empty where there was none.
    pub hint: String,
    /// Whether the last call was answered; `None` before the first.
    pub is_answered: Option<bool>,
    /// Counts changes.
    pub change: u64,
}

/// What a view is made of.
#[derive(Clone, Copy, Debug)]
pub struct Scene<'a> {
    /// Where the machine stands.
    pub stage: &'a Stage,
    /// Why things take longer.
    pub trouble: Option<&'a Trouble>,
    /// What was last seen of the line.
    pub face: &'a Face,
    /// The target, `HOST:PORT`.
    pub target: &'a str,
    /// Names of the agents.
    pub agents: &'a [String],
}

/// The words for a pairing.
#[must_use]
pub fn view(scene: &Scene<'_>) -> Pairing {
    let stage = scene.stage;
    let alarm = matches!(stage, Stage::Alarmed(_));
    let link = stage.link();
    let key = stage.keys().first().map(|key| fingerprint(key));
    let active = active_part(stage);
    let (message, next) = words(scene);
    Pairing {
        state: state(stage),
        connection: connection(scene),
        target: Some(scene.target.to_owned()),
        address: Some(scene.target.to_owned()),
        check_code: stage.check_code().map(|code| code.to_string()),
        message,
        next,
        alarm,
        target_id: link.map(|link| Text(link.target_core)),
        target_fingerprint: link.map(|link| fingerprint(&link.target_key)),
        fingerprint: key,
        request_id: request(stage).map(Text),
        expires_at: expires_at(stage).map(Time),
        certificate_ends_at: active.map(|active| Time(active.identity.not_after)),
        renewing: active.is_some_and(|active| active.renewal.is_some()),
        clock_skew_seconds: scene.face.skew_secs.map(i64::saturating_neg),
        last_answer_at: scene.face.last_answer_at.map(Time),
        agents: scene.agents.to_vec(),
        change: scene.face.change,
    }
}

/// The word of the enum `pairingState` for a stage.
#[must_use]
pub fn state(stage: &Stage) -> State {
    match stage {
        Stage::Unpaired => State::Unpaired,
        Stage::AwaitKey(_)
        | Stage::AwaitMeeting(_)
        | Stage::AwaitSubmitted(_)
        | Stage::AwaitDecision(_) => State::Pending,
        Stage::AwaitArtifacts(_) | Stage::AwaitInstalled(_) | Stage::AwaitFirstSync(_) => {
            State::Accepted
        }
        Stage::Active(_) => State::Active,
        Stage::Rejected(_) | Stage::Refused(_) => State::Rejected,
        Stage::Expired(_) => State::Expired,
        Stage::AwaitForgotten(_) | Stage::Withdrawn | Stage::Ended(_) => State::Ended,
        Stage::Alarmed(alarmed) => state(&alarmed.before),
    }
}

fn connection(scene: &Scene<'_>) -> Connection {
    if matches!(scene.stage, Stage::Alarmed(_)) {
        return Connection::AuthenticationError;
    }
    if !is_lively(scene.stage) {
        return Connection::None;
    }
    match (scene.trouble, scene.face.is_answered) {
        (Some(Trouble::Unreachable(_) | Trouble::Unreadable(_)), _) => Connection::Unreachable,
        (Some(Trouble::Refused(code, _)), _) if is_about_identity(*code) => {
            Connection::AuthenticationError
        }
        (_, Some(true)) => Connection::Online,
        (_, Some(false)) => Connection::Unreachable,
        (_, None) => Connection::None,
    }
}

/// Whether calls are still made.
fn is_lively(stage: &Stage) -> bool {
    !matches!(
        stage,
        Stage::Unpaired
            | Stage::Rejected(_)
            | Stage::Refused(_)
            | Stage::Expired(_)
            | Stage::Withdrawn
            | Stage::Ended(_)
            | Stage::Alarmed(_)
    )
}

fn is_about_identity(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::Unauthenticated
            | ErrorCode::NotPaired
            | ErrorCode::PairingDenied
            | ErrorCode::Forbidden
    )
}

fn words(scene: &Scene<'_>) -> (Option<String>, Option<String>) {
    let target = scene.target;
    let (calm, next) = calm_words(scene.stage, target);
    // The target's own words about a decision are shown exactly as they came, with nothing around
    // them.
    if !is_lively(scene.stage) {
        return (calm, next);
    }
    let hint = (!scene.face.hint.is_empty()).then(|| scene.face.hint.clone());
    match scene.trouble {
        Some(trouble) => {
            let words = trouble_words(trouble, target, scene.face);
            // Here it is over, whatever the line is like; that comes first.
            let is_leaving = matches!(scene.stage, Stage::AwaitForgotten(_));
            let words = if is_leaving {
                format!("ended here, and {target} has not confirmed it yet: {words}")
            } else {
                words
            };
            (Some(words), hint.or(next))
        }
        None => (scene.face.remark.clone().or(calm), next),
    }
}

/// What to say while nothing is wrong, or once nothing more will happen.
fn calm_words(stage: &Stage, target: &str) -> (Option<String>, Option<String>) {
    let (message, next) = match stage {
        Stage::Unpaired => (
            String::new(),
            "offsite-source pair request URL --agent \
            NAME"
                .to_owned(),
        ),
        Stage::AwaitKey(_) | Stage::AwaitMeeting(_) => {
            (format!("asking {target} whether it can pair"), String::new())
        }
        Stage::AwaitSubmitted(_) => (format!("filing the request at {target}"), String::new()),
        Stage::AwaitDecision(_) => (
            "waiting for the target's operator to decide".to_owned(),
            "read the check code to the target's operator, over another channel than this \
                network"
                .to_owned(),
        ),
        Stage::AwaitArtifacts(_) | Stage::AwaitInstalled(_) | Stage::AwaitFirstSync(_) => {
            ("accepted; the certificate is being put in place".to_owned(), String::new())
        }
        Stage::Active(active) if active.is_key_refused => (
            "the target no longer takes this certificate; a renewal is being tried".to_owned(),
            "ask the target's operator, or start anew: offsite-source pair reset".to_owned(),
        ),
        Stage::Active(_) => (String::new(), String::new()),
        Stage::Rejected(rejected) => (
            rejected.message.clone(),
            "talk to the target's operator, then ask again: offsite-source pair request".to_owned(),
        ),
        Stage::Refused(refused) => (
            format!("the target refused the request ({}): {}", refused.code, refused.message),
            refusal_hint(refused.code).to_owned(),
        ),
        Stage::Expired(_) => (
            "no answer: nobody at the target decided in time".to_owned(),
            "call the target's operator, then ask again: offsite-source pair request".to_owned(),
        ),
        Stage::Withdrawn => ("the request is withdrawn".to_owned(), String::new()),
        Stage::AwaitForgotten(_) => (
            format!("ended here; {target} has not heard of it yet and is told again until it has"),
            "to stop telling it: offsite-source pair reset".to_owned(),
        ),
        Stage::Ended(ended) if ended.before.is_some() => (
            "the target ended the pairing; nothing was deleted here".to_owned(),
            "talk to the target's operator, then ask again: offsite-source pair request".to_owned(),
        ),
        Stage::Ended(_) => ("the pairing is ended".to_owned(), String::new()),
        Stage::Alarmed(alarmed) => (
            cause_words(&alarmed.cause, target),
            "ask the target's operator by telephone whether its key changed; if it did not, \
                somebody stands between: \
             wait, then go on with the remembered key: offsite-source pair retry. If it did, \
                 give the pairing up and \
             ask anew: offsite-source pair reset"
                .to_owned(),
        ),
    };
    let said = |text: String| (!text.is_empty()).then_some(text);
    (said(message), said(next))
}

fn cause_words(cause: &Cause, target: &str) -> String {
    match cause {
        Cause::TargetKeyChanged(seen) => format!(
            "alarm: {target} answered with another key ({}) than the remembered one; nothing was \
                sent",
            seen_fingerprint(seen)
        ),
        Cause::TargetKeyDisagrees(stated) => format!(
            "alarm: {target} names another key ({}) than the one its connection proved; somebody \
                may stand between",
            fingerprint(stated)
        ),
        Cause::CertificateOfAnotherKey => {
            format!("alarm: {target} sent a certificate for a key that is not this source's")
        }
        Cause::CertificateNotSigned => {
            format!(
                "alarm: {target} sent a certificate that its own authority did not sign for this \
                    source"
            )
        }
        Cause::DigestDiffers => {
            format!("alarm: {target} sent another certificate than the one it announced")
        }
    }
}

fn trouble_words(trouble: &Trouble, target: &str, face: &Face) -> String {
    match trouble {
        Trouble::Unreachable(reason) => format!("{reason}; trying again"),
        Trouble::Refused(code, message) => {
            format!("{target} refuses for now ({code}): {message}; trying again")
        }
        Trouble::Unreadable(reason) => {
            format!("{reason}; trying again")
        }
        Trouble::ClocksDiffer(secs) => {
            // The line's own measurement is exact; the machine's may come from a certificate's
            // dates.
            skew_words(face.skew_secs.unwrap_or(*secs), target)
        }
    }
}

/// Two clocks that differ, in words with the seconds.
#[must_use]
pub fn skew_words(ahead_secs: i64, target: &str) -> String {
    let side = if ahead_secs > 0 { "behind" } else { "ahead of" };
    format!(
        "this source's clock is {} seconds {side} the clock of {target}, more than the day that \
            is tolerated; set the \
         clock of whichever is wrong",
        ahead_secs.unsigned_abs()
    )
}

/// What to do about a refusal by the target's program.
#[must_use]
pub fn refusal_hint(code: ErrorCode) -> &'static str {
    match code {
        ErrorCode::RouteUnknown => {
            "is this the target's replication port? if it is, its operator has closed pairing: \
                ask him to open it"
        }
        ErrorCode::VersionUnsupported => {
            "one of the two programs is too old for the other: update it"
        }
        ErrorCode::Busy | ErrorCode::RateLimited => {
            "the target has too many requests: try again later"
        }
        ErrorCode::AlreadyExists => {
            "this key is in use already: offsite-source pair reset, then ask again"
        }
        _ => "talk to the target's operator",
    }
}

/// SHA-256 of a public key in hexadecimal, as consoles show it.
#[must_use]
pub fn fingerprint(key: &PublicKey) -> String {
    // What is no key cannot have come from a handshake; its digest still tells two apart.
    thumbprint(key)
        .map_or_else(|_| "of unknown form".to_owned(), |thumbprint| thumbprint.to_string())
}

/// The fingerprint of a key that a handshake refused: of such a key the line keeps its SHA-256
/// alone.
fn seen_fingerprint(seen: &PublicKey) -> String {
    <[u8; 32]>::try_from(seen.as_der())
        .map_or_else(|_| fingerprint(seen), |sha256| Thumbprint::from_bytes(sha256).to_string())
}

fn active_part(stage: &Stage) -> Option<&offsite_exchange::pairing::source::Active> {
    match stage {
        Stage::AwaitFirstSync(active) | Stage::Active(active) => Some(active),
        Stage::Alarmed(alarmed) => active_part(&alarmed.before),
        _ => None,
    }
}

fn request(stage: &Stage) -> Option<offsite_model::RequestId> {
    match stage {
        Stage::AwaitSubmitted(waiting) => waiting.filed.as_ref().map(|filed| filed.request),
        Stage::AwaitDecision(waiting) => Some(waiting.filed.request),
        Stage::AwaitArtifacts(waiting) => Some(waiting.filed.request),
        Stage::AwaitInstalled(waiting) => Some(waiting.accepted.filed.request),
        Stage::AwaitFirstSync(active) | Stage::Active(active) => Some(active.identity.request),
        Stage::Alarmed(alarmed) => request(&alarmed.before),
        _ => None,
    }
}

fn expires_at(stage: &Stage) -> Option<Timestamp> {
    match stage {
        Stage::AwaitDecision(waiting) => Some(waiting.filed.expires_at),
        Stage::Alarmed(alarmed) => expires_at(&alarmed.before),
        _ => None,
    }
}
