//! One subscriber, one line per event, to stderr: for people or as JSON.
//!
//! Field names are those of `docs/style.md`. What a peer sent may turn up in a field, so every
//! letter that is not plain is written as an escape: nobody forges a line of our log or steers an
//! operator's terminal.

use std::io::{self, Write};
use std::sync::Arc;

use jiff::Timestamp as Moment;
use offsite_model::{Clock, is_plain};
use serde::Deserialize;
use thiserror::Error;
use tracing::Subscriber;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::util::SubscriberInitExt;

/// How a line of the log looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// For people: time, level, module, message, fields.
    #[default]
    Human,
    /// One JSON object per line.
    Json,
}

/// Why there is no log.
#[derive(Debug, Error)]
pub enum LoggingError {
    /// The filter is not understood.
    #[error(
        "{filter:?} is no log filter: give error, warn, info, debug or trace, or a list such as \
         \"info,offsite_transport=debug\""
    )]
    Filter {
        /// What was given.
        filter: String,
    },
    /// Another subscriber was installed before.
    #[error("logging was started twice")]
    Twice,
}

/// Starts logging to stderr for the whole process.
///
/// # Errors
///
/// The filter is not understood, or logging was started before.
pub fn start(format: Format, filter: &str, clock: Arc<dyn Clock>) -> Result<(), LoggingError> {
    subscriber(format, filter, clock, io::stderr)?.try_init().map_err(|_| LoggingError::Twice)
}

/// The subscriber of [`start`] on another writer, for tests that read the log.
///
/// # Errors
///
/// The filter is not understood.
pub fn subscriber<W>(
    format: Format,
    filter: &str,
    clock: Arc<dyn Clock>,
    writer: W,
) -> Result<Box<dyn Subscriber + Send + Sync>, LoggingError>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let filter = EnvFilter::try_new(filter)
        .map_err(|_| LoggingError::Filter { filter: filter.to_owned() })?;
    let settings = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(false)
        .with_timer(HandedClock(clock))
        .with_writer(EscapedLines(writer));
    Ok(match format {
        Format::Human => Box::new(settings.finish()),
        Format::Json => {
            Box::new(settings.json().flatten_event(true).with_current_span(false).finish())
        }
    })
}

struct HandedClock(Arc<dyn Clock>);

impl FormatTime for HandedClock {
    fn format_time(&self, writer: &mut Writer<'_>) -> std::fmt::Result {
        let moment = Moment::from_microsecond(self.0.now().as_micros()).unwrap_or(Moment::MAX);
        write!(writer, "{}", moment.strftime("%Y-%m-%dT%H:%M:%S%.6fZ"))
    }
}

struct EscapedLines<W>(W);

impl<'a, W: MakeWriter<'a>> MakeWriter<'a> for EscapedLines<W> {
    type Writer = EscapedLine<W::Writer>;

    fn make_writer(&'a self) -> Self::Writer {
        EscapedLine(self.0.make_writer())
    }
}

/// Takes one event per call, as the formatter hands them over, and passes it on in one call.
struct EscapedLine<W: Write>(W);

impl<W: Write> Write for EscapedLine<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let event = String::from_utf8_lossy(bytes);
        let event = event.strip_suffix('\n').unwrap_or(&event);
        let mut line = String::with_capacity(event.len() + 1);
        for letter in event.chars() {
            if is_plain(letter) {
                line.push(letter);
            } else {
                // This form is also how JSON spells such a letter within a string.
                for unit in letter.encode_utf16(&mut [0; 2]) {
                    line.push_str(&format!("\\u{unit:04x}"));
                }
            }
        }
        line.push('\n');
        self.0.write_all(line.as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use offsite_testkit::{SimClock, expect};

    use super::*;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(format: Format, filter: &str, events: impl FnOnce()) -> String {
        let sink = Sink::default();
        let writer = sink.clone();
        let clock = Arc::new(SimClock::new());
        let subscriber = subscriber(format, filter, clock, move || writer.clone()).unwrap();
        tracing::subscriber::with_default(subscriber, events);
        let bytes = sink.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    fn hostile_event() {
        let span = tracing::info_span!("request", request = "7f3a");
        let _entered = span.enter();
        let name = "evil\n2026-01-01 INFO all is well\x1b[2J\u{85}\u{202e}\u{7f}";
        tracing::warn!(peer = name, raw = ?name, "refused {name}");
        tracing::debug!("not shown");
    }

    #[test]
    fn an_event_is_one_line_for_people() {
        let text = logged(Format::Human, "info", hostile_event);
        expect![[r#"2026-01-01T00:00:00.000000Z  WARN request{request="7f3a"}: offsite_daemon::logging::tests: refused evil\u000a2026-01-01 INFO all is well\x1b[2J\u{85}\u202e\x7f peer="evil\n2026-01-01 INFO all is well\u{1b}[2J\u{85}\u{202e}\u{7f}" raw="evil\n2026-01-01 INFO all is well\u{1b}[2J\u{85}\u{202e}\u{7f}""#]].assert_eq(text.strip_suffix('\n').unwrap());
    }

    #[test]
    fn an_event_is_one_line_of_json() {
        let text = logged(Format::Json, "info", hostile_event);
        expect![[r#"{"timestamp":"2026-01-01T00:00:00.000000Z","level":"WARN","message":"refused evil\n2026-01-01 INFO all is well\u001b[2J\u0085\u202e\u007f","peer":"evil\n2026-01-01 INFO all is well\u001b[2J\u0085\u202e\u007f","raw":"\"evil\\n2026-01-01 INFO all is well\\u{1b}[2J\\u{85}\\u{202e}\\u{7f}\"","target":"offsite_daemon::logging::tests","spans":[{"request":"7f3a","name":"request"}]}"#]].assert_eq(text.strip_suffix('\n').unwrap());
    }

    #[test]
    fn a_11_letters_that_hide_or_stand_for_nothing_are_numbers_in_the_log() {
        const NAME: &str = "a\u{ad}b\u{200b}c\u{feff}d\u{3164}e\u{61c}f\u{e0041}g";
        let event = || tracing::warn!(peer = NAME, "refused {NAME}");
        for format in [Format::Human, Format::Json] {
            let text = logged(format, "info", event);
            assert!(text.trim_end().chars().all(is_plain), "{text:?}");
        }
        let text = logged(Format::Json, "info", event);
        assert!(text.contains("f\\udb40\\udc41g"), "{text}");
    }

    #[test]
    fn a_filter_that_is_none_is_refused_with_the_forms() {
        let clock = Arc::new(SimClock::new());
        let refused = subscriber(Format::Human, "offsite=loud", clock, io::stderr).err().unwrap();
        assert!(refused.to_string().contains("give error, warn, info"), "{refused}");
    }
}
