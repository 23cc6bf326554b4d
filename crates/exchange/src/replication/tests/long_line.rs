//! What saves round trips over a long line: small windows first, and a commit that is answered with
//! its outcome.

use offsite_model::{Key, SessionId};
use offsite_proto::session::SessionState;
use offsite_proto::window::ListEntry;

use crate::replication::Runs;
use crate::replication::source::{Call, Effect, Given, Input, Listed, Outcome, Rules, Transfer};

const RECORD: u32 = 4_096;
const GIVEN: Given = Given {
    session: SessionId::from_bytes([7; 16]),
    state: SessionState::Open,
    is_resumed: false,
    window_keys: 2_048,
    windows_in_flight: 4,
    streams_max: 1,
    credit: 1 << 20,
};

/// A transfer whose session was just opened, and what it does first.
fn opened(n_entries: u64) -> (Transfer, Vec<Effect>) {
    let mut transfer = Transfer::new(RECORD, n_entries, Runs::new(), Rules::default());
    transfer.step(Input::Start);
    let effects = transfer.step(Input::Opened(Ok(GIVEN)));
    (transfer, effects)
}

/// What of the list is to be read.
fn reading(effects: &[Effect]) -> Option<(u64, u64)> {
    effects.iter().find_map(|effect| match effect {
        Effect::Read { first_ordinal, n_entries, .. } => Some((*first_ordinal, *n_entries)),
        _ => None,
    })
}

fn entries(first: u64, n: u64) -> Vec<Listed> {
    let entry = |ordinal: u64| {
        let key = Key::of(&ordinal.to_le_bytes());
        ListEntry::record(ordinal * u64::from(RECORD), RECORD, key)
    };
    (first..first + n).map(|ordinal| Listed { entry: entry(ordinal), place: None }).collect()
}

#[test]
fn the_first_windows_are_small_and_grow_to_what_the_target_takes() {
    let (mut transfer, mut effects) = opened(100_000);
    let mut sizes = Vec::new();
    while let Some((first, n)) = reading(&effects) {
        sizes.push(n);
        let opening = transfer.opening();
        effects = transfer.step(Input::Listed { opening, entries: entries(first, n) });
    }
    // Four are on their way; two more wait to be sent.
    assert_eq!(sizes, [256, 256, 512, 1_024, 2_048, 2_048]);
}

#[test]
fn a_commit_that_is_done_at_once_is_not_asked_for() {
    let committing = || {
        let (mut transfer, _) = opened(0);
        let effects = transfer.step(Input::MayCommit);
        assert_eq!(effects, [Effect::Call(Call::BeginCommit)]);
        transfer
    };
    let done = committing().step(Input::CommitBegun(Ok(true)));
    assert_eq!(done, [Effect::End(Outcome::Committed)]);
    let runs = committing().step(Input::CommitBegun(Ok(false)));
    assert_eq!(runs, [Effect::Call(Call::Poke(Rules::default().poke_wait_secs))]);
}
