//! Verbs about recovery points.

use offsite_model::PointId;
use offsite_proto::admin::target::{
    DeletePoint, ListPoints, OfAgent, OfPoint, Point, PurgePoint, ShowPoint, UndeletePoint,
};
use offsite_proto::json::Json;
use offsite_terminal::{Exit, Failure, facts, size, table};

use super::approvals;
use crate::cli::Points;
use crate::context::Context;

/// Runs them.
pub(crate) async fn run(context: &Context, verb: Points) -> Result<Exit, Failure> {
    match verb {
        Points::List { agent } => list(context, agent).await,
        Points::Show { point } => {
            let Json(point) = context.ask::<ShowPoint>(&OfPoint(id(&point)?), &()).await?;
            context.out.result(&point, text)
        }
        Points::Delete { point } => {
            let Json(point) = context.ask::<DeletePoint>(&OfPoint(id(&point)?), &()).await?;
            context.out.result(&point, text)
        }
        Points::Undelete { point } => {
            let Json(point) = context.ask::<UndeletePoint>(&OfPoint(id(&point)?), &()).await?;
            context.out.result(&point, text)
        }
        Points::Purge { point } => {
            let Json(approval) = context.ask::<PurgePoint>(&OfPoint(id(&point)?), &()).await?;
            context.out.result(&approval, approvals::waiting)
        }
    }
}

async fn list(context: &Context, agent: String) -> Result<Exit, Failure> {
    let Json(points) = context.ask::<ListPoints>(&OfAgent(agent), &()).await?;
    context.out.result(&points, |points| {
        if points.is_empty() {
            return "no recovery points yet".to_owned();
        }
        let rows = points.iter().map(|point| {
            [
                point.id.to_string(),
                point.created_at.to_string(),
                point.received_at.to_string(),
                size(point.logical_bytes.0),
                size(point.new_bytes.0),
                point.state.clone(),
            ]
        });
        table(["POINT", "MADE", "RECEIVED", "SIZE", "NEW", "STATE"], rows)
    })
}

fn id(text: &str) -> Result<PointId, Failure> {
    text.parse().map_err(|_| {
        Failure::new(
            Exit::Unknown,
            "point_unknown",
            format!("there is no recovery point {}", text.escape_debug()),
            "see them with: offsite-target points list AGENT",
        )
    })
}

fn text(point: &Point) -> String {
    let mut lines = vec![
        ("point", Some(point.id.to_string())),
        ("agent", Some(format!("{} ({})", point.agent, point.agent_id))),
        ("made", Some(point.created_at.to_string())),
        ("received", Some(point.received_at.to_string())),
        ("state", Some(point.state.clone())),
        ("deleted", point.deleted_at.map(|at| at.to_string())),
        ("removed for good", point.purge_at.map(|at| at.to_string())),
        ("locked until", point.locked_until.map(|at| at.to_string())),
        ("times", point.time_odd.then(|| "made and received more than a day apart".to_owned())),
        ("waits for", (!point.waits_for.is_empty()).then(|| point.waits_for.join("; "))),
        ("size", Some(size(point.logical_bytes.0))),
        ("new", Some(size(point.new_bytes.0))),
    ];
    lines.extend(point.volumes.iter().map(|volume| {
        let (label, bytes, digest) = (&volume.label, size(volume.bytes.0), volume.digest);
        ("volume", Some(format!("{label}, {bytes}, {digest}")))
    }));
    facts(&lines)
}
