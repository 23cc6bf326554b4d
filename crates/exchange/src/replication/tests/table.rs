//! What a session allows, state by state: the table of the protocol, cell by cell.

use offsite_model::{SessionId, Span};
use offsite_proto::window::ListEntry;
use offsite_testkit::expect;

use super::storm::{Plan, target_rules};
use super::world::World;
use crate::replication::target::{CommitFault, Effect, Input, Session, Spec};

fn complete() -> (Session, Vec<ListEntry>) {
    let world = World::new(Plan { n_records: 6, ..Plan::calm(1) });
    let image = &world.images[0];
    let list: Vec<ListEntry> = image.list.iter().map(|listed| listed.entry).collect();
    let spec = Spec::check(image.open.clone()).unwrap();
    let mut session =
        Session::new(SessionId::from_bytes([1; 16]), spec, target_rules(), Span::ZERO);
    let keys = Input::Keys { window: 0, first_ordinal: 0, entries: list.clone() };
    for effect in session.step(keys, Span::ZERO) {
        let Effect::LookUp { ticket, keys } = effect else { continue };
        let held = vec![true; keys.len()];
        for effect in session.step(Input::LookedUp { ticket, held }, Span::ZERO) {
            let Effect::WriteDraft { ticket, .. } = effect else { continue };
            session.step(Input::DraftWritten { ticket }, Span::ZERO);
        }
    }
    (session, list)
}

fn answer(effects: &[Effect]) -> String {
    let told = effects.iter().find_map(|effect| match effect {
        Effect::Answer(Ok(ending)) => Some(format!("{ending:?}")),
        Effect::Answer(Err(refusal)) | Effect::Fail(refusal) => Some(refusal.code.to_string()),
        _ => None,
    });
    told.unwrap_or_else(|| "taken".into())
}

fn row(name: &str, session: &Session, list: &[ListEntry]) -> String {
    let later = Span::from_secs(1);
    let try_it = |input: Input| answer(&session.clone().step(input, later));
    let data = try_it(Input::Keys { window: 1, first_ordinal: 0, entries: list.to_vec() });
    let bitmap = session.transferred().map_or_else(|r| r.code.to_string(), |_| "bitmap".into());
    let poke = session.poke().map_or_else(|r| r.code.to_string(), |done| done.to_string());
    let (commit, abort) = (Input::End { commit: true }, Input::End { commit: false });
    format!("{name}: {data} | {bitmap} | {} | {} | {poke}", try_it(commit), try_it(abort))
}

#[test]
fn e_11_every_state_answers_by_the_table() {
    let world = World::new(Plan { n_records: 6, ..Plan::calm(1) });
    let spec = Spec::check(world.images[0].open.clone()).unwrap();
    let id = SessionId::from_bytes([1; 16]);
    let open = Session::new(id, spec, target_rules(), Span::ZERO);
    let (transferring, list) = complete();
    let after = |from: &Session, inputs: Vec<Input>, at: Span| {
        let mut session = from.clone();
        for input in inputs {
            session.step(input, at);
        }
        session
    };
    let (commit, abort) = (Input::End { commit: true }, Input::End { commit: false });
    let soon = Span::from_secs(1);
    let committing = after(&transferring, vec![commit], soon);
    let committed = after(&committing, vec![Input::Stored(Ok(()))], soon);
    let failed = after(&committing, vec![Input::Stored(Err(CommitFault::LeaseLost))], soon);
    let aborted = after(&transferring, vec![abort], soon);
    let expired = after(&transferring, vec![Input::Tick], Span::from_hours(2));
    let rows = [
        "state: rows 5, 6 | row 52 | commit=true | commit=false | row 47".to_owned(),
        row("Open", &open, &list),
        row("Transferring", &transferring, &list),
        row("Committing", &committing, &list),
        row("Committed", &committed, &list),
        row("Aborted", &aborted, &list),
        row("Expired", &expired, &list),
        row("Failed", &failed, &list),
    ];
    expect![["
        state: rows 5, 6 | row 52 | commit=true | commit=false | row 47
        Open: taken | bitmap | incomplete | Done | wrong_state
        Transferring: taken | bitmap | Running | Done | wrong_state
        Committing: wrong_state | bitmap | Running | wrong_state | false
        Committed: wrong_state | bitmap | Done | wrong_state | true
        Aborted: wrong_state | session_unknown | wrong_state | Done | wrong_state
        Expired: session_expired | session_expired | session_expired | Done | session_expired
        Failed: lease_lost | bitmap | lease_lost | Done | lease_lost
    "]]
    .assert_eq(&rows.join("\n"));
}
