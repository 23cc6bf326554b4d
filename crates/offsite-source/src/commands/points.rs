//! Verbs about recovery points.

use offsite_model::PointId;
use offsite_proto::admin::protection::{
    DeletePoint, ListPoints, OfAgent, OfDeletion, OfPoint, Point, ShowPoint,
};
use offsite_proto::json::Json;
use offsite_terminal::{Exit, Failure, facts, size, table};

use crate::context::Context;

pub(crate) async fn list(context: &Context, name: String) -> Result<Exit, Failure> {
    let Json(points) = context.ask::<ListPoints>(&OfAgent(name), &()).await?;
    context.out.result(&points, |points| {
        if points.is_empty() {
            return "no recovery points; make one with: offsite-source protect NAME".to_owned();
        }
        let rows = points.iter().map(|point| {
            [
                point.id.to_string(),
                point.created_at.to_string(),
                size(point.logical_bytes.0),
                size(point.new_bytes.0),
                point.state.clone(),
            ]
        });
        table(["POINT", "MADE", "SIZE", "NEW", "STATE"], rows)
    })
}

pub(crate) async fn show(context: &Context, point: &str) -> Result<Exit, Failure> {
    let Json(point) = context.ask::<ShowPoint>(&OfPoint(id(point)?), &()).await?;
    context.out.result(&point, text)
}

pub(crate) async fn delete(context: &Context, point: &str, yes: bool) -> Result<Exit, Failure> {
    let point = id(point)?;
    if !yes {
        let Json(shown) = context.ask::<ShowPoint>(&OfPoint(point), &()).await?;
        if !shown.lacking.is_empty() {
            confirm(context, &shown)?;
        }
    }
    // Whoever was asked knows; what became of it since, the daemon knows.
    let Json(point) = context.ask::<DeletePoint>(&OfDeletion { point, sure: true }, &()).await?;
    context.out.result(&point, |point| {
        format!(
            "recovery point {} is deleted; its space comes back with: offsite-source gc",
            point.id
        )
    })
}

/// Asks before the only copy goes.
fn confirm(context: &Context, point: &Point) -> Result<(), Failure> {
    let lacking = point.lacking.join(", ");
    let refused = |message: String| {
        let hint = "replicate it first, or delete it all the same with: --yes";
        Failure::new(Exit::Refused, "not_replicated", message, hint)
    };
    let id = point.id;
    if !context.out.is_conversation() {
        return Err(refused(format!("recovery point {id} is not yet at {lacking}")));
    }
    let question = format!(
        "Recovery point {id} of agent {} is not yet at {lacking}.\nDelete it for good? Type yes: ",
        point.agent
    );
    let typed = context.out.ask(&question);
    let typed = typed.map_err(|error| Failure::failed(format!("cannot ask: {error}")))?;
    match typed.trim() {
        "yes" => Ok(()),
        _ => Err(refused(format!("recovery point {id} stays"))),
    }
}

fn id(text: &str) -> Result<PointId, Failure> {
    text.parse().map_err(|_| {
        Failure::new(
            Exit::Unknown,
            "point_unknown",
            format!("there is no recovery point {}", text.escape_debug()),
            "see them with: offsite-source points list NAME",
        )
    })
}

fn text(point: &Point) -> String {
    let mut lines = vec![
        ("point", Some(point.id.to_string())),
        ("agent", Some(point.agent.clone())),
        ("made", Some(point.created_at.to_string())),
        ("state", Some(point.state.clone())),
        ("size", Some(size(point.logical_bytes.0))),
        ("new", Some(size(point.new_bytes.0))),
        ("lacking at", Some(point.lacking.join(", ")).filter(|lacking| !lacking.is_empty())),
    ];
    lines.extend(point.volumes.iter().map(|volume| {
        let (label, bytes, digest) = (&volume.label, size(volume.bytes.0), volume.digest);
        ("volume", Some(format!("{label}, {bytes}, {digest}")))
    }));
    facts(&lines)
}
