//! What the source half waits for: one struct per stage, all of it plain and kept.

use offsite_model::{CoreId, RequestId, Timestamp};
use offsite_proto::error::ErrorCode;
use offsite_proto::pairing::CheckCode;
use serde::{Deserialize, Serialize};

use super::words::{Acceptance, Artifacts, Cause};
use crate::pairing::{PublicKey, Wish, form};

/// A stage of the source half. Kept as a value: new members go to the end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stage {
    /// Nothing was asked.
    Unpaired,
    /// A private key is being made.
    AwaitKey(AwaitKey),
    /// The target is asked who it is.
    AwaitMeeting(AwaitMeeting),
    /// The request is being filed.
    AwaitSubmitted(AwaitSubmitted),
    /// A person at the target has to decide.
    AwaitDecision(AwaitDecision),
    /// Accepted; the clocks are compared and the certificates fetched.
    AwaitArtifacts(AwaitArtifacts),
    /// Key, certificate and pins are being put in place. Never kept: a restart fetches again.
    AwaitInstalled(AwaitInstalled),
    /// Installed; the first call with the new certificate is due.
    AwaitFirstSync(Active),
    /// Both sides speak mutual TLS.
    Active(Active),
    /// The target has to hear that this source has gone.
    AwaitForgotten(AwaitForgotten),
    /// The target's operator said no.
    Rejected(Rejected),
    /// The target's program said no.
    Refused(Refused),
    /// Nobody decided in time.
    Expired(Link),
    /// Something is not what was pinned. Nothing is sent until the operator acts.
    Alarmed(Alarmed),
    /// The request was withdrawn, and the target knows.
    Withdrawn,
    /// The pairing has ended.
    Ended(Ended),
}

/// See [`Stage::AwaitKey`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AwaitKey {
    /// Where the target is.
    pub target: String,
    /// What will be asked.
    pub wish: Wish,
}

/// See [`Stage::AwaitMeeting`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AwaitMeeting {
    /// Where the target is.
    pub target: String,
    /// What will be asked.
    pub wish: Wish,
    /// The key made for this pairing.
    pub key: PublicKey,
}

/// The two ends of a pairing: where the target is, which key it must have, which key is ours.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// Where the target is.
    pub target: String,
    /// Its pin: the key its first handshake proved.
    pub target_key: PublicKey,
    /// Its core id.
    #[serde(with = "form::core_id")]
    pub target_core: CoreId,
    /// Our key.
    pub key: PublicKey,
}

/// A request as the target filed it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filed {
    /// Its id.
    #[serde(with = "form::request_id")]
    pub request: RequestId,
    /// What it asks for.
    pub wish: Wish,
    /// When it was filed, by our clock.
    #[serde(with = "form::moment")]
    pub filed_at: Timestamp,
    /// When it lapses, by the target's clock.
    #[serde(with = "form::moment")]
    pub expires_at: Timestamp,
}

/// See [`Stage::AwaitSubmitted`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AwaitSubmitted {
    /// The two ends.
    pub link: Link,
    /// What is being asked.
    pub wish: Wish,
    /// What the operator wants asked after that. A wish whose answer is outstanding is never
    /// replaced: the target may have filed it.
    pub next: Option<Wish>,
    /// The request as it was filed before, when this one changes it.
    pub filed: Option<Filed>,
}

/// See [`Stage::AwaitDecision`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AwaitDecision {
    /// The two ends.
    pub link: Link,
    /// The request.
    pub filed: Filed,
    /// Whether the target did not know the request early, so that row 45 is asked under which id it
    /// goes.
    pub is_doubted: bool,
}

/// See [`Stage::AwaitArtifacts`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AwaitArtifacts {
    /// The two ends.
    pub link: Link,
    /// The request.
    pub filed: Filed,
    /// What the decision announced.
    pub acceptance: Acceptance,
    /// Whether the clocks were compared and found near enough since the last pause.
    pub are_clocks_near: bool,
}

/// See [`Stage::AwaitInstalled`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AwaitInstalled {
    /// What a restart goes back to.
    pub accepted: AwaitArtifacts,
    /// What is put in place.
    pub artifacts: Box<Artifacts>,
}

/// An installed certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Its key.
    pub key: PublicKey,
    /// The request it came from.
    #[serde(with = "form::request_id")]
    pub request: RequestId,
    /// Its first moment.
    #[serde(with = "form::moment")]
    pub not_before: Timestamp,
    /// Its last moment.
    #[serde(with = "form::moment")]
    pub not_after: Timestamp,
    /// When it is renewed, by the target's clock: at two thirds of its life and a little later.
    #[serde(with = "form::moment")]
    pub renew_at: Timestamp,
}

/// See [`Stage::Active`] and [`Stage::AwaitFirstSync`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Active {
    /// The two ends; the key is that of the identity in use.
    pub link: Link,
    /// The identity in use.
    pub identity: Identity,
    /// A renewal under way.
    pub renewal: Option<Renewal>,
    /// Whether the target no longer takes the key in use, so that all hope is in the renewal.
    pub is_key_refused: bool,
    /// Whether the call under way is row 45 with the key in use, and not a step of the renewal.
    pub is_syncing: bool,
}

impl Active {
    /// A pairing with this identity and nothing under way.
    pub(super) const fn new(link: Link, identity: Identity) -> Self {
        Self { link, identity, renewal: None, is_key_refused: false, is_syncing: false }
    }
}

/// How far a renewal has come. Its key is kept until the target has answered a call made with one
/// of the two, so no lost answer can lock the source out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Renewal {
    /// A private key is being made.
    AwaitKey,
    /// Row 44 is due, over the present certificate.
    AwaitSubmitted {
        /// The new key.
        key: PublicKey,
    },
    /// The certificate is being issued.
    AwaitDecision {
        /// The new key.
        key: PublicKey,
        /// The renewal's own request.
        #[serde(with = "form::request_id")]
        request: RequestId,
    },
    /// It is being fetched.
    AwaitArtifacts {
        /// The new key.
        key: PublicKey,
        /// The renewal's own request.
        #[serde(with = "form::request_id")]
        request: RequestId,
        /// What was announced.
        acceptance: Acceptance,
    },
    /// It is being put in place. Never kept.
    AwaitInstalled {
        /// The new key.
        key: PublicKey,
        /// The renewal's own request.
        #[serde(with = "form::request_id")]
        request: RequestId,
        /// What a restart fetches again.
        acceptance: Acceptance,
        /// What is put in place.
        artifacts: Box<Artifacts>,
    },
    /// Installed; the first call with it retires the old key.
    AwaitFirstUse(Identity),
}

impl Renewal {
    /// The new key, once it is made.
    #[must_use]
    pub fn key(&self) -> Option<&PublicKey> {
        match self {
            Self::AwaitKey => None,
            Self::AwaitSubmitted { key }
            | Self::AwaitDecision { key, .. }
            | Self::AwaitArtifacts { key, .. }
            | Self::AwaitInstalled { key, .. } => Some(key),
            Self::AwaitFirstUse(identity) => Some(&identity.key),
        }
    }
}

/// See [`Stage::AwaitForgotten`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AwaitForgotten {
    /// The two ends.
    pub link: Link,
    /// The certificate to show.
    pub shown: super::words::Shown,
    /// Another key of ours that the target may know instead: that of a renewal under way.
    pub other_key: Option<PublicKey>,
    /// Whether the target shall delete the points too.
    pub delete_points: bool,
}

/// See [`Stage::Rejected`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rejected {
    /// The two ends.
    pub link: Link,
    /// The operator's words, exactly as typed.
    pub message: String,
}

/// See [`Stage::Refused`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// The key made in vain.
    pub key: PublicKey,
    /// Where the target is.
    pub target: String,
    /// The stable word.
    pub code: ErrorCode,
    /// Its sentence.
    pub message: String,
}

/// See [`Stage::Alarmed`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alarmed {
    /// The stage it was raised in.
    pub before: Box<Stage>,
    /// Why.
    pub cause: Cause,
}

/// See [`Stage::Ended`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// The stage in which the target said that it has ended, kept with its keys until the operator
    /// clears them away: the target may have been mistaken. `None` when this side has left.
    pub before: Option<Box<Stage>>,
}

impl Stage {
    /// The stage's name.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Unpaired => "Unpaired",
            Self::AwaitKey(_) => "AwaitKey",
            Self::AwaitMeeting(_) => "AwaitMeeting",
            Self::AwaitSubmitted(_) => "AwaitSubmitted",
            Self::AwaitDecision(_) => "AwaitDecision",
            Self::AwaitArtifacts(_) => "AwaitArtifacts",
            Self::AwaitInstalled(_) => "AwaitInstalled",
            Self::AwaitFirstSync(_) => "AwaitFirstSync",
            Self::Active(_) => "Active",
            Self::AwaitForgotten(_) => "AwaitForgotten",
            Self::Rejected(_) => "Rejected",
            Self::Refused(_) => "Refused",
            Self::Expired(_) => "Expired",
            Self::Alarmed(_) => "Alarmed",
            Self::Withdrawn => "Withdrawn",
            Self::Ended(_) => "Ended",
        }
    }

    /// The keys this stage needs; every other private key may be removed.
    #[must_use]
    pub fn keys(&self) -> Vec<&PublicKey> {
        match self {
            Self::Unpaired | Self::AwaitKey(_) | Self::Withdrawn => Vec::new(),
            Self::AwaitMeeting(AwaitMeeting { key, .. }) | Self::Refused(Refused { key, .. }) => {
                vec![key]
            }
            Self::AwaitSubmitted(AwaitSubmitted { link, .. })
            | Self::AwaitDecision(AwaitDecision { link, .. })
            | Self::AwaitArtifacts(AwaitArtifacts { link, .. })
            | Self::AwaitInstalled(AwaitInstalled {
                accepted: AwaitArtifacts { link, .. }, ..
            })
            | Self::Rejected(Rejected { link, .. })
            | Self::Expired(link) => vec![&link.key],
            Self::AwaitFirstSync(active) | Self::Active(active) => {
                let renewed = active.renewal.as_ref().and_then(Renewal::key);
                std::iter::once(&active.link.key).chain(renewed).collect()
            }
            Self::AwaitForgotten(note) => {
                std::iter::once(&note.link.key).chain(&note.other_key).collect()
            }
            Self::Alarmed(alarmed) => alarmed.before.keys(),
            Self::Ended(ended) => ended.before.as_ref().map_or_else(Vec::new, |stage| stage.keys()),
        }
    }

    /// The two ends, from the first meeting on.
    #[must_use]
    pub fn link(&self) -> Option<&Link> {
        match self {
            Self::AwaitSubmitted(AwaitSubmitted { link, .. })
            | Self::AwaitDecision(AwaitDecision { link, .. })
            | Self::AwaitArtifacts(AwaitArtifacts { link, .. })
            | Self::AwaitInstalled(AwaitInstalled {
                accepted: AwaitArtifacts { link, .. }, ..
            })
            | Self::AwaitFirstSync(Active { link, .. })
            | Self::Active(Active { link, .. })
            | Self::AwaitForgotten(AwaitForgotten { link, .. })
            | Self::Rejected(Rejected { link, .. })
            | Self::Expired(link) => Some(link),
            Self::Alarmed(alarmed) => alarmed.before.link(),
            Self::Unpaired
            | Self::AwaitKey(_)
            | Self::AwaitMeeting(_)
            | Self::Refused(_)
            | Self::Withdrawn
            | Self::Ended(_) => None,
        }
    }

    /// The code to read to the target's operator, while he has to decide.
    #[must_use]
    pub fn check_code(&self) -> Option<CheckCode> {
        match self {
            Self::AwaitDecision(AwaitDecision { link, filed, .. })
            | Self::AwaitSubmitted(AwaitSubmitted { link, filed: Some(filed), .. }) => {
                Some(link.check_code(filed.request))
            }
            _ => None,
        }
    }
}

impl Link {
    /// The check code of a request, over the key the handshake proved, never over one that was
    /// said.
    #[must_use]
    pub fn check_code(&self, request: RequestId) -> CheckCode {
        CheckCode::of(self.target_key.as_der(), self.key.as_der(), request)
    }
}
