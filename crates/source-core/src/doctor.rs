//! Looks at the way to a target, step by step, and says at which one it ends and what to do.
//!
//! Name, TCP, TLS, is it Offsite, versions, clock. Each step needs the one before; the first that
//! fails is the last that is taken.
//!
//! **Absent:** any change at either side; nothing that is asked here needs a pairing.

use offsite_model::{Clock, Timestamp};
use offsite_pki::Thumbprint;
use offsite_pki::tls::{self, ClientIdentity, Trust};
use offsite_proto::json::Json;
use offsite_proto::pairing::{Greet, UseCredentials, Validate};
use offsite_proto::text::{Text, Time};
use offsite_proto::version::ProtocolVersion;
use offsite_transport::{CallError, Connection, DialError, HostPort, Timeouts};
use serde::Serialize;

use crate::address;
use crate::config::Settings;
use crate::error::Trouble;
use crate::view::{refusal_hint, skew_words};

/// How a step went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// As it should.
    Ok,
    /// It works, and somebody should know something.
    Warning,
    /// It does not work.
    Failed,
}

/// What was found at one step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The step.
    pub step: String,
    /// How it went.
    pub verdict: Verdict,
    /// What was found.
    pub message: String,
    /// What to do; empty where nothing is to be done.
    pub hint: String,
}

impl Finding {
    /// A step that went as it should.
    #[must_use]
    pub fn ok(step: &str, message: impl Into<String>) -> Self {
        Self {
            step: step.to_owned(),
            verdict: Verdict::Ok,
            message: message.into(),
            hint: String::new(),
        }
    }

    /// A step after which somebody should know something.
    #[must_use]
    pub fn warning(step: &str, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            step: step.to_owned(),
            verdict: Verdict::Warning,
            message: message.into(),
            hint: hint.into(),
        }
    }

    /// A step that failed.
    #[must_use]
    pub fn failed(step: &str, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            step: step.to_owned(),
            verdict: Verdict::Failed,
            message: message.into(),
            hint: hint.into(),
        }
    }
}

/// Earlier than any release: a clock that shows it was never set.
const RELEASED: Timestamp = Timestamp::from_secs(1_735_689_600);

/// Looks at this machine's clock alone.
#[must_use]
pub fn clock(clock: &dyn Clock) -> Finding {
    let now = clock.now();
    let shown = Time(now);
    if now < RELEASED {
        let hint = "set the clock of this machine, by NTP for choice";
        return Finding::failed("clock", format!("this machine believes it is {shown}"), hint);
    }
    Finding::ok("clock", format!("{shown}"))
}

/// Takes the steps to a target. `pinned` is the remembered fingerprint of a target that this source
/// knows.
pub async fn reach(
    url: &str,
    pinned: Option<Thumbprint>,
    settings: &Settings,
    clock: &dyn Clock,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    let failed = steps(url, pinned, settings, clock, &mut findings).await.err();
    findings.extend(failed);
    findings
}

async fn steps(
    url: &str,
    pinned: Option<Thumbprint>,
    settings: &Settings,
    clock: &dyn Clock,
    found: &mut Vec<Finding>,
) -> Result<(), Finding> {
    let address = address::read(url).map_err(|trouble| from_trouble("address", trouble))?;
    let target: HostPort = address.parse().map_err(|error| {
        Finding::failed("address", format!("{error}"), "write https://HOST:PORT")
    })?;
    found.push(Finding::ok("address", address));
    let within = settings.connect_timeout.to_std();
    let addresses =
        tokio::time::timeout(within, tokio::net::lookup_host((target.host(), target.port())));
    let addresses: Vec<_> = match addresses.await {
        Ok(Ok(addresses)) => addresses.map(|address| address.ip().to_string()).collect(),
        Ok(Err(error)) => {
            let message = format!("the name {} has no address here: {error}", target.host());
            return Err(Finding::failed("name", message, "check the name and this machine's DNS"));
        }
        Err(_) => {
            let message = format!("no DNS server answered for {}", target.host());
            return Err(Finding::failed("name", message, "check this machine's DNS"));
        }
    };
    found.push(Finding::ok("name", addresses.join(" ")));
    let tcp = tokio::net::TcpStream::connect((target.host(), target.port()));
    match tokio::time::timeout(within, tcp).await {
        Ok(Ok(_)) => found.push(Finding::ok("tcp", format!("port {} is open", target.port()))),
        Ok(Err(error)) => {
            let message = format!("cannot connect to {target}: {error}");
            let hint = "is the target running, and is this its replication port? does a firewall \
                stand between?";
            return Err(Finding::failed("tcp", message, hint));
        }
        Err(_) => {
            let message = format!("{target} does not answer within {} seconds", within.as_secs());
            return Err(Finding::failed(
                "tcp",
                message,
                "wrong address, or a firewall drops the packets",
            ));
        }
    }
    let connection = shake_hands(&target, pinned, settings).await?;
    let seen = connection.peer().thumbprint();
    found.push(Finding::ok(
        "tls",
        match pinned {
            Some(_) => format!("TLS 1.3; the target's key is the remembered one, {seen}"),
            None => format!("TLS 1.3; the target's key is {seen}"),
        },
    ));
    speak(&connection, &target, clock, found).await
}

async fn shake_hands(
    target: &HostPort,
    pinned: Option<Thumbprint>,
    settings: &Settings,
) -> Result<Connection, Finding> {
    let trust = pinned.map_or(Trust::FirstSight, Trust::Pin);
    let tls = tls::client(ClientIdentity::None, trust)
        .map_err(|error| Finding::failed("tls", format!("{error}"), ""))?;
    let timeouts = Timeouts {
        connect: settings.connect_timeout.to_std(),
        handshake: settings.connect_timeout.to_std(),
        answer: settings.request_timeout.to_std(),
    };
    Connection::dial(target, &tls, &timeouts).await.map_err(|error| {
        let hint = match error {
            DialError::PinMismatch { .. } => {
                "ask the target's operator by telephone whether its key changed; see \
                    offsite-source pair status"
            }
            DialError::PlainHttp { .. } | DialError::NotTls { .. } => {
                "this is another program's port; ask the target's operator for the replication port"
            }
            _ => "is this the target's replication port? does a proxy stand between?",
        };
        Finding::failed("tls", error.to_string(), hint)
    })
}

async fn speak(
    connection: &Connection,
    target: &HostPort,
    clock: &dyn Clock,
    found: &mut Vec<Finding>,
) -> Result<(), Finding> {
    let validated = connection.call::<Validate>(&UseCredentials(false), &()).await;
    let Json(Text(core)) = validated.map_err(|error| not_offsite(target, &error))?.body;
    found.push(Finding::ok("offsite", format!("an Offsite target, id {core}")));
    let greeted = connection.call::<Greet>(&(), &()).await;
    let greeted = greeted.map_err(|error| not_offsite(target, &error))?;
    let date = greeted.headers.get("date").and_then(|date| date.to_str().ok().map(str::to_owned));
    let Json(summary) = greeted.body;
    let (min, max) = (summary.protocol_min, summary.protocol_max);
    if ProtocolVersion::negotiate(min, max).is_none() {
        let message = format!("the target speaks versions {min} to {max} of the protocol");
        let hint = refusal_hint(offsite_proto::error::ErrorCode::VersionUnsupported);
        return Err(Finding::failed("versions", message, hint));
    }
    found.push(Finding::ok(
        "versions",
        format!("target {}, protocol {min} to {max}", summary.version),
    ));
    found.push(match date.as_deref().and_then(Time::from_http_date) {
        None => Finding::warning("skew", "the target does not tell its time", ""),
        Some(Time(theirs)) => skew(theirs, clock.now(), target),
    });
    Ok(())
}

/// Compares the two clocks, to the second.
fn skew(theirs: Timestamp, ours: Timestamp, target: &HostPort) -> Finding {
    const TOLERATED_SECS: u64 = 86_400;
    const NOTABLE_SECS: u64 = 60;
    let ahead = theirs.as_secs().saturating_sub(ours.as_secs());
    match ahead.unsigned_abs() {
        secs if secs > TOLERATED_SECS => {
            let hint = "set the clock of whichever machine is wrong";
            Finding::failed("skew", skew_words(ahead, &target.to_string()), hint)
        }
        secs if secs > NOTABLE_SECS => Finding::warning(
            "skew",
            format!("the two clocks differ by {secs} seconds"),
            "set the clock of whichever machine is wrong",
        ),
        secs => Finding::ok("skew", format!("the two clocks differ by {secs} seconds")),
    }
}

fn not_offsite(target: &HostPort, error: &CallError) -> Finding {
    match error {
        CallError::Refused(refusal, _) => Finding::failed(
            "offsite",
            format!("{target} refuses: {}", refusal.message),
            refusal_hint(refusal.code),
        ),
        CallError::Transport { sentence, .. } => Finding::failed(
            "offsite",
            format!("what answers at {target} speaks TLS and is no Offsite target: {sentence}"),
            "ask the target's operator for the replication port",
        ),
    }
}

fn from_trouble(step: &str, trouble: Trouble) -> Finding {
    Finding::failed(step, trouble.message, trouble.hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_of_answers_are_read() {
        let date = Time::from_http_date("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
        assert_eq!(date.0.as_secs(), 784_111_777);
        assert_eq!(Time::from_http_date("yesterday"), None);
    }

    #[test]
    fn a_16_the_doctor_names_the_seconds() {
        let target: HostPort = "a:1".parse().unwrap();
        let now = Timestamp::from_secs(1_800_000_000);
        let at = |hours: i64| Timestamp::from_secs(now.as_secs() + hours * 3_600);
        assert_eq!(skew(at(0), now, &target).verdict, Verdict::Ok);
        assert_eq!(skew(at(24), now, &target).verdict, Verdict::Warning);
        for (hours, side) in [(25, "behind"), (-25, "ahead")] {
            let finding = skew(at(hours), now, &target);
            assert_eq!(finding.verdict, Verdict::Failed);
            assert!(
                finding.message.contains("90000 seconds") && finding.message.contains(side),
                "{finding:?}"
            );
        }
    }
}
