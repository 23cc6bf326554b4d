//! How the demo talks: titles, sentences, and a bar on long work where standard error is a
//! terminal.

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;

const BAR: &str = "  {msg:12} [{bar:30}] {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left";

/// Opens a part.
pub(super) fn title(text: &str) {
    println!("\n{text}");
}

/// Says a sentence of the part.
pub(super) fn say(text: &str) {
    println!("  {text}");
}

/// A number of a command's answer, 0 where it has none. Large ones are written as text.
pub(super) fn number(answer: &Value, name: &str) -> u64 {
    match answer.get(name) {
        Some(Value::String(text)) => text.parse().unwrap_or(0),
        Some(value) => value.as_u64().unwrap_or(0),
        None => 0,
    }
}

/// Bytes as people read them.
pub(super) fn size(bytes: u64) -> String {
    indicatif::BinaryBytes(bytes).to_string()
}

/// The progress of a command that follows work of its daemon.
pub(super) struct Bar(ProgressBar);

impl Bar {
    /// A bar of unknown length.
    pub(super) fn new() -> Self {
        let style = ProgressStyle::with_template(BAR);
        Self(ProgressBar::new(0).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar())))
    }

    /// Shows a line of progress; other lines are the result.
    pub(super) fn show(&self, line: &Value) {
        if let Some(phase) = line["phase"].as_str() {
            self.0.set_message(phase.to_owned());
            self.0.set_length(number(line, "bytes_total"));
            self.0.set_position(number(line, "bytes_done"));
        }
    }

    /// Takes the bar away.
    pub(super) fn end(&self) {
        self.0.finish_and_clear();
    }
}
