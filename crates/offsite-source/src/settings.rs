//! `DATA/offsite.toml`: the keys, their bounds, and the commented text that `init` writes.

use std::fmt;
use std::path::Path;

use offsite_daemon::config::{self, ConfigError};
use offsite_daemon::logging::Format;
use offsite_daemon::quantity::{LENGTH_FORM, Length, Size};
use offsite_model::{FileSystem, Span};
use offsite_source_core::config::Settings;
use offsite_source_core::protect;
use offsite_store::RECORD_BYTES_RANGE;
use offsite_transport::{Congestion, NotOffered};
use serde::de::{Error as _, Visitor};
use serde::{Deserialize, Deserializer};

/// The file, typed. A key that is not here is a mistake.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct File {
    /// What this source is called at its targets.
    pub(crate) name: Option<String>,
    #[serde(rename = "cacheLifetime")]
    cache_lifetime: Option<Within<1, 3_600>>,
    pairing: Pairing,
    protect: Protect,
    replication: Replication,
    collect: Collect,
    scrub: Scrub,
    retention: Retention,
    /// How the daemon logs.
    pub(crate) log: Log,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Replication {
    tcp_congestion: Option<CongestionName>,
    #[serde(rename = "maxTransferSpeed")]
    max_transfer_speed: Option<Size>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Collect {
    every: Option<Length>,
    dead_percent: Option<Percent>,
    max_speed: Option<Size>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Scrub {
    every: Option<Length>,
    share_percent: Option<Percent>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Retention {
    await_max: Option<Length>,
}

/// How long a point stays for the sake of a target, where nothing is said.
const AWAIT_MAX: Span = Span::from_days(30);

/// A share, from 1 to 100.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "u8")]
struct Percent(u8);

impl TryFrom<u8> for Percent {
    type Error = &'static str;

    fn try_from(percent: u8) -> Result<Self, Self::Error> {
        (1..=100).contains(&percent).then_some(Self(percent)).ok_or("must be from 1 to 100")
    }
}

/// A congestion control that this kernel offers, or `auto`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
struct CongestionName(Congestion);

impl TryFrom<String> for CongestionName {
    type Error = NotOffered;

    fn try_from(name: String) -> Result<Self, Self::Error> {
        match name.as_str() {
            "auto" => Ok(Self(Congestion::Preferred)),
            name => Congestion::named(name).map(Self),
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Protect {
    record_size: Option<RecordSize>,
    group_size: Option<GroupSize>,
    zstd_level: Option<Level>,
}

/// The size of a record: a power of two that the store takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Size")]
struct RecordSize(u32);

impl TryFrom<Size> for RecordSize {
    type Error = &'static str;

    fn try_from(size: Size) -> Result<Self, Self::Error> {
        let bytes = u32::try_from(size.bytes()).unwrap_or(0);
        let is_good = RECORD_BYTES_RANGE.contains(&bytes) && bytes.is_power_of_two();
        is_good.then_some(Self(bytes)).ok_or("must be a power of two from 4 KiB to 1 MiB")
    }
}

/// The size of a group before compression.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Size")]
struct GroupSize(u32);

impl TryFrom<Size> for GroupSize {
    type Error = &'static str;

    fn try_from(size: Size) -> Result<Self, Self::Error> {
        let bytes = u32::try_from(size.bytes()).unwrap_or(0);
        let is_good = (16 << 10..=1 << 20).contains(&bytes);
        is_good.then_some(Self(bytes)).ok_or("must be from 16 KiB to 1 MiB")
    }
}

/// A level of zstd.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "i32")]
struct Level(i32);

impl TryFrom<i32> for Level {
    type Error = &'static str;

    fn try_from(level: i32) -> Result<Self, Self::Error> {
        (1..=19).contains(&level).then_some(Self(level)).ok_or("must be from 1 to 19")
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Pairing {
    poll_first: Option<Within<1, 60>>,
    poll_longest: Option<Within<60, 3_600>>,
    connect_timeout: Option<Within<1, 120>>,
    request_timeout: Option<Within<1, 600>>,
}

/// How the daemon logs.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Log {
    /// For people or for machines.
    pub(crate) format: LogFormat,
    /// What is logged.
    pub(crate) filter: String,
}

impl Default for Log {
    fn default() -> Self {
        Self { format: LogFormat::Human, filter: "info".to_owned() }
    }
}

/// For whom the log is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum LogFormat {
    /// For people.
    Human,
    /// One JSON object per line.
    Json,
}

impl From<LogFormat> for Format {
    fn from(format: LogFormat) -> Self {
        match format {
            LogFormat::Human => Self::Human,
            LogFormat::Json => Self::Json,
        }
    }
}

/// A length of time within bounds, in seconds, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Within<const MIN: u64, const MAX: u64>(Span);

impl<'de, const MIN: u64, const MAX: u64> Deserialize<'de> for Within<MIN, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Length;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(LENGTH_FORM)
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Length, E> {
                text.parse().map_err(E::custom)
            }
        }
        let span = deserializer.deserialize_str(Text)?.span();
        if span < Span::from_secs(MIN) || span > Span::from_secs(MAX) {
            return Err(D::Error::custom(format!("must be from {MIN} to {MAX} seconds")));
        }
        Ok(Self(span))
    }
}

impl File {
    /// Reads the file.
    pub(crate) fn read(files: &dyn FileSystem, path: &Path) -> Result<Self, ConfigError> {
        config::read(files, path)
    }

    /// The settings, with the shipped values where the file is silent.
    pub(crate) fn settings(&self) -> Settings {
        let shipped = Settings::shipped();
        Settings {
            cache_lifetime: or(self.cache_lifetime, shipped.cache_lifetime),
            poll_first: or(self.pairing.poll_first, shipped.poll_first),
            poll_longest: or(self.pairing.poll_longest, shipped.poll_longest),
            connect_timeout: or(self.pairing.connect_timeout, shipped.connect_timeout),
            request_timeout: or(self.pairing.request_timeout, shipped.request_timeout),
            congestion: match &self.replication.tcp_congestion {
                Some(CongestionName(congestion)) => congestion.clone(),
                None => shipped.congestion,
            },
            transfer_bytes_per_sec: match self.replication.max_transfer_speed {
                Some(size) => size.bytes(),
                None => shipped.transfer_bytes_per_sec,
            },
        }
    }
}

impl File {
    /// How long a point stays for the sake of a target that has not got it.
    pub(crate) fn await_max(&self) -> Span {
        self.retention.await_max.map_or(AWAIT_MAX, Length::span)
    }

    /// How the store is kept in order.
    pub(crate) fn upkeep(&self) -> offsite_upkeep::Settings {
        let mut settings = offsite_upkeep::Settings::default();
        let (from, to) = (&self.collect, &mut settings.collect);
        to.every = from.every.map_or(to.every, Length::span);
        to.dead_percent = from.dead_percent.map_or(to.dead_percent, |percent| percent.0);
        to.bytes_per_sec = from.max_speed.map_or(to.bytes_per_sec, Size::bytes);
        let (from, to) = (&self.scrub, &mut settings.scrub);
        to.every = from.every.map_or(to.every, Length::span);
        to.share_percent = from.share_percent.map_or(to.share_percent, |percent| percent.0);
        settings
    }

    /// How volumes are protected on a machine of so many processors.
    pub(crate) fn protect(&self, n_processors: usize) -> protect::Settings {
        let shipped = protect::Settings::shipped(n_processors);
        let Protect { record_size, group_size, zstd_level } = &self.protect;
        protect::Settings {
            record_bytes: record_size.map_or(shipped.record_bytes, |size| size.0),
            group_bytes: group_size.map_or(shipped.group_bytes, |size| size.0),
            level: zstd_level.map_or(shipped.level, |level| level.0),
            n_workers: shipped.n_workers,
        }
    }
}

fn or<const MIN: u64, const MAX: u64>(within: Option<Within<MIN, MAX>>, shipped: Span) -> Span {
    within.map_or(shipped, |within| within.0)
}

/// The text that `init` writes: what it was told, and every other key with its shipped value.
pub(crate) fn text(name: &str) -> String {
    // A checked name holds no control characters, so these two are all that TOML wants escaped.
    let name = name.replace('\\', "\\\\").replace('"', "\\\"");
    TEXT.replace("@NAME@", &name)
}

const TEXT: &str = r#"# Settings of this Offsite source. A line that begins with # and a key
# shows the value that is used while the line stays commented out. Restart the daemon after a change.

# What this source is called at its targets.
name = "@NAME@"

# How often an active pairing is looked after, from 1 second to 1 hour.
#cacheLifetime = "60s"

[pairing]
# The first and the longest pause between two looks for the target's decision. The target
# may ask for longer ones.
#poll_first = "5s"
#poll_longest = "60s"
# How long connecting may take, how long the handshake, and how long one call.
#connect_timeout = "10s"
#request_timeout = "30s"

[protect]
# The pieces that volumes are cut into, a power of two. A volume keeps the size it was first protected with.
#record_size = "16 KiB"
# How much is compressed together.
#group_size = "256 KiB"
# 1 is the fastest; 3 stores a few per cent less and takes half as long again.
#zstd_level = 1

[replication]
# The TCP congestion control of connections that carry records: a name that this kernel offers, or
# auto: bbr where it is offered, else the system's own. Where packets are lost bbr is many times
# faster than cubic.
#tcp_congestion = "auto"
# How many bytes of records go to each target in a second, and come back from it in a restore, such
# as "10 MB" or "2 MiB". 0 is no limit.
#maxTransferSpeed = 0

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

[retention]
# How long a recovery point that is to go by its policy stays for the sake of a target that has not
# got it.
#await_max = "30 days"

[log]
# human, or json: one object per line.
#format = "human"
# error, warn, info, debug or trace, or a list such as "info,offsite_transport=debug".
#filter = "info"
"#;

#[cfg(test)]
mod tests {
    use offsite_testkit::expect;

    use super::*;

    #[test]
    fn the_commented_text_tells_the_truth() {
        let text = text("a \"b\" \\ c");
        let silent: File = config::parse(&text).unwrap();
        assert_eq!(silent.name.as_deref(), Some("a \"b\" \\ c"));
        assert_eq!(silent.settings(), Settings::shipped());
        let spoken: File = config::parse(&config::with_defaults_on(&text)).unwrap();
        assert_eq!(spoken.settings(), Settings::shipped());
        assert_eq!(spoken.protect(2), protect::Settings::shipped(2));
        assert!(spoken.protect.record_size.is_some() && spoken.protect.zstd_level.is_some());
        assert!(spoken.replication.tcp_congestion.is_some());
        assert!(spoken.replication.max_transfer_speed.is_some());
        assert_eq!(silent.upkeep(), offsite_upkeep::Settings::default());
        assert_eq!(spoken.upkeep(), offsite_upkeep::Settings::default());
        let Collect { every: Some(_), dead_percent: Some(_), max_speed: Some(_) } = spoken.collect
        else {
            panic!("{:?}", spoken.collect)
        };
        assert_eq!((silent.await_max(), spoken.await_max()), (AWAIT_MAX, AWAIT_MAX));
        assert!(spoken.retention.await_max.is_some());
        assert!(spoken.scrub.every.is_some() && spoken.scrub.share_percent.is_some());
        assert!(spoken.cache_lifetime.is_some() && spoken.pairing.request_timeout.is_some());
        assert_eq!((spoken.log.format, spoken.log.filter), (LogFormat::Human, "info".to_owned()));
    }

    #[test]
    fn a_congestion_control_that_there_is_not_is_refused() {
        let text = "[replication]\ntcp_congestion = \"warp\"";
        let said = config::parse::<File>(text).unwrap_err().to_string();
        assert!(said.contains("no congestion control \"warp\""), "{said}");
        let text = "[replication]\ntcp_congestion = \"reno\"";
        let reno: File = config::parse(text).unwrap();
        assert_eq!(reno.settings().congestion, Congestion::Named("reno".to_owned()));
    }

    #[test]
    fn every_mistake_is_placed_and_explained() {
        let complaints = [
            "nam = \"x\"",
            "cacheLifetime = \"0s\"",
            "cacheLifetime = 60",
            "[pairing]\npoll_longest = \"2h\"",
            "[pairing]\npoll_frist = \"5s\"",
            "[log]\nformat = \"xml\"",
        ]
        .map(|text| config::parse::<File>(text).unwrap_err().to_string());
        expect![[r#"
            1:1: nam: unknown field `nam`, expected one of `name`, `cacheLifetime`, `pairing`, `protect`, `replication`, `collect`, `scrub`, `retention`, `log`; did you mean `name`?
            1:17: cacheLifetime: must be from 1 to 3600 seconds
            1:17: cacheLifetime: invalid type: integer `60`, expected a length of time such as "90s", "5 min", "1h 30m", "14 days" or "PT24H"
            2:16: pairing.poll_longest: must be from 60 to 3600 seconds
            2:1: pairing.poll_frist: unknown field `poll_frist`, expected one of `poll_first`, `poll_longest`, `connect_timeout`, `request_timeout`; did you mean `poll_first`?
            2:10: log.format: unknown variant `xml`, expected `human` or `json`
        "#]].assert_eq(&complaints.join("\n"));
    }
}
