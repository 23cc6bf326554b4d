//! What the driver tells a session, and what the session asks of the driver.

use offsite_model::{Key, Span};
use offsite_proto::error::{ErrorCode, Refusal};
use offsite_proto::group::GroupEntry;
use offsite_proto::session::SessionState;
use offsite_proto::stream::Flushed;
use offsite_proto::window::{ListEntry, Wanted};

/// The limits of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Keys of a window.
    pub window_keys: u32,
    /// Windows that may be undecided at once.
    pub windows_in_flight: u32,
    /// Payload bytes that may be under way or in memory.
    pub credit_bytes: u64,
    /// Record streams at once.
    pub parallel_streams_max: u32,
    /// Staged bytes at which a barrier is due.
    pub barrier_bytes: u64,
    /// Staged bytes behind a barrier that is under way at which no more is granted. With the
    /// barrier's and those on the way they are what a crash costs: one barrier and 64 MiB.
    pub behind_bytes: u64,
    /// Time after which a barrier is due.
    pub barrier_after: Span,
    /// Idle time after which the session expires.
    pub idle: Span,
    /// Records owed above which windows wait for their answer.
    pub owed_keys_max: usize,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            window_keys: 8_192,
            windows_in_flight: 4,
            credit_bytes: 16 << 20,
            parallel_streams_max: 16,
            barrier_bytes: 256 << 20,
            behind_bytes: 32 << 20,
            barrier_after: Span::from_secs(10),
            idle: Span::from_hours(24),
            owed_keys_max: 192 << 10,
        }
    }
}

/// An entry of a draft, and whether the store holds its record now.
#[derive(Clone, Copy, Debug)]
pub struct Known {
    /// The entry.
    pub entry: ListEntry,
    /// Whether the record can be found, whole and checked. Of no account for zeros.
    pub is_held: bool,
}

/// What happened.
#[derive(Clone, Debug)]
pub enum Input {
    /// Row 56 named this session again.
    Reopened,
    /// A KEYS frame arrived.
    Keys {
        /// Its number, for the answer.
        window: u32,
        /// Ordinal of the first entry.
        first_ordinal: u64,
        /// The entries.
        entries: Vec<ListEntry>,
    },
    /// The store was asked.
    LookedUp {
        /// From the effect.
        ticket: u64,
        /// Per key whether the caller's tenant has it under the session's encryption key. Never
        /// from a filter alone.
        held: Vec<bool>,
    },
    /// The draft was written and, with everything before it, is durable.
    DraftWritten {
        /// From the effect.
        ticket: u64,
    },
    /// An entry that the draft knows was offered with other content.
    DraftDiffers {
        /// The entry.
        ordinal: u64,
    },
    /// A group arrived; header and table are in bounds.
    Group {
        /// Its table.
        table: Vec<GroupEntry>,
        /// Its flag.
        is_encrypted: bool,
        /// Bytes of header, table and payload: what counts against the credit.
        bytes: u64,
    },
    /// A group was decoded, checked and appended, or not.
    Staged {
        /// From the effect.
        group: u64,
        /// What came of it.
        outcome: Result<(), StageFault>,
    },
    /// A barrier is done: whatever was staged and drafted before it is durable.
    Flushed {
        /// From the effect.
        number: u64,
    },
    /// Row 7 or 57.
    End {
        /// Commit or abort.
        commit: bool,
    },
    /// What was asked for cannot be written or made durable; nothing that waits for it comes.
    NotKept(CommitFault),
    /// The commit is over.
    Stored(Result<(), CommitFault>),
    /// Time has passed.
    Tick,
}

/// Why a group was not staged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StageFault {
    /// It does not decode to its table, or a record is not its key's.
    HashMismatch,
    /// The store has other content under this key.
    KeyCollision(Key),
    /// Quota or reserve: the group may come again later.
    NoSpace,
    /// The repository is offline: the group may come again later.
    Unavailable,
    /// The write failed; nothing of this session is believed any more.
    Broken,
}

impl StageFault {
    pub(super) const fn ends_session(&self) -> bool {
        matches!(self, Self::KeyCollision(_) | Self::Broken)
    }

    pub(super) fn refusal(&self, ordinals: &[u64]) -> Refusal {
        match self {
            Self::HashMismatch => {
                Refusal::new(ErrorCode::HashMismatch, "a group does not hold what its table says")
                    .with("ordinals", ordinals.to_vec())
            }
            Self::KeyCollision(key) => {
                Refusal::new(ErrorCode::KeyCollision, "another content is stored under this key")
                    .with("key", key.to_string())
            }
            Self::NoSpace => Refusal::new(ErrorCode::NoSpace, "the target has no room for this"),
            Self::Unavailable => Refusal::new(
                ErrorCode::RepositoryUnavailable,
                "the target's repository cannot be written now",
            )
            .after(30),
            Self::Broken => {
                Refusal::new(ErrorCode::Internal, "the target could not write to its store")
            }
        }
    }
}

/// Why a commit did not come about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommitFault {
    /// The list as stored has another digest.
    HashMismatch,
    /// The list breaks a rule that only the whole of it shows, or its parent's.
    BadList,
    /// A record was never stored by this tenant.
    UnknownRecord,
    /// A record that was held is gone, or another writer took over.
    LeaseLost,
    /// The parent is not there, or is another one.
    BaseMissing,
    /// The point is there with other content.
    AlreadyExists,
    /// Quota or reserve.
    NoSpace,
    /// The repository is offline.
    Unavailable,
    /// Our own failure; whether the commit exists is found out by asking again under the token.
    Broken,
}

impl CommitFault {
    pub(super) fn refusal(self) -> Refusal {
        let (code, message) = match self {
            Self::HashMismatch => {
                (ErrorCode::HashMismatch, "the image as stored has another digest")
            }
            Self::BadList => (
                ErrorCode::BadRequest,
                "the list leaves out a position that its parent does not have, or cuts one wrongly",
            ),
            Self::UnknownRecord => (ErrorCode::UnknownRecord, "the image names an unknown record"),
            Self::LeaseLost => {
                (ErrorCode::LeaseLost, "a record that was held is gone; open the image again")
            }
            Self::BaseMissing => {
                (ErrorCode::BaseMissing, "the image's parent is not on the target")
            }
            Self::AlreadyExists => {
                (ErrorCode::AlreadyExists, "the recovery point is here with another content")
            }
            Self::NoSpace => (ErrorCode::NoSpace, "the target has no room for this"),
            Self::Unavailable => {
                (ErrorCode::RepositoryUnavailable, "the target's repository cannot be written now")
            }
            Self::Broken => (ErrorCode::Internal, "the target could not keep the image"),
        };
        Refusal::new(code, message)
    }
}

/// What must be done, in the order of the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Ask the store for these keys, within the caller's tenant and the session's encryption key;
    /// then `LookedUp`.
    LookUp {
        /// To be given back.
        ticket: u64,
        /// The keys, in the window's order, zeros left out.
        keys: Vec<Key>,
    },
    /// Append a window to the draft: its entries, and a hold on each record that is neither zero
    /// nor wanted. The first
    /// `n_known` are in the draft already: they are compared (`DraftDiffers`) and not appended, but
    /// held again.
    WriteDraft {
        /// To be given back.
        ticket: u64,
        /// Ordinal of the first entry.
        first_ordinal: u64,
        /// How many entries the draft has already.
        n_known: u64,
        /// The entries.
        entries: Vec<ListEntry>,
        /// Per entry whether it is wanted.
        wanted: Vec<bool>,
        /// Whether `DraftWritten` must be told once it is durable. Otherwise the next barrier is
        /// soon enough.
        is_awaited: bool,
    },
    /// Send this on the stream of row 5.
    Reply(Wanted),
    /// Send this credit on all streams.
    Grant(u64),
    /// Decode the group that was just told, check every key, append it; then `Staged`.
    Stage {
        /// To be given back.
        group: u64,
    },
    /// Sync segments and draft; then `Flushed`.
    Barrier {
        /// To be given back.
        number: u64,
    },
    /// Send this on the streams of row 6.
    Flushed(Flushed),
    /// End the stream this input came on with FAIL (or, before any answer, with the error).
    Fail(Refusal),
    /// End all streams of the session: row 56 was asked again, or it is over.
    EndStreams,
    /// Answer row 7 or 57.
    Answer(Result<Ending, Refusal>),
    /// Commit in the order of D-01: recompute the list digest from what is stored, check every
    /// reference, make durable, publish; then `Stored`. The outcome is kept under token and digest.
    Commit,
    /// Drop staged records and draft: nobody will ask again.
    DropStaging,
    /// Free memory, segment writers and the place among live sessions; draft and staged records
    /// stay for row 8.
    Suspend,
}

/// How rows 7 and 57 are answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The commit runs: 202 for row 57; row 7 waits until [`super::Session::poke`] says otherwise.
    Running,
    /// It is over: 202 for row 57, 204 for row 7.
    Done,
}

/// Where a session stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Opened, nothing offered.
    Open,
    /// Keys were offered.
    Transferring,
    /// The commit runs.
    Committing,
    /// Committed.
    Committed,
    /// Ended without commit.
    Aborted,
    /// Idle for too long.
    Expired,
    /// Ended by an error.
    Failed(Refusal),
}

impl Stage {
    /// As row 56 says it.
    #[must_use]
    pub const fn state(&self) -> SessionState {
        match self {
            Self::Open => SessionState::Open,
            Self::Transferring => SessionState::Transferring,
            Self::Committing => SessionState::Committing,
            Self::Committed => SessionState::Committed,
            Self::Aborted => SessionState::Aborted,
            Self::Expired => SessionState::Expired,
            Self::Failed(_) => SessionState::Failed,
        }
    }

    /// Whether data may still come.
    #[must_use]
    pub const fn is_live(&self) -> bool {
        matches!(self, Self::Open | Self::Transferring)
    }

    /// Whether a new session of the same image may go on from this one's draft.
    #[must_use]
    pub const fn leaves_draft(&self) -> bool {
        match self {
            Self::Open | Self::Transferring | Self::Committing | Self::Expired => true,
            Self::Committed | Self::Aborted => false,
            Self::Failed(refusal) => matches!(
                refusal.code,
                ErrorCode::LeaseLost
                    | ErrorCode::NoSpace
                    | ErrorCode::BaseMissing
                    | ErrorCode::RepositoryUnavailable
                    | ErrorCode::Internal
            ),
        }
    }

    /// Rows 5 and 6.
    pub(super) fn takes_data(&self) -> Result<(), Refusal> {
        match self {
            Self::Open | Self::Transferring => Ok(()),
            Self::Committing | Self::Committed | Self::Aborted => Err(Refusal::new(
                ErrorCode::WrongState,
                "the session takes no data any more: it was committed or aborted",
            )),
            Self::Expired => Err(expired()),
            Self::Failed(refusal) => Err(refusal.clone()),
        }
    }
}

pub(super) fn expired() -> Refusal {
    Refusal::new(
        ErrorCode::SessionExpired,
        "the session was idle for too long; open the image again",
    )
}
