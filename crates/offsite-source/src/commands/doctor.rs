//! `doctor`: the data directory, the clock and the way to the target; works with and without a
//! daemon.

use offsite_daemon::SystemClock;
use offsite_proto::admin::source::{ListPairings, Pairing, ReadStatus};
use offsite_proto::admin::upkeep::Upkeep;
use offsite_proto::json::Json;
use offsite_source_core::address;
use offsite_source_core::config::Settings;
use offsite_source_core::doctor::{Finding, Verdict, clock, reach};
use offsite_terminal::{Exit, Failure, table};
use serde_json::json;

use crate::context::Context;
use crate::home::Home;

pub(crate) async fn run(context: &Context, url: Option<&str>) -> Result<Exit, Failure> {
    let mut findings = Vec::new();
    let pairings = look_at_home(context, &mut findings).await;
    findings.push(clock(&SystemClock));
    let named = url.map(|url| vec![url.to_owned()]);
    let known = || pairings.iter().filter_map(|pairing| pairing.address.clone()).collect();
    for target in named.unwrap_or_else(known) {
        let label = address::read(&target).unwrap_or_default();
        let pin = pairings
            .iter()
            .rfind(|pairing| pairing.address.as_deref() == Some(&label))
            .and_then(|pairing| pairing.target_fingerprint.as_deref()?.parse().ok());
        findings.extend(reach(&target, pin, &Settings::shipped(), &SystemClock).await);
    }
    let is_well = findings.iter().all(|finding| finding.verdict != Verdict::Failed);
    let document = json!({ "ok": is_well, "findings": findings });
    context.out.result(&document, |_| text(&findings))?;
    Ok(if is_well { Exit::Done } else { Exit::Failed })
}

/// Asks the daemon; where none is running, opens the directory itself and looks.
async fn look_at_home(context: &Context, findings: &mut Vec<Finding>) -> Vec<Pairing> {
    let shown = context.data.display();
    match context.ask::<ListPairings>(&(), &()).await {
        Ok(Json(pairings)) => {
            findings.push(Finding::ok(
                "data directory",
                format!("{shown}, in use by the running daemon"),
            ));
            if let Ok(Json(status)) = context.ask::<ReadStatus>(&(), &()).await {
                findings.extend(upkeep(&status.upkeep));
            }
            pairings
        }
        Err(failure) if failure.exit == Exit::NotRunning => {
            findings.push(match Home::open(&context.data) {
                Ok(_) => Finding::ok("data directory", format!("{shown}")),
                Err(failure) => Finding::failed("data directory", failure.message, failure.hint),
            });
            let hint = "start it with: offsite-source serve";
            findings.push(Finding::warning("daemon", "no daemon is running", hint));
            Vec::new()
        }
        Err(failure) => {
            findings.push(Finding::failed("daemon", failure.message, failure.hint));
            Vec::new()
        }
    }
}

/// What upkeep found lately.
fn upkeep(upkeep: &Upkeep) -> Vec<Finding> {
    let scrubs = [upkeep.scrubbing.as_ref(), upkeep.scrubbed.as_ref()];
    let damaged = scrubs.into_iter().flatten().find(|scrub| scrub.damaged > 0);
    let scrub = match (damaged, &upkeep.scrubbed) {
        (Some(damaged), _) => {
            let found = format!("{} damaged parts, since {}", damaged.damaged, damaged.began_at);
            let hint = "see what is hurt with: offsite-source verify; replicating heals it";
            Finding::failed("damage", found, hint)
        }
        (None, None) => Finding::ok("damage", "the store was not scrubbed yet"),
        (None, Some(last)) => {
            let ended = last.ended_at.map_or_else(String::new, |at| at.to_string());
            Finding::ok("damage", format!("none was found by the scrub that ended {ended}"))
        }
    };
    let doubts = upkeep.collected.as_ref().map_or(0, |last| last.doubts);
    let space = (doubts > 0).then(|| {
        let hint = "see why in the log of the daemon, or with: offsite-source gc";
        Finding::warning("space", "the last collection could not free what is garbage", hint)
    });
    [Some(scrub), space].into_iter().flatten().collect()
}

fn text(findings: &[Finding]) -> String {
    let rows = findings.iter().flat_map(|finding| {
        let word = match finding.verdict {
            Verdict::Ok => "ok",
            Verdict::Warning => "warning",
            Verdict::Failed => "FAILED",
        };
        let found = [finding.step.clone(), word.to_owned(), finding.message.clone()];
        // What to do about it stands in a line of its own.
        let hint = (!finding.hint.is_empty()).then(|| finding.hint.clone());
        [Some(found), hint.map(|hint| [String::new(), String::new(), hint])].into_iter().flatten()
    });
    table(["STEP", "", "FOUND"], rows)
}
