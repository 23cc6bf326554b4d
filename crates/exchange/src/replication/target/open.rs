//! Row 56: may this image be transferred, and from where does it go on.

use offsite_model::Digest;
use offsite_proto::error::{ErrorCode, Refusal};
use offsite_proto::session::ImageType;

use super::words::Stage;
use super::{Session, Spec};

/// What the target has of the image's parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParentStanding {
    /// It is committed, with this digest.
    Committed(Digest),
    /// A live session transfers it, announced under this digest.
    Transferring(Digest),
    /// It is here and waits for its own parent, with this digest.
    Orphaned(Digest),
    /// It is not here.
    Absent,
}

/// The facts that row 56 is judged by; the driver gathers them under the lock that it makes the
/// session under.
#[derive(Clone, Copy, Debug)]
pub struct Standing<'a> {
    /// Whether the agent is one of the caller's that may replicate.
    pub is_agent_known: bool,
    /// Whether the target's operator paused it.
    pub is_paused: bool,
    /// Whether there is room.
    pub has_space: bool,
    /// Whether the repository can be written.
    pub is_available: bool,
    /// The parent; of no account for a base image.
    pub parent: ParentStanding,
    /// Digest of a committed image of this volume and epoch.
    pub committed: Option<Digest>,
    /// The session of this volume and epoch, live or over.
    pub session: Option<&'a Session>,
    /// The announcement of a draft of this volume and epoch that no session holds.
    pub draft: Option<&'a Spec>,
}

/// How row 56 goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opening {
    /// The live session, told `Reopened`; 200, `resumed: true`.
    Live,
    /// A new session that goes on from the draft: it is synced with its segments, then its entries
    /// go to [`Session::restore`]; 201, `resumed: true`.
    FromDraft,
    /// A new session; whatever draft there was is dropped. 201, `resumed: false`.
    Fresh,
    /// The image is committed: [`Session::committed`]; 200.
    Committed,
}

/// Judges row 56.
///
/// # Errors
/// The refusal to answer.
pub fn decide(wish: &Spec, standing: &Standing<'_>) -> Result<Opening, Refusal> {
    let refuse = |code, message: &str| Err(Refusal::new(code, message));
    if !standing.is_agent_known {
        return refuse(ErrorCode::AgentUnknown, "there is no such agent");
    }
    if wish.is_heal() {
        if standing.committed != Some(wish.digest()) {
            return refuse(ErrorCode::ImageUnknown, "there is no such image");
        }
    } else if let Some(digest) = standing.committed {
        return if digest == wish.digest() {
            Ok(Opening::Committed)
        } else {
            refuse(ErrorCode::AlreadyExists, "this epoch of the volume has another content here")
        };
    }
    if standing.is_paused {
        return refuse(ErrorCode::ReplicationPaused, "the target's operator paused this agent");
    }
    if !standing.is_available {
        return refuse(ErrorCode::RepositoryUnavailable, "the repository cannot be written now");
    }
    if wish.open().image_type == ImageType::Incremental {
        check_parent(wish, standing.parent)?;
    }
    if let Some(session) = standing.session {
        let same = session.spec().is_same_image(wish);
        match session.stage() {
            Stage::Open | Stage::Transferring | Stage::Committing if same => {
                return Ok(Opening::Live);
            }
            Stage::Open | Stage::Transferring | Stage::Committing => {
                return refuse(
                    ErrorCode::AlreadyExists,
                    "a session for another content of this epoch is open",
                );
            }
            stage => {
                // What is healed is little, and its ordinals are no list of their own.
                let goes_on = same && stage.leaves_draft() && !wish.is_heal();
                return with_space(
                    standing,
                    if goes_on { Opening::FromDraft } else { Opening::Fresh },
                );
            }
        }
    }
    let goes_on = standing.draft.is_some_and(|draft| draft.is_same_image(wish) && !wish.is_heal());
    with_space(standing, if goes_on { Opening::FromDraft } else { Opening::Fresh })
}

fn with_space(standing: &Standing<'_>, opening: Opening) -> Result<Opening, Refusal> {
    if standing.has_space {
        Ok(opening)
    } else {
        Err(Refusal::new(ErrorCode::NoSpace, "the target has no room for this"))
    }
}

fn check_parent(wish: &Spec, parent: ParentStanding) -> Result<(), Refusal> {
    let digest = wish.open().parent_image_digest.map(|digest| digest.0);
    match parent {
        ParentStanding::Orphaned(_) if !wish.open().allow_orphan => Err(Refusal::new(
            ErrorCode::BaseMissing,
            "the image's parent waits on the target for its own parent",
        )),
        ParentStanding::Committed(have)
        | ParentStanding::Transferring(have)
        | ParentStanding::Orphaned(have) => {
            if digest == Some(have) {
                return Ok(());
            }
            Err(Refusal::new(ErrorCode::BaseMissing, "the parent here has another content"))
        }
        ParentStanding::Absent if wish.open().allow_orphan => Ok(()),
        ParentStanding::Absent => {
            Err(Refusal::new(ErrorCode::BaseMissing, "the image's parent is not on the target"))
        }
    }
}
