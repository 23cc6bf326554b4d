//! Long work that answers with a stream of what becomes of it, about twice a second. Whoever hangs
//! up is told no more, and the work goes on to its end.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::HeaderValue;
use offsite_model::Span;
use offsite_proto::admin::protection::{EVENTS_MEDIA, Event as Line, Progress};
use offsite_proto::endpoint::Body as _;
use offsite_proto::error::{ErrorCode, Refusal};
use offsite_proto::json::Json;
use offsite_proto::text::Big;
use offsite_transport::{Outgoing, RawCall, RawReply, Reply};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::Target;
use crate::principal::Principal;

/// The time between two lines of progress.
const TELL_EVERY: Duration = Duration::from_millis(500);

/// How far work is, written by who does it.
#[derive(Default)]
pub(super) struct Shown {
    phase: Mutex<&'static str>,
    done: AtomicU64,
    total: AtomicU64,
}

impl Shown {
    pub(super) fn show(&self, phase: &'static str, done: u64, total: u64) {
        *self.phase.lock().unwrap_or_else(PoisonError::into_inner) = phase;
        self.done.store(done, Ordering::Relaxed);
        self.total.store(total, Ordering::Relaxed);
    }

    fn line(&self, now: Span, began: Span) -> Progress {
        let micros = now.as_micros().saturating_sub(began.as_micros());
        let (done, total) = (self.done.load(Ordering::Relaxed), self.total.load(Ordering::Relaxed));
        let rate = u128::from(done).saturating_mul(1_000_000).checked_div(u128::from(micros));
        let rate = u64::try_from(rate.unwrap_or(0)).unwrap_or(u64::MAX);
        Progress {
            phase: (*self.phase.lock().unwrap_or_else(PoisonError::into_inner)).to_owned(),
            volume: None,
            bytes_done: Big(done),
            bytes_total: Big(total),
            bytes_per_second: Big(rate),
            eta_seconds: total.saturating_sub(done).checked_div(rate),
        }
    }
}

/// Begins work that blocks, and answers with what becomes of it.
pub(super) fn told_as_it_goes<T: Serialize + DeserializeOwned + Send + 'static>(
    target: Arc<Target>,
    call: &RawCall<Principal>,
    work: impl FnOnce(&Shown) -> Result<T, Refusal> + Send + 'static,
) -> RawReply {
    let (sender, body) = Outgoing::stream();
    let shown = Arc::new(Shown::default());
    let told = Arc::clone(&shown);
    let mut work = tokio::task::spawn_blocking(move || work(&told));
    drop(call.mutations.spawn(async move {
        let clock = &target.world().clock;
        let began = clock.uptime();
        let last: Line<T> = loop {
            tokio::select! {
                ended = &mut work => break match ended {
                    Ok(Ok(done)) => Line::Done(done),
                    Ok(Err(refusal)) => Line::Failed(refusal),
                    Err(cause) => {
                        tracing::error!(%cause, "long work failed");
                        Line::Failed(Refusal::new(ErrorCode::Internal, "it failed on our side"))
                    }
                },
                () = tokio::time::sleep(TELL_EVERY) => {
                    let line = Line::<T>::Progress(shown.line(clock.uptime(), began));
                    sender.send(written(line)).await.ok();
                }
            }
        };
        sender.send(written(last)).await.ok();
        sender.finish().await.ok();
    }));
    RawReply { reply: Reply::new(body), media: Some(HeaderValue::from_static(EVENTS_MEDIA)) }
}

fn written<T: Serialize + DeserializeOwned + Send + 'static>(
    line: Line<T>,
) -> offsite_transport::Bytes {
    let mut bytes = Json(line).encode();
    bytes.push(b'\n');
    bytes.into()
}
