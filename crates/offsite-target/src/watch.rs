//! Following work of the daemon to its end: a bar for people, a line each time for scripts.

use offsite_proto::admin::protection::{EVENT_BYTES_MAX, Event, Progress};
use offsite_proto::endpoint::{Params, Row};
use offsite_proto::json::from_slice;
use offsite_terminal::{Bar, Failure, seconds, size};
use serde::de::DeserializeOwned;

use crate::context::{Context, ended_early};
use crate::exit::refused;

/// Has the daemon do something that takes long; what came of it.
pub(crate) async fn follow<T: DeserializeOwned>(
    context: &Context,
    row: &Row,
    params: &impl Params,
) -> Result<T, Failure> {
    let mut answer = context.ask_stream(row, params).await?;
    let bar = context.out.bar(0);
    let mut pending = Vec::new();
    let cut = |refusal: offsite_proto::error::Refusal| ended_early(&refusal.message);
    while let Some(piece) = answer.body.next().await.map_err(cut)? {
        pending.extend_from_slice(&piece);
        if pending.len() > EVENT_BYTES_MAX {
            return Err(Failure::failed("the daemon's answer is too long"));
        }
        while let Some(end) = pending.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = pending.drain(..=end).collect();
            match from_slice::<Event<T>>(&line).map_err(refused)? {
                Event::Progress(progress) if context.out.json => context.out.step(&progress)?,
                Event::Progress(progress) => show(&bar, &progress),
                Event::Done(value) => return Ok(value),
                Event::Failed(refusal) => return Err(refused(refusal)),
            }
        }
    }
    Err(ended_early(&"its answer was cut"))
}

fn show(bar: &Bar, progress: &Progress) {
    bar.at(progress.bytes_done.0, progress.bytes_total.0);
    let mut text = progress.phase.clone();
    if progress.bytes_per_second.0 > 0 {
        text = format!("{text}, {}/s", size(progress.bytes_per_second.0));
    }
    if let Some(left) = progress.eta_seconds {
        text = format!("{text}, {} left", seconds(left));
    }
    bar.say(&text);
}
