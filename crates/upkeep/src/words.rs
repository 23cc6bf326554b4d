//! What upkeep came to, in words for people.

use offsite_proto::admin::upkeep::{Collected, LeftBehind, Rebuilt, Scrubbed, Upkeep};
use offsite_proto::text::Time;

/// A size as the program shows sizes.
type Size = fn(u64) -> String;

/// A collection, some lines.
#[must_use]
pub fn collected(done: &Collected, size: Size) -> String {
    let mut lines = Vec::new();
    if done.points_purged > 0 {
        lines.push(format!("{} deleted recovery points removed for good", done.points_purged));
    }
    let (freed, moved) = (size(done.bytes_freed.0), size(done.bytes_moved.0));
    lines.push(match (done.bytes_freed.0, done.bytes_moved.0) {
        (0, _) => "nothing to free".to_owned(),
        (_, 0) => format!("{freed} freed"),
        (freed_bytes, moved_bytes) => {
            let gained = size(freed_bytes.saturating_sub(moved_bytes));
            format!("{gained} freed: {freed} removed after {moved} of it were put elsewhere")
        }
    });
    if done.bytes_waiting.0 > 0 {
        let waiting = size(done.bytes_waiting.0);
        lines.push(format!("{waiting} of that come back when their readers have ended"));
    }
    if done.bytes_quarantined.0 > 0 {
        let quarantined = size(done.bytes_quarantined.0);
        lines.push(format!("{quarantined} with damage in them lie in quarantine"));
    }
    lines.extend(done.left.iter().filter_map(|left| left_behind(left, size)));
    lines.extend(done.doubts.iter().cloned());
    lines.join("\n")
}

/// What stays; nothing where nobody could do anything about it and it holds no garbage.
fn left_behind(left: &LeftBehind, size: Size) -> Option<String> {
    let why = match &*left.why {
        "in_use" => "open sessions count on it",
        "mostly_alive" => "most of it is alive; more effort: --all",
        "damaged" => "it is damaged and cannot be read whole",
        "not_healed" => "something alive in it is damaged and not healed yet",
        "no_space" => "the disk has no room to move what is alive",
        "next_run" => "the next run takes it",
        // An open segment is somebody's work.
        _ => return None,
    };
    let (n, bytes) = (left.segments, left.bytes.0);
    Some(match bytes {
        0 => format!("{n} segments stay: {why}"),
        _ => format!("{n} segments with about {} of garbage stay: {why}", size(bytes)),
    })
}

/// A scrub, some lines.
#[must_use]
pub fn scrubbed(done: &Scrubbed, size: Size) -> String {
    let read = size(done.bytes.0);
    let (groups, points) = (done.groups, done.points);
    let mut lines = vec![format!("{read} in {groups} groups and {points} recovery points read")];
    lines.push(match done.damaged {
        0 => "everything is as it was written".to_owned(),
        n => format!("{n} damaged parts; what has a good copy at the other side is healed from it"),
    });
    for part in &done.damage {
        let hurt = match part.points.first() {
            None => "hurts no recovery point".to_owned(),
            Some(first) => format!("hurts recovery point {first}"),
        };
        lines.push(format!("  {}: {hurt}", part.what));
    }
    lines.join("\n")
}

/// A rebuild, some lines.
#[must_use]
pub fn rebuilt(done: &Rebuilt, size: Size) -> String {
    let seconds = done.seconds;
    if !done.catalog_made {
        return format!("the catalog is whole; the index was made again in {seconds:.1} s");
    }
    let Rebuilt { points, points_deleted, points_purged, locks, entries, .. } = done;
    let mut lines = vec![
        format!("{points} recovery points, {points_deleted} of them deleted, and {locks} locks"),
        format!("{points_purged} that were removed for good stay so"),
        format!("from {entries} entries of the journal, in {seconds:.1} s"),
    ];
    if done.journal_left.0 > 0 {
        let left = size(done.journal_left.0);
        lines.push(format!("{left} at the end of the journal are no good and were left out"));
    }
    if done.missing > 0 {
        lines.push(format!("{} files are MISSING or too short; see verify", done.missing));
        lines.extend(done.missing_files.iter().map(|file| format!("  {file}")));
    }
    if !done.in_doubt.is_empty() {
        lines.push("in doubt, since the journal does not name them; nobody is shown these:".into());
    }
    for image in &done.in_doubt {
        let (point, volume) = (image.point, image.volume);
        let bytes = size(image.bytes.0);
        lines.push(format!("  {}: volume {volume} of point {point}, {bytes}", image.file));
    }
    lines.join("\n")
}

/// How upkeep stands: what, and how it went, a line each.
#[must_use]
pub fn state(upkeep: &Upkeep, size: Size) -> Vec<(&'static str, String)> {
    let mut lines = Vec::new();
    lines.push(match &upkeep.collected {
        None => ("space collected", "not yet".to_owned()),
        Some(last) => {
            let doubt = match last.doubts {
                0 => String::new(),
                n => format!("; nothing could be taken of {n} parts, see the log"),
            };
            ("space collected", format!("{}, {} freed{doubt}", last.at, size(last.bytes_freed.0)))
        }
    });
    let found = |damaged: u64| match damaged {
        0 => "no damage".to_owned(),
        n => format!("{n} DAMAGED parts"),
    };
    lines.push(match &upkeep.scrubbed {
        None => ("scrubbed", "not yet".to_owned()),
        Some(last) => {
            let ended = last.ended_at.map_or_else(String::new, |Time(at)| Time(at).to_string());
            ("scrubbed", format!("{ended}, {} read, {}", size(last.bytes.0), found(last.damaged)))
        }
    });
    if let Some(running) = &upkeep.scrubbing {
        let (began, read) = (running.began_at, size(running.bytes.0));
        let found = found(running.damaged);
        lines.push(("scrubbing", format!("since {began}, {read} read, {found}")));
    }
    if let Some(forecast) = &upkeep.forecast {
        let (days, sure) = (forecast.full_in_days, &forecast.sure);
        let (pace, seen) = (size(forecast.bytes_per_day.0), forecast.days_seen);
        let told = format!("in {days} days, at {pace} a day; {sure} sure, from {seen} days");
        lines.push(("full", told));
    }
    lines
}
