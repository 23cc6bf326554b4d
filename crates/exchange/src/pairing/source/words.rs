//! What the source half is told, and what it asks of its driver.

use offsite_model::{CoreId, RequestId, Span, Timestamp};
use offsite_proto::error::ErrorCode;
use offsite_proto::pairing::{CheckCode, PairingState};
use serde::{Deserialize, Serialize};

use crate::pairing::{AgentDecision, PublicKey, Wish, form};

/// One thing that happened to the source half.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// The program started and loaded this machine; whatever was under way died with the last one.
    Start,
    /// The span of the last [`Effect::WakeAfter`] has passed.
    Woken,
    /// The operator wants something.
    Operator(Order),
    /// A private key was made and is on disk; this is its public half.
    KeyMade(PublicKey),
    /// Key, certificate and pins lie in place, all of them.
    Installed(PublicKey),
    /// What came of a call. Exactly one of these follows every [`Effect::Call`], unless the program
    /// dies. An answer to a call that no longer matters is ignored.
    Answered(Ticket, Result<Answer, Failure>),
}

/// What an operator may want.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// Ask this target, or ask it for something else while it has not decided.
    Request {
        /// Where it is, as the operator typed it.
        target: String,
        /// What for.
        wish: Wish,
    },
    /// Take the request back.
    Withdraw,
    /// End the pairing.
    Unpair {
        /// Whether the target shall delete the points too.
        delete_points: bool,
    },
    /// Renew the certificate now, with a new key, instead of when its time comes.
    Renew,
    /// Try again after an alarm, with the key that was pinned: the other one was seen by mistake.
    /// Also after the target said that the pairing has ended, when its operator says that it has
    /// not.
    Resume,
    /// Clear away what has ended, keys included. The answer to a note that can never be delivered,
    /// too.
    Forget,
}

/// Names one call of one machine, so that a late answer is told from the awaited one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ticket(pub u32);

/// Which certificate goes with a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Shown {
    /// The one the source made for itself: it proves the key and nothing else.
    SelfSigned,
    /// The one the target issued and the source installed.
    Issued,
}

/// One call over a connection of its own identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// To be repeated with the answer.
    pub ticket: Ticket,
    /// Where to.
    pub target: String,
    /// The key that proves who calls.
    pub key: PublicKey,
    /// The certificate shown with it.
    pub shown: Shown,
    /// The key the target must have. `None` for the first meeting alone. With any other the driver
    /// sends not one byte and answers [`Failure::TargetKeyChanged`].
    pub pin: Option<PublicKey>,
    /// What is said.
    pub ask: Ask,
}

/// What is said to the target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// Rows 59, 37, 49 and 51: who are you, can we pair. The answer is [`Answer::Met`].
    Meet(Wish),
    /// Row 44, for the key of the connection: [`Answer::Submitted`].
    Submit(Wish),
    /// Row 44 over the present certificate, with a request for the certificate of this new key:
    /// [`Answer::Submitted`].
    Renew(PublicKey),
    /// P1: [`Answer::Pending`], [`Answer::Accepted`] or [`Answer::Rejected`].
    Poll(RequestId),
    /// P2 and P3: [`Answer::Fetched`].
    Fetch(RequestId),
    /// Row 45: [`Answer::Synced`].
    Sync(Option<RequestId>),
    /// Row 46: [`Answer::Left`].
    Leave {
        /// Whether the points go as well.
        delete_points: bool,
    },
}

/// An answer, with what the driver read out of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The target can be paired with.
    Met {
        /// Its key, as the handshake proved it.
        target_key: PublicKey,
        /// Its core id.
        target_core: CoreId,
    },
    /// Row 44 was accepted.
    Submitted(Submission),
    /// Not decided, or not ready.
    Pending {
        /// The header `Retry-After`, in seconds.
        retry_after_secs: Option<u32>,
    },
    /// Accepted, and ready to be fetched.
    Accepted(Acceptance),
    /// Rejected by the operator.
    Rejected {
        /// In these words.
        message: String,
    },
    /// Certificate and target certificate.
    Fetched(Box<Artifacts>),
    /// Row 45.
    Synced(Status),
    /// The target has forgotten this source, or never knew it.
    Left,
}

/// What row 44 answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Submission {
    /// The request's id.
    pub request: RequestId,
    /// The target's core id.
    pub target_core: CoreId,
    /// The key that the target says it has.
    pub stated_target_key: PublicKey,
    /// When to poll first, in seconds.
    pub poll_after_secs: u32,
    /// When the request lapses.
    pub expires_at: Timestamp,
}

/// What P1 answers when it was accepted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acceptance {
    /// A word of the operator.
    pub message: Option<String>,
    /// SHA-256 of the issued certificate's DER.
    pub certificate_sha256: [u8; 32],
    /// SHA-256 of the target certificate's DER.
    pub target_certificate_sha256: [u8; 32],
    /// The decision on each agent.
    pub agents: Vec<AgentDecision>,
}

/// The certificates of P2 and P3, and what was read out of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Artifacts {
    /// P2 as it came.
    pub certificate_pem: String,
    /// P3 as it came.
    pub target_pem: String,
    /// SHA-256 of the certificate's DER, computed.
    pub certificate_sha256: [u8; 32],
    /// SHA-256 of the target certificate's DER, computed.
    pub target_certificate_sha256: [u8; 32],
    /// The key in the certificate.
    pub certificate_key: PublicKey,
    /// The key in the target certificate.
    pub target_key: PublicKey,
    /// Whether the authority in P3 signed the certificate, and may.
    pub is_signed_by_authority: bool,
    /// First moment of the certificate.
    #[serde(with = "form::moment")]
    pub not_before: Timestamp,
    /// Last moment of the certificate.
    #[serde(with = "form::moment")]
    pub not_after: Timestamp,
}

/// What row 45 answers, as far as the machine cares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Where the pairing stands for the target.
    pub state: PairingState,
    /// The request it came from.
    pub request: Option<RequestId>,
    /// The operator's message.
    pub message: Option<String>,
    /// The target's clock.
    pub server_time: Timestamp,
}

/// Why a call brought no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// It did not arrive, or its answer did not; nobody knows which.
    Unreachable {
        /// What failed, for the operator.
        reason: String,
    },
    /// The handshake showed another key than the pinned one; nothing was sent.
    TargetKeyChanged {
        /// The key that was seen.
        seen: PublicKey,
    },
    /// The target refused.
    Refused {
        /// The stable word.
        code: ErrorCode,
        /// Its sentence.
        message: String,
        /// The header `Retry-After`, in seconds.
        retry_after_secs: Option<u32>,
    },
    /// What came cannot be read as an answer to this call: another program, or a broken one.
    Unreadable {
        /// What is wrong with it.
        reason: String,
    },
}

/// What the driver must do, in this order; each may be done twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Keep the machine as this step left it, durably, before the next effect.
    Persist,
    /// Make a private key, keep it durably under the name of its public half, then
    /// [`Input::KeyMade`].
    MakeKey,
    /// Make the call, then [`Input::Answered`]. A call still under way is abandoned.
    Call(Call),
    /// Put key, certificate and pins in place as one file named after the key, then
    /// [`Input::Installed`].
    Install {
        /// The key; its private half is on disk.
        key: PublicKey,
        /// The certificates.
        artifacts: Box<Artifacts>,
    },
    /// Remove the private key and what was installed for it.
    ForgetKey(PublicKey),
    /// Tell the operator and the log, once or twice.
    Tell(Event),
    /// Say [`Input::Woken`] after this span. There is one timer: a later one replaces it, a call
    /// clears it.
    WakeAfter(Span),
}

/// What an operator should hear of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The request is filed; this is the code to read to the target's operator.
    Filed {
        /// The request.
        request: RequestId,
        /// The check code.
        code: CheckCode,
    },
    /// Accepted; what follows needs nobody.
    Accepted {
        /// A word of the target's operator.
        message: Option<String>,
    },
    /// Rejected by the target's operator.
    Rejected {
        /// In these words.
        message: String,
    },
    /// The target itself refused the request.
    Refused {
        /// The stable word.
        code: ErrorCode,
        /// Its sentence.
        message: String,
    },
    /// Nobody decided in time.
    NoAnswer,
    /// Both sides speak mutual TLS.
    Active,
    /// The certificate was renewed, with a new key.
    Renewed,
    /// The target was asked for something else, too late: it has decided on the earlier wish.
    TooLateToChange,
    /// Alarm: somebody is not who he was.
    Alarm(Cause),
    /// The target ended the pairing. Nothing was deleted here.
    EndedByTarget,
    /// The request is withdrawn, or the pairing ended, and the target knows.
    Left,
    /// The clocks differ by more than the rules allow, in seconds; positive when the target's is
    /// ahead.
    ClocksDiffer {
        /// The difference.
        skew_secs: i64,
    },
}

/// What raised an alarm.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cause {
    /// The handshake showed another key than the pinned one.
    TargetKeyChanged(PublicKey),
    /// The target states or certifies another key than the one its handshake proved.
    TargetKeyDisagrees(PublicKey),
    /// The certificate is for another key than ours.
    CertificateOfAnotherKey,
    /// The certificate is not signed by the authority that came with it.
    CertificateNotSigned,
    /// What was downloaded is not what the decision announced.
    DigestDiffers,
}

/// Why things take longer; for the status line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Trouble {
    /// The target cannot be reached.
    Unreachable(String),
    /// The target refuses for now.
    Refused(ErrorCode, String),
    /// What answers there is not understood.
    Unreadable(String),
    /// The certificate is not valid by this clock; the clocks differ by so many seconds.
    ClocksDiffer(i64),
}
