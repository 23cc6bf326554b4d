//! `verify`: reads everything in the store; ends with the exit code for damage where there is some.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use offsite_daemon::SystemFiles;
use offsite_store::{Damage, Store, StoreError, VerifyReport};
use offsite_target_core::content::refusal;
use serde_json::json;

use super::offline::{self, Stop};
use crate::cli::Verify;
use crate::context::Context;
use crate::exit::{not_built, refused};
use crate::place::STORE;
use offsite_terminal::{Exit, Failure, size, visible};

/// Damaged parts that are named; more than these are counted.
const PARTS_MAX: usize = 1_000;

/// Runs it.
pub(crate) async fn run(context: &Context, asked: Verify) -> Result<Exit, Failure> {
    if !asked.offline {
        return Err(not_built("verify without --offline"));
    }
    if asked.agent.is_some() {
        return Err(not_built("verify AGENT"));
    }
    let data = context.data.clone();
    let report = offline::work(move |stop| verify(&data, stop)).await?;
    context.out.result(&document(&report), |_| text(&report))?;
    Ok(if report.damage.is_empty() { Exit::Done } else { Exit::Damaged })
}

fn verify(data: &Path, stop: &Stop) -> Result<VerifyReport, Failure> {
    let _directory = offline::take(data)?;
    let files = Arc::new(SystemFiles);
    let settings = offsite_store::Settings::default();
    let failed = |error: StoreError| -> Failure { refused(refusal(&error)) };
    let store = Store::open_read_only(files, &data.join(STORE), settings).map_err(failed)?;
    let verified = store.verify(&mut |_, _| match stop.is_wished() {
        true => ControlFlow::Break(()),
        false => ControlFlow::Continue(()),
    });
    verified.map_err(failed)
}

fn affected(report: &VerifyReport) -> BTreeSet<String> {
    let points = report.damage.iter().flat_map(|damage| &damage.points);
    points.map(|(_, point)| point.to_string()).collect()
}

fn document(report: &VerifyReport) -> serde_json::Value {
    let points = |damage: &Damage| -> Vec<String> {
        damage.points.iter().map(|(_, point)| point.to_string()).collect()
    };
    let parts = report.damage.iter().take(PARTS_MAX);
    let parts: Vec<_> =
        parts.map(|damage| json!({ "what": damage.what, "points": points(damage) })).collect();
    json!({
        "records": report.n_records,
        "groups": report.n_groups,
        "points": report.n_points,
        "bytes": report.bytes,
        "damaged": report.damage.len(),
        "damage": parts,
        "points_affected": affected(report),
    })
}

fn text(report: &VerifyReport) -> String {
    let VerifyReport { n_records, n_points, bytes, damage, .. } = report;
    let mut lines =
        vec![format!("{n_records} records of {n_points} recovery points read, {}", size(*bytes))];
    match damage.len() {
        0 => lines.push("everything is as it was written".to_owned()),
        n => lines.push(format!("{n} damaged parts")),
    }
    for part in damage.iter().take(PARTS_MAX) {
        let hurt = match part.points.as_slice() {
            [] => "hurts no recovery point".to_owned(),
            [(_, first), rest @ ..] => {
                format!("hurts {} recovery points, such as {first}", rest.len() + 1)
            }
        };
        lines.push(format!("  {}: {hurt}", visible(&part.what)));
    }
    lines.extend(affected(report).iter().map(|point| format!("cannot be restored whole: {point}")));
    lines.join("\n")
}
