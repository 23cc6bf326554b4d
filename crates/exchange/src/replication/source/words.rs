//! What the driver tells a transfer, and what the transfer asks of the driver.

use offsite_model::SessionId;
use offsite_proto::error::Refusal;
use offsite_proto::session::SessionState;
use offsite_proto::stream::Flushed;
use offsite_proto::window::{ListEntry, Wanted};

use super::parcels::{Listed, Parcel};
use crate::replication::Runs;

/// The limits of a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Bytes of one request body; then it is ended and the next one opened.
    pub transfer_bytes_max: u64,
    /// Attempts in a row that bring nothing; then the image is left for another job.
    pub attempts_max: u32,
    /// Raw bytes of a group made anew.
    pub part_bytes: u64,
    /// Records of a group made anew.
    pub part_records: usize,
    /// Bytes that may wait to be sent; the next window is not offered before they are fewer.
    pub queued_bytes_max: u64,
    /// Parcels that a stream may have before it, so that it never runs dry.
    pub parcels_ahead: u32,
    /// Known entries between two unknown ones up to which both share a window.
    pub gap_entries: u64,
    /// Seconds that row 47 is asked to wait.
    pub poke_wait_secs: u32,
    /// Keys of the first window. Later ones may have as many as all before them, so that over a
    /// long line the first records go out while most keys are still on their way.
    pub first_window_keys: u64,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            transfer_bytes_max: 1 << 30,
            attempts_max: 5,
            part_bytes: 256 << 10,
            part_records: 256,
            queued_bytes_max: 64 << 20,
            parcels_ahead: 16,
            gap_entries: 64,
            poke_wait_secs: 30,
            first_window_keys: 256,
        }
    }
}

/// A call to make. Its answer is one [`Input`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// Row 56; then `Opened`.
    Open,
    /// Row 52 where a session is known, else (or where that is refused) row 8; then `Transferred`.
    Transferred(Option<SessionId>),
    /// Row 7 with `commit=true`, and where its answer takes long row 57; then `CommitBegun`.
    BeginCommit,
    /// Row 47 with so many seconds; then `Poked`.
    Poke(u32),
    /// Row 7 with `commit=false`; nobody waits for the answer.
    Abort,
}

/// Why a call or stream failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The target said so.
    Refused(Refusal),
    /// Nothing was said, or it cannot be known what became of it.
    Cut,
}

/// What row 56 gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Given {
    /// The session.
    pub session: SessionId,
    /// Where it stands.
    pub state: SessionState,
    /// Whether the bitmap counts.
    pub is_resumed: bool,
    /// Keys of a window, at least 1.
    pub window_keys: u32,
    /// Windows that may be undecided, at least 1.
    pub windows_in_flight: u32,
    /// Record streams at once, at least 1.
    pub streams_max: u32,
    /// Bytes granted.
    pub credit: u64,
}

/// A wish to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// For now: the session stays for resume.
    Pause,
    /// For good: the session is aborted.
    Cancel,
}

/// What happened. Inputs of streams carry the number of the opening they belong to; those of an
/// earlier one are ignored.
#[derive(Clone, Debug)]
pub enum Input {
    /// Begin.
    Start,
    /// Row 56 was answered.
    Opened(Result<Given, Failure>),
    /// Row 52 or 8 was answered: positions that need not be sent. No such image is no failure but
    /// an empty set.
    Transferred(Result<Runs, Failure>),
    /// Entries of the list were read, from an ordinal on; as many as asked for, fewer only at the
    /// end.
    Listed {
        /// The opening of the effect.
        opening: u32,
        /// The entries.
        entries: Vec<Listed>,
    },
    /// Our own store cannot give what was asked for.
    Unreadable {
        /// The sentence for people.
        message: String,
    },
    /// A WANTED frame.
    Wanted {
        /// The opening of the stream.
        opening: u32,
        /// The answer.
        answer: Wanted,
    },
    /// A CREDIT frame, of whatever stream.
    Credit {
        /// The opening of the stream.
        opening: u32,
        /// Bytes granted in total.
        granted: u64,
    },
    /// A FLUSHED frame.
    Flushed {
        /// The opening of the stream.
        opening: u32,
        /// What is durable.
        flushed: Flushed,
    },
    /// A parcel was handed to the line; told once per `Send`, in their order on each stream.
    Sent {
        /// The opening of the effect.
        opening: u32,
        /// The stream.
        stream: u32,
        /// Bytes of the frame's payload, at most those of the parcel.
        bytes: u64,
    },
    /// A stream's answer came to its END.
    Ended {
        /// The opening of the stream.
        opening: u32,
        /// The record stream; `None` for that of the keys.
        stream: Option<u32>,
    },
    /// A stream failed.
    Cut {
        /// The opening of the stream.
        opening: u32,
        /// Why.
        failure: Failure,
    },
    /// The link needs so many record streams: opened only up to what the target allows.
    Streams(u32),
    /// Row 7 or 57 was answered: whether the commit is done already.
    CommitBegun(Result<bool, Failure>),
    /// Row 47 was answered.
    Poked(Result<bool, Failure>),
    /// A rest is over.
    Rested,
    /// The image's parent is committed, or it needs none.
    MayCommit,
    /// Stop at the next safe point.
    Stop(Stop),
}

/// What must be done, in the order of the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Make a call; calls of one list go out together.
    Call(Call),
    /// Open the stream of row 5.
    OpenKeys {
        /// The opening, for what comes of it.
        opening: u32,
    },
    /// Read entries of the list, with their places; then `Listed`.
    Read {
        /// The opening, to be given back.
        opening: u32,
        /// The first.
        first_ordinal: u64,
        /// How many.
        n_entries: u64,
    },
    /// Send a KEYS frame.
    SendKeys {
        /// Its number.
        window: u32,
        /// Ordinal of the first entry.
        first_ordinal: u64,
        /// The entries.
        entries: Vec<ListEntry>,
    },
    /// End the stream of row 5; its answer ends in `Ended`. With `reopen` the next one is opened at
    /// once.
    EndKeys {
        /// Whether more keys follow on another stream.
        reopen: bool,
    },
    /// Open a stream of row 6.
    OpenRecords {
        /// The opening, for what comes of it.
        opening: u32,
        /// Its number.
        stream: u32,
    },
    /// Send a parcel as a RECORDS frame; then `Sent`.
    Send {
        /// The stream.
        stream: u32,
        /// The parcel.
        parcel: Parcel,
    },
    /// End a stream of row 6; its answer ends in `Ended`.
    EndRecords {
        /// The stream.
        stream: u32,
    },
    /// Drop all streams of this transfer, and all calls that were not answered: nothing of them is
    /// told any more.
    DropStreams,
    /// Wait before the next attempt, with full jitter; then `Rested`.
    Rest {
        /// Attempts in a row that brought nothing, from 1.
        n_failed: u32,
        /// The target's advice in seconds.
        retry_after_secs: Option<u32>,
    },
    /// It is over.
    End(Outcome),
}

/// How a transfer ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The image is on the target.
    Committed,
    /// It was stopped.
    Stopped(Stop),
    /// The target refused in a way that trying again does not mend, or too often.
    Refused(Refusal),
    /// The target could not be reached, too often.
    Unreachable,
    /// Our own store failed.
    Unreadable(String),
}

/// How far a transfer has come; totals over all its openings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Entries of the list.
    pub n_entries: u64,
    /// Entries that are decided in this opening, known ones included.
    pub n_decided: u64,
    /// Keys offered.
    pub n_offered: u64,
    /// Records wanted.
    pub n_wanted: u64,
    /// Bytes of RECORDS payloads handed to the line.
    pub bytes_sent: u64,
    /// Bytes that the target says are durable, of this opening's session.
    pub bytes_flushed: u64,
    /// Openings.
    pub n_openings: u32,
}
