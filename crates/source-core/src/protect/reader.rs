//! The thread that reads: extents in order, holes skipped, the disk told what comes next.

use std::sync::Arc;
use std::sync::mpsc::Sender;

use offsite_volume::Volume;

use super::buffers::Pool;
use super::workers::{Job, Queue, Report};

/// Bytes read at a time.
pub(super) const CHUNK_BYTES: u32 = 1 << 20;
/// How far ahead the disk is told to read.
const AHEAD_BYTES: u64 = 8 << 20;

/// Reads the volume until its end, an error, or the closing of the pool.
pub(super) fn read(
    volume: &Volume,
    record_bytes: u32,
    pool: &Arc<Pool>,
    queue: &Queue,
    reports: &Sender<Report>,
) {
    let mut n_chunks = 0;
    let mut advised = 0;
    for chunk in volume.chunks(record_bytes, CHUNK_BYTES) {
        let read = chunk.and_then(|chunk| {
            let Some(mut buffer) = pool.take(chunk.bytes as usize) else { return Ok(None) };
            if advised < chunk.offset.saturating_add(AHEAD_BYTES / 2) {
                advised = chunk.offset.saturating_add(AHEAD_BYTES);
                volume.advise(chunk.offset, AHEAD_BYTES, true);
            }
            volume.read(&mut buffer.bytes, chunk.offset)?;
            Ok(Some((chunk.offset, buffer)))
        });
        match read {
            Ok(Some((offset, buffer))) => {
                queue.push(Job::Hash { number: n_chunks, offset, buffer });
                n_chunks += 1;
            }
            Ok(None) => return,
            // Nobody is left to be told when this cannot be sent.
            Err(error) => return drop(reports.send(Report::Unreadable(error))),
        }
    }
    drop(reports.send(Report::End { n_chunks }));
}
