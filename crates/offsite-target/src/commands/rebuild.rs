//! `rebuild`: the store's catalog and index made again, while no daemon has the data directory.

use std::path::Path;
use std::sync::Arc;

use offsite_daemon::{DataDir, SystemClock, SystemFiles};
use offsite_model::{Clock, FileSystem, Span};
use offsite_proto::admin::upkeep::Rebuilt;
use offsite_target_core::content::refusal;
use offsite_terminal::{Bar, Exit, Failure, size};
use offsite_upkeep::{Surroundings, words};

use super::offline::{self, Stop};
use crate::context::Context;
use crate::exit::refused;
use crate::place::{PROGRAM, STORE};

/// Runs it.
pub(crate) async fn run(context: &Context, up_to_damage: bool) -> Result<Exit, Failure> {
    let (data, bar) = (context.data.clone(), context.out.bar(0));
    let work = move |stop: &Stop| rebuild(&data, up_to_damage, &Around { bar, stop });
    let rebuilt = offline::work(work).await?;
    context.out.result(&rebuilt, |rebuilt| words::rebuilt(rebuilt, size))?;
    Ok(if rebuilt.missing == 0 { Exit::Done } else { Exit::Damaged })
}

fn rebuild(data: &Path, up_to_damage: bool, around: &Around<'_>) -> Result<Rebuilt, Failure> {
    let files: Arc<dyn FileSystem> = Arc::new(SystemFiles);
    // Kept to the end: a daemon that starts meanwhile is told who has it.
    let _directory = DataDir::open(Arc::clone(&files), data, PROGRAM)
        .map_err(|error| Failure::new(Exit::Failed, "data_directory", error.to_string(), ""))?;
    let store = data.join(STORE);
    let rebuilt = offsite_upkeep::rebuild(&files, &store, up_to_damage, around, &mut |_| {});
    Ok(rebuilt.map_err(|error| refused(refusal(&error)))?.1)
}

/// A bar for whoever watches, and his wish to stop.
struct Around<'a> {
    bar: Bar,
    stop: &'a Stop,
}

impl Surroundings for Around<'_> {
    fn clock(&self) -> &dyn Clock {
        &SystemClock
    }

    fn pause(&self, span: Span) {
        offsite_upkeep::pause(span, &|| self.is_stopped());
    }

    fn is_stopped(&self) -> bool {
        self.stop.is_wished()
    }

    fn is_busy(&self) -> bool {
        // The directory is ours alone.
        false
    }

    fn show(&self, phase: &'static str, done: u64, total: u64) {
        self.bar.say(phase);
        self.bar.at(done, total);
    }
}
