//! The nouns both halves share: keys, what is asked for, how long things last.

use std::fmt;

use offsite_model::{AgentId, CoreId, Digest, Span, Timestamp};
use offsite_proto::version::ProductVersion;
use serde::{Deserialize, Serialize};

use super::form;

/// A public key as DER SubjectPublicKeyInfo, which is what pins compare and check codes are made
/// of.
///
/// The driver made or parsed it, so it is well-formed and bounded; a machine only compares it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PublicKey(Vec<u8>);

impl PublicKey {
    /// The key with this DER SubjectPublicKeyInfo.
    #[must_use]
    pub fn from_der(der: impl Into<Vec<u8>>) -> Self {
        Self(der.into())
    }

    /// Its DER SubjectPublicKeyInfo.
    #[must_use]
    pub fn as_der(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for PublicKey {
    /// Eight digits of a digest: enough to tell keys apart in a trace, never an identity.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "key {}", Digest::of(&self.0).short())
    }
}

/// A time and the luck that goes with one step, both handed in by the driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// The wall clock.
    pub now: Timestamp,
    /// A random number, evenly spread, for jitter; it makes no secret.
    pub luck: u16,
}

impl Moment {
    /// A random part of a span.
    pub(crate) const fn part_of(self, span: Span) -> Span {
        Span::from_micros(span.as_micros() / 65_536 * self.luck as u64)
    }
}

/// What a source asks its target for; it is kept, so that a repeated submit says the same again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wish {
    /// The agents to replicate.
    pub agents: Vec<WishedAgent>,
    /// The customer's number at the provider.
    pub customer_id: String,
    /// Where the source's operator can be reached.
    pub email_address: String,
    /// A word to the target's operator.
    pub comments: String,
    /// Whether the first copy will travel on a seed drive.
    pub use_seed_drive: bool,
    /// A code that the target's operator handed out beforehand.
    pub enrolment_code: Option<EnrolmentCode>,
}

/// An agent that shall be replicated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WishedAgent {
    /// Its id, made by the source.
    #[serde(with = "form::agent_id")]
    pub id: AgentId,
    /// Its name for people.
    pub display_name: String,
    /// Its host name; empty where it has none.
    pub host_name: String,
    /// Bytes of its volumes; for the operator's decision only.
    pub logical_bytes: u64,
}

/// A code that opens the reserved pool of requests. Its `Debug` form does not show it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnrolmentCode(pub String);

impl fmt::Debug for EnrolmentCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

/// Who asks and what for, as the target's operator is shown it. All of it is the caller's word.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// The core id the source claims.
    #[serde(with = "form::core_id")]
    pub core_id: CoreId,
    /// The name the source claims.
    pub host_name: String,
    /// Its product version.
    pub version: ProductVersion,
    /// What it asks for.
    pub wish: Wish,
}

impl Asked {
    /// The digest of everything an operator decides on: the key, this content and the policy that
    /// the operator is shown with it. The caller gives the policy's own digest.
    #[must_use]
    pub fn digest(&self, key: &PublicKey, policy: &Digest) -> Digest {
        let mut bytes = b"offsite pairing content 1".to_vec();
        let mut part = |part: &[u8]| {
            bytes.extend_from_slice(&(part.len() as u64).to_le_bytes());
            bytes.extend_from_slice(part);
        };
        part(key.as_der());
        part(policy.as_bytes());
        part(&self.core_id.to_bytes());
        part(self.host_name.as_bytes());
        for number in
            [self.version.major, self.version.minor, self.version.build, self.version.revision]
        {
            part(&number.to_le_bytes());
        }
        let Wish { agents, customer_id, email_address, comments, use_seed_drive, enrolment_code } =
            &self.wish;
        for text in [customer_id, email_address, comments] {
            part(text.as_bytes());
        }
        part(&[u8::from(*use_seed_drive), u8::from(enrolment_code.is_some())]);
        part(enrolment_code.as_ref().map_or(&[], |code| code.0.as_bytes()));
        for agent in agents {
            part(&agent.id.to_bytes());
            part(agent.display_name.as_bytes());
            part(agent.host_name.as_bytes());
            part(&agent.logical_bytes.to_le_bytes());
        }
        Digest::of(&bytes)
    }
}

/// The operator's decision on one agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentDecision {
    /// The agent.
    #[serde(with = "form::agent_id")]
    pub id: AgentId,
    /// Whether it is part of the pairing.
    pub is_accepted: bool,
}

/// How long things last and how often they may be tried: section 5 of the limits, as settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// How long a request waits for a decision.
    pub request_life: Span,
    /// Wrong check codes that lock a request.
    pub wrong_codes_max: u32,
    /// The shortest pause between two polls.
    pub poll_pause_min: Span,
    /// The longest pause between two polls, and of every back-off.
    pub poll_pause_max: Span,
    /// How long an issued certificate lasts.
    pub certificate_life: Span,
    /// How far a certificate is dated back, for clocks that are a little behind.
    pub backdate: Span,
    /// How long the old key of a renewal may live beside the new one.
    pub overlap: Span,
    /// How long after its end a certificate may still renew.
    pub renew_after_expiry: Span,
    /// How far two clocks may differ before validity times are believed to be broken.
    pub skew: Span,
    /// The pause between two calls of row 45 (`cacheLifetime`).
    pub sync_pause: Span,
}

impl Rules {
    /// The rules as shipped.
    #[must_use]
    pub const fn shipped() -> Self {
        Self {
            request_life: Span::from_days(7),
            wrong_codes_max: 5,
            poll_pause_min: Span::from_secs(5),
            poll_pause_max: Span::from_secs(60),
            certificate_life: Span::from_days(90),
            backdate: Span::from_hours(1),
            overlap: Span::from_hours(24),
            renew_after_expiry: Span::from_days(180),
            skew: Span::from_hours(24),
            sync_pause: Span::from_secs(60),
        }
    }

    /// The pause between polls of a request of this age: from the shortest to the longest within
    /// the first minutes, since an operator who is waiting decides soon.
    #[must_use]
    pub fn poll_pause(&self, age: Span) -> Span {
        age.divided_by(12).clamp(self.poll_pause_min, self.poll_pause_max)
    }
}

/// A move that no state allows: the driver's mistake, never a peer's. The state is as it was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no move from {state} by {input}")]
pub struct IllegalMove {
    /// The state it was tried in.
    pub state: &'static str,
    /// What was tried.
    pub input: &'static str,
}
