//! `rebuild`: the store's catalog and index made again, while no daemon has the data directory.
//!
//! Of what this source keeps in the store's catalog only the numbers of points that were removed
//! for good matter, and they stand in the journal: none of them is given to another point.

use std::path::Path;
use std::sync::Arc;

use offsite_daemon::{DataDir, SystemClock, SystemFiles};
use offsite_model::{Clock, FileSystem, Span};
use offsite_proto::admin::upkeep::Rebuilt;
use offsite_source_core::error::Trouble;
use offsite_source_core::points::Numbers;
use offsite_terminal::{Bar, Exit, Failure, size};
use offsite_upkeep::{Surroundings, words};

use crate::context::Context;
use crate::exit::{no_directory, troubled};
use crate::home::{PROGRAM, STORE};

pub(crate) async fn run(context: &Context, up_to_damage: bool) -> Result<Exit, Failure> {
    let (data, around) = (context.data.clone(), Around(context.out.bar(0)));
    let work = move || rebuild(&data, up_to_damage, &around);
    let done = tokio::task::spawn_blocking(work).await;
    let done = done.map_err(|error| Failure::failed(format!("the work failed: {error}")))?;
    let rebuilt = done?;
    context.out.result(&rebuilt, |rebuilt| words::rebuilt(rebuilt, size))?;
    Ok(if rebuilt.missing == 0 { Exit::Done } else { Exit::Damaged })
}

fn rebuild(data: &Path, up_to_damage: bool, around: &Around) -> Result<Rebuilt, Failure> {
    let files: Arc<dyn FileSystem> = Arc::new(SystemFiles);
    // Kept to the end: a daemon that starts meanwhile is told who has it.
    let _directory = DataDir::open(Arc::clone(&files), data, PROGRAM).map_err(no_directory)?;
    let mut numbers = Numbers::default();
    let mut replayed = |commit: &offsite_store::Replayed<'_>| numbers.see(commit);
    let path = data.join(STORE);
    let rebuilt = offsite_upkeep::rebuild(&files, &path, up_to_damage, around, &mut replayed);
    let (store, rebuilt) = rebuilt.map_err(|error| troubled(Trouble::from(error)))?;
    numbers.keep(&store).map_err(troubled)?;
    Ok(rebuilt)
}

/// A bar for whoever watches. Nothing stops it but the end of the program, after which it is begun
/// again.
struct Around(Bar);

impl Surroundings for Around {
    fn clock(&self) -> &dyn Clock {
        &SystemClock
    }

    fn pause(&self, span: Span) {
        offsite_upkeep::pause(span, &|| self.is_stopped());
    }

    fn is_stopped(&self) -> bool {
        false
    }

    fn is_busy(&self) -> bool {
        // The directory is ours alone.
        false
    }

    fn show(&self, phase: &'static str, done: u64, total: u64) {
        self.0.say(phase);
        self.0.at(done, total);
    }
}
