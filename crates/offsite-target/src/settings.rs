//! The configuration file: what `init` was told, and everything else that can be set, with the
//! defaults visible.

use std::net::SocketAddr;
use std::path::Path;

use offsite_daemon::config::{self, ConfigError};
use offsite_daemon::logging::Format;
use offsite_daemon::quantity::{Length, Size};
use offsite_model::{FileSystem, Span};
use offsite_target_core::config::Settings;
use serde::Deserialize;

/// The file as it is read.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct File {
    /// The target's name.
    pub(crate) name: String,
    /// Where it listens.
    pub(crate) listen: Listen,
    #[serde(default)]
    pairing: Pairing,
    #[serde(default)]
    acceptance: Acceptance,
    #[serde(default)]
    replication: Replication,
    #[serde(default)]
    collect: Collect,
    #[serde(default)]
    scrub: Scrub,
    /// What is logged.
    #[serde(default)]
    pub(crate) log: Log,
    #[serde(default)]
    stop: Stop,
}

/// Where it listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Listen {
    /// For sources.
    pub(crate) replication: SocketAddr,
    /// For operators.
    pub(crate) operator: SocketAddr,
}

#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Pairing {
    pending_per_address_max: Option<u32>,
    pending_max: Option<u32>,
    reserved_for_codes: Option<u32>,
    request_life: Option<Length>,
    wrong_codes_max: Option<u32>,
    poll_after: Option<Length>,
    certificate_days: Option<u32>,
    key_overlap: Option<Length>,
    renew_after_expiry: Option<Length>,
    require_check_code: Option<bool>,
    ended_kept: Option<Length>,
}

#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Acceptance {
    quota: Option<Size>,
    allow_restore: Option<bool>,
    lock_days: Option<u32>,
}

#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Replication {
    barrier: Option<Size>,
    barrier_after: Option<Length>,
    lease: Option<Length>,
}

#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Collect {
    every: Option<Length>,
    dead_percent: Option<u8>,
    max_speed: Option<Size>,
}

#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Scrub {
    every: Option<Length>,
    share_percent: Option<u8>,
}

/// What is logged, and how.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Log {
    format: Option<Format>,
    filter: Option<String>,
}

impl Log {
    /// How a line looks.
    pub(crate) fn format(&self) -> Format {
        self.format.unwrap_or_default()
    }

    /// Which lines there are.
    pub(crate) fn filter(&self) -> &str {
        self.filter.as_deref().unwrap_or("info")
    }
}

#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Stop {
    drain: Option<Length>,
}

impl File {
    /// Reads it.
    pub(crate) fn read(files: &dyn FileSystem, path: &Path) -> Result<Self, ConfigError> {
        config::read(files, path)
    }

    /// How long open requests may go on when the daemon stops.
    pub(crate) fn drain(&self) -> Span {
        self.stop.drain.map_or(Span::from_secs(25), Length::span)
    }

    /// The settings of the core that follow.
    pub(crate) fn settings(&self) -> Settings {
        let mut settings = Settings::shipped(&self.name);
        let (from, to) = (&self.pairing, &mut settings.pairing);
        set(&mut to.pending_per_address_max, from.pending_per_address_max);
        set(&mut to.pending_max, from.pending_max);
        set(&mut to.reserved_for_codes, from.reserved_for_codes);
        set(&mut to.request_life, from.request_life.map(Length::span));
        set(&mut to.wrong_codes_max, from.wrong_codes_max);
        let poll_after = from.poll_after.map(|length| length.span().as_secs());
        set(
            &mut to.poll_after_secs,
            poll_after.map(|secs| u32::try_from(secs).unwrap_or(u32::MAX)),
        );
        set(&mut to.certificate_days, from.certificate_days);
        set(&mut to.key_overlap, from.key_overlap.map(Length::span));
        set(&mut to.renew_after_expiry, from.renew_after_expiry.map(Length::span));
        set(&mut to.require_check_code, from.require_check_code);
        set(&mut to.ended_kept, from.ended_kept.map(Length::span));
        let (from, to) = (&self.acceptance, &mut settings.acceptance);
        to.quota_bytes = from.quota.map(Size::bytes).filter(|bytes| *bytes > 0);
        set(&mut to.allow_restore, from.allow_restore);
        set(&mut to.lock_days, from.lock_days);
        let (from, to) = (&self.replication, &mut settings.replication);
        set(&mut to.barrier_bytes, from.barrier.map(Size::bytes));
        set(&mut to.barrier_after, from.barrier_after.map(Length::span));
        set(&mut to.lease, from.lease.map(Length::span));
        let (from, to) = (&self.collect, &mut settings.upkeep.collect);
        set(&mut to.every, from.every.map(Length::span));
        set(&mut to.dead_percent, from.dead_percent);
        set(&mut to.bytes_per_sec, from.max_speed.map(Size::bytes));
        let (from, to) = (&self.scrub, &mut settings.upkeep.scrub);
        set(&mut to.every, from.every.map(Length::span));
        set(&mut to.share_percent, from.share_percent);
        settings
    }
}

fn set<T>(place: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *place = value;
    }
}

/// The text that `init` writes: what it was told is set, everything else is a comment that shows
/// its default.
pub(crate) fn text(name: &str, listen: Listen) -> String {
    // A JSON string is a TOML string, once control characters are out of question.
    let name = serde_json::Value::from(name).to_string();
    let Listen { replication, operator } = listen;
    format!(
        r##"# Settings of offsite-target. A line that begins with # shows a default; take it away to change it.
# A mistake in this file is reported with its line and the accepted values, and nothing starts then.

# The name of this target, shown to sources that are paired.
name = {name}

[listen]
# Where sources connect. Port 0 takes any free one; see run/addresses.json.
replication = "{replication}"
# Where operators connect: console and REST calls. Keep it on a network that only they reach.
operator = "{operator}"

[pairing]
# Requests that may wait from one address (/32, or /56 of IPv6), and in all; at most 64 and 4096.
#pending_per_address_max = 4
#pending_max = 256
# How many of these are kept for newcomers with an enrolment code; at most 256.
#reserved_for_codes = 32
# How long a request waits for a decision; at most 30 days.
#request_life = "7 days"
# Wrong check codes after which a request is locked until its source submits again; at most 10.
#wrong_codes_max = 5
# The shortest pause between two polls of a waiting source.
#poll_after = "5s"
# How long a source's certificate lasts; it renews itself at two thirds of that. At most 400.
#certificate_days = 90
# How long two keys of one source are good side by side while it renews; at most 7 days.
#key_overlap = "24h"
# How long after its end a certificate can still be renewed; at most 365 days.
#renew_after_expiry = "180 days"
# Whether nobody may accept a request without entering its check code.
#require_check_code = false
# How long rejected requests and ended pairings are remembered.
#ended_kept = "30 days"

[acceptance]
# What an acceptance grants where the operator says nothing.
# The most a source may store, such as quota = "500 GB"; without it there is no quota.
# Whether a source may read its own recovery points back.
#allow_restore = false
# Days for which a recovery point cannot be deleted by anybody; at most 400.
#lock_days = 0

[replication]
# What has arrived is made durable after so many bytes, at most 1 GiB, or after so long, at most
# 60 s: a crash of this machine costs sending that much again.
#barrier = "256 MiB"
#barrier_after = "10s"
# How long an image that nobody sends any more is kept open. What arrived of it can be gone on with
# for as long again, and is dropped then. At most 7 days.
#lease = "24h"

[collect]
# How often space of what was deleted is taken back; "0s" is never. `gc` does it at once.
#every = "24h"
# A segment is written anew when at least so many percent of it are garbage.
#dead_percent = 25
# How many bytes that may read and write in a second, such as "50 MB". 0 is no limit.
#max_speed = 0

[scrub]
# How often everything that is kept is read, to find damage while there is a good copy;
# "0s" is never.
#every = "30 days"
# For how many percent of the time it may read.
#share_percent = 10

[log]
# human or json; to standard error.
#format = "human"
# error, warn, info, debug, trace, or a list such as "info,offsite_transport=debug".
#filter = "info"

[stop]
# How long open requests may go on when the daemon is told to stop.
#drain = "25s"
"##
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listen() -> Listen {
        Listen { replication: ([127, 0, 0, 1], 0).into(), operator: ([127, 0, 0, 1], 0).into() }
    }

    fn read(text: &str) -> File {
        config::parse(text).unwrap()
    }

    #[test]
    fn the_written_text_is_read_and_its_defaults_are_the_defaults() {
        let text = text("Kunde \"Süd\" \\ 7", listen());
        let plain = read(&text);
        assert_eq!(plain.name, "Kunde \"Süd\" \\ 7");
        assert_eq!(plain.listen, listen());
        let shown = read(&config::with_defaults_on(&text));
        assert_eq!(plain.settings(), Settings::shipped("Kunde \"Süd\" \\ 7"));
        assert_eq!(shown.settings(), plain.settings());
        assert_eq!(
            (shown.log.format(), shown.log.filter(), shown.drain()),
            (plain.log.format(), plain.log.filter(), plain.drain())
        );
        // Every setting that has a default is shown: none is left unset once the defaults are on.
        let Pairing {
            pending_per_address_max: Some(_),
            pending_max: Some(_),
            reserved_for_codes: Some(_),
            request_life: Some(_),
            wrong_codes_max: Some(_),
            poll_after: Some(_),
            certificate_days: Some(_),
            key_overlap: Some(_),
            renew_after_expiry: Some(_),
            require_check_code: Some(_),
            ended_kept: Some(_),
        } = shown.pairing
        else {
            panic!("{:?}", shown.pairing)
        };
        assert!(shown.acceptance.allow_restore.is_some() && shown.acceptance.lock_days.is_some());
        let Replication { barrier: Some(_), barrier_after: Some(_), lease: Some(_) } =
            shown.replication
        else {
            panic!("{:?}", shown.replication)
        };
        let Collect { every: Some(_), dead_percent: Some(_), max_speed: Some(_) } = shown.collect
        else {
            panic!("{:?}", shown.collect)
        };
        assert!(shown.scrub.every.is_some() && shown.scrub.share_percent.is_some());
        assert!(shown.stop.drain.is_some() && shown.log.filter.is_some());
    }

    #[test]
    fn a_mistake_is_reported_with_line_and_accepted_values() {
        let sound = text("t", listen());
        for (from, to, complaint) in [
            ("name = \"t\"", "nmae = \"t\"", "5:1: nmae: unknown field `nmae`, expected one of"),
            (
                "#pending_max = 256",
                "pending_max = \"many\"",
                "16:15: pairing.pending_max: invalid type",
            ),
            (
                "#request_life = \"7 days\"",
                "request_life = \"a week\"",
                "20:16: pairing.request_life: \"a week\" is not a length of time such as",
            ),
            (
                "#format = \"human\"",
                "format = \"xml\"",
                "70:10: log.format: unknown variant `xml`, expected `human` or `json`",
            ),
            (
                "replication = \"127.0.0.1:0\"",
                "replication = \"here\"",
                "9:15: listen.replication: invalid socket address",
            ),
            ("[listen]", "[lisen]", "7:2: lisen: unknown field `lisen`, expected one of"),
        ] {
            assert!(sound.contains(from), "{from}");
            let broken = sound.replacen(from, to, 1);
            let found = config::parse::<File>(&broken).unwrap_err().to_string();
            assert!(found.starts_with(complaint), "{found}");
        }
    }
}
