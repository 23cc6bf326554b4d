//! State, fingerprint, and a look at everything that commonly goes wrong.

use std::path::Path;
use std::sync::Arc;

use offsite_model::{Clock as _, Span, Timestamp};
use offsite_proto::admin::target::{
    Alarm, Check, Fingerprint, ReadFingerprint, ReadStatus, RunDoctor, Status,
};
use offsite_proto::error::Refusal;
use offsite_proto::json::Json;
use offsite_proto::text::{Text, Time};
use offsite_transport::{Call, Reply};

use super::context::{Operators, answer};
use super::show;
use crate::accept::source_object;
use crate::audit::Event;
use crate::authority::sees;
use crate::principal::{Principal, TenantScope};
use crate::{audit, storage_list};

/// Less free space than this in a storage is told.
const BYTES_FREE_MIN: u64 = 10 << 30;
/// How long an alarm is shown, how many at most, and how many entries of the log are looked at.
const ALARM_SHOWN_FOR: Span = Span::from_days(7);
const ALARMS_MAX: usize = 20;
const ALARM_ENTRIES: usize = 1_000;
/// A certificate of ours that ends sooner than this is told, in days.
const CERTIFICATE_DAYS_MIN: u64 = 30;

/// The daemon, at a glance.
pub(super) async fn status(
    state: Arc<Operators>,
    call: Call<ReadStatus, Principal>,
) -> Result<Reply<Json<Status>>, Refusal> {
    answer(state, move |state| {
        let target = &state.target;
        let peers = target.register().peers()?;
        let sources = peers.iter().filter(|row| row.place.is_some());
        Ok(Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime_seconds: uptime(state),
            state: "serving".to_owned(),
            target_id: Text(target.identity().core),
            name: target.settings().name.clone(),
            pairing_open: target.register().is_open(target.now()),
            requests_waiting: target.pending_for(&call.principal)?.len(),
            sources: sources.filter(|row| sees(&call.principal, &source_object(row))).count(),
            // What is counted is that of all tenants.
            upkeep: match call.principal.tenants() {
                TenantScope::All => target.upkeep().ok(),
                _ => None,
            },
            alarms: alarms(state, &call.principal.tenants())?,
        })
    })
    .await
}

/// The alarms of the last days.
fn alarms(state: &Operators, scope: &TenantScope) -> Result<Vec<Alarm>, Refusal> {
    let newest = state.read(|rows| Ok(audit::newest(rows, scope, ALARM_ENTRIES)?))?;
    let words: Vec<&str> = Event::ALARMS.iter().map(|event| event.as_str()).collect();
    let now = state.target.now();
    let is_alarm = |entry: &&audit::Kept| {
        let at = Timestamp::from_micros(entry.at_micros);
        words.contains(&entry.event.as_str()) && now < at + ALARM_SHOWN_FOR
    };
    let alarm = |entry: &audit::Kept| Alarm {
        at: Time(Timestamp::from_micros(entry.at_micros)),
        what: entry.event.clone(),
        facts: show::facts(&entry.facts),
    };
    Ok(newest.iter().filter(is_alarm).take(ALARMS_MAX).map(alarm).collect())
}

fn uptime(state: &Operators) -> u64 {
    let now = state.target.world().clock.uptime();
    now.as_secs().saturating_sub(state.started.as_secs())
}

/// How a source's operator recognises this target.
pub(super) async fn fingerprint(
    state: Arc<Operators>,
    _: Call<ReadFingerprint, Principal>,
) -> Result<Reply<Json<Fingerprint>>, Refusal> {
    let identity = state.target.identity();
    Ok(Reply::new(Json(Fingerprint {
        target_id: Text(identity.core),
        name: state.target.settings().name.clone(),
        fingerprint: identity.certificate.thumbprint().to_string(),
    })))
}

/// A look at everything that commonly goes wrong.
pub(super) async fn doctor(
    state: Arc<Operators>,
    call: Call<RunDoctor, Principal>,
) -> Result<Reply<Json<Vec<Check>>>, Refusal> {
    answer(state, move |state| {
        let scope = call.principal.tenants();
        let mut checks = vec![clock(state), certificate(state), chain(state, &scope)];
        checks.extend(retention_clock(state));
        checks.extend(storages(state, &scope)?);
        if scope.is_unbounded() {
            checks.push(damage(state));
        }
        let target = &state.target;
        let open = target.register().is_open(target.now());
        checks.push(Check {
            name: "pairing".to_owned(),
            ok: true,
            finding: if open { "newcomers may ask" } else { "closed for newcomers" }.to_owned(),
        });
        Ok(checks)
    })
    .await
}

fn check(name: &str, wrong: Option<String>, well: impl Into<String>) -> Check {
    let ok = wrong.is_none();
    Check { name: name.to_owned(), ok, finding: wrong.unwrap_or_else(|| well.into()) }
}

/// Our own certificate was made in the past, so a clock before it is wrong for certain.
fn clock(state: &Operators) -> Check {
    let now = state.target.now();
    let made = state.target.identity().authority.certificate().not_before();
    let wrong = (now < made).then(|| {
        format!("the clock says {}, before this target was made: set the clock", Time(now))
    });
    check("clock", wrong, Time(now).to_string())
}

/// The clock that locks go by; none while there is no store.
fn retention_clock(state: &Operators) -> Option<Check> {
    let retention = state.target.retention().ok()?;
    let (paused_until, owed) = retention
        .time
        .look(|clock| (clock.is_paused().then(|| clock.paused_until()), clock.owed()));
    let days_owed = owed.as_secs() / 86_400;
    let wrong = match paused_until {
        Some(until) => Some(format!(
            "the system's clock was set back: nothing is removed before {} of this clock",
            Time(until)
        )),
        None if days_owed > 0 => Some(format!(
            "it is {days_owed} days late, so locks end late: see offsite-target retention show"
        )),
        None => None,
    };
    Some(check("retention clock", wrong, Time(retention.time.now()).to_string()))
}

fn certificate(state: &Operators) -> Check {
    let ends = state.target.identity().certificate.not_after();
    let left = ends.since(state.target.now()).as_secs() / 86_400;
    let wrong = (left < CERTIFICATE_DAYS_MIN).then(|| {
        format!("the target's certificate ends in {left} days: restart the daemon, which renews it")
    });
    check("certificate", wrong, format!("good until {}", Time(ends)))
}

fn chain(state: &Operators, scope: &TenantScope) -> Check {
    let (wrong, well) = match audit::verify(&**state.target.catalog()) {
        // How much others do is no business of an account that is bound to tenants.
        Ok(audit::Verified { first_bad: None, .. }) if !scope.is_unbounded() => {
            (None, "the chain is whole".to_owned())
        }
        Ok(audit::Verified { n_entries, first_bad: None }) => {
            (None, format!("{n_entries} entries"))
        }
        Ok(audit::Verified { first_bad: Some(number), .. }) => {
            (Some(format!("entry {number} was changed or removed")), String::new())
        }
        Err(cause) => (Some(cause.to_string()), String::new()),
    };
    check("audit log", wrong, well)
}

/// What the last scrub found, and what the one that goes on has found so far.
fn damage(state: &Operators) -> Check {
    let upkeep = match state.target.upkeep() {
        Ok(upkeep) => upkeep,
        Err(cause) => return check("damage", Some(cause.to_string()), ""),
    };
    let scrubs = [upkeep.scrubbing.as_ref(), upkeep.scrubbed.as_ref()];
    let damaged = scrubs.into_iter().flatten().find(|scrub| scrub.damaged > 0);
    let wrong = damaged.map(|scrub| {
        let (n, since) = (scrub.damaged, scrub.began_at);
        format!("{n} damaged parts since {since}: see offsite-target verify; sources heal it")
    });
    let well = match upkeep.scrubbed.and_then(|scrub| scrub.ended_at) {
        Some(ended) => format!("none was found by the scrub that ended {ended}"),
        None => "the store was not scrubbed yet".to_owned(),
    };
    check("damage", wrong, well)
}

fn storages(state: &Operators, scope: &TenantScope) -> Result<Vec<Check>, Refusal> {
    let storages = state.read(|rows| storage_list::list(rows))?;
    let files = &state.target.world().files;
    Ok(storages
        .iter()
        .map(|storage| {
            let name = format!("storage {}", storage.name);
            match files.bytes_free(Path::new(&storage.path)) {
                Ok(free) => {
                    let low = free < BYTES_FREE_MIN;
                    let told = storage_list::told_bytes(scope, free);
                    let wrong = low.then(|| format!("only {} MiB are free", told >> 20));
                    check(&name, wrong, format!("{} GiB free", free >> 30))
                }
                Err(cause) => check(&name, Some(format!("{}: {cause}", storage.path)), ""),
            }
        })
        .collect())
}
