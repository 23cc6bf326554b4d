//! `storage report`: a table, or CSV.

use offsite_proto::admin::report::{REPORT, StorageReport, TenantUsage};
use offsite_terminal::{Exit, Failure, size, table};

use crate::context::Context;
use crate::watch::follow;

/// Runs it.
pub(crate) async fn run(context: &Context, csv: bool) -> Result<Exit, Failure> {
    let report: StorageReport = follow(context, &REPORT, &()).await?;
    context.out.result(&report, |report| if csv { as_csv(report) } else { text(report) })
}

/// A line of the report: whose, points, logical, and the bytes that add up.
struct Line {
    names: [String; 3],
    points: String,
    logical: Option<u64>,
    bytes: u64,
    shared: Option<u64>,
}

fn lines(tenant: &TenantUsage) -> Vec<Line> {
    let of_agent = |agent: &offsite_proto::admin::report::AgentUsage| Line {
        names: [tenant.tenant.clone(), agent.source.clone(), agent.agent.clone()],
        points: agent.points.to_string(),
        logical: Some(agent.logical_bytes.0),
        bytes: agent.exclusive_bytes.0,
        shared: Some(agent.shared_bytes.0),
    };
    let mut lines: Vec<Line> = tenant.agents.iter().map(of_agent).collect();
    let rests = [
        ("(shared by several)", tenant.shared_bytes.0),
        ("(lists)", tenant.list_bytes.0),
        ("(needed by no point)", tenant.other_bytes.0),
    ];
    lines.extend(rests.into_iter().map(|(what, bytes)| Line {
        names: [tenant.tenant.clone(), String::new(), what.to_owned()],
        points: String::new(),
        logical: None,
        bytes,
        shared: None,
    }));
    lines
}

fn text(report: &StorageReport) -> String {
    let shown = |bytes: Option<u64>| bytes.map_or_else(String::new, size);
    let rows = report.tenants.iter().flat_map(lines).map(|line| {
        let [tenant, source, agent] = line.names;
        let (logical, shared) = (shown(line.logical), shown(line.shared));
        [tenant, source, agent, line.points, logical, size(line.bytes), shared]
    });
    let head = ["TENANT", "SOURCE", "AGENT", "POINTS", "LOGICAL", "ITS OWN", "SHARED"];
    let mut parts = vec![table(head, rows)];
    for tenant in &report.tenants {
        let (name, bytes) = (&tenant.tenant, size(tenant.bytes.0));
        let of = tenant
            .quota_bytes
            .map_or_else(String::new, |quota| format!(" of a quota of {}", size(quota.0)));
        parts.push(format!("tenant {name}: {bytes}{of}"));
    }
    if let Some(store) = &report.store {
        let (bytes, free) = (size(store.bytes.0), size(store.bytes_free.0));
        parts.push(format!("in all: {bytes}, {free} free"));
        parts.push(match &store.forecast {
            None => "when it is full cannot be told, or it does not grow".to_owned(),
            Some(forecast) => format!(
                "full in {} days, at {} a day; {} sure, from {} days",
                forecast.full_in_days,
                size(forecast.bytes_per_day.0),
                forecast.sure,
                forecast.days_seen
            ),
        });
    }
    parts.join("\n")
}

fn as_csv(report: &StorageReport) -> String {
    let mut rows = vec!["tenant,source,agent,points,logical_bytes,bytes,shared_bytes".to_owned()];
    for line in report.tenants.iter().flat_map(lines) {
        let number = |bytes: Option<u64>| bytes.map_or_else(String::new, |n| n.to_string());
        let [tenant, source, agent] = line.names.map(|name| cell(&name));
        let (points, logical, shared) = (line.points, number(line.logical), number(line.shared));
        let bytes = line.bytes;
        rows.push(format!("{tenant},{source},{agent},{points},{logical},{bytes},{shared}"));
    }
    rows.join("\n")
}

/// A name as a cell. One that a spreadsheet would take for a formula is told to be a text.
fn cell(name: &str) -> String {
    let guard = if name.starts_with(['=', '+', '-', '@', '\t']) { "'" } else { "" };
    format!("\"{guard}{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_no_formula_and_no_second_cell() {
        assert_eq!(cell("web"), "\"web\"");
        assert_eq!(cell("=cmd|' /C calc'!A0"), "\"'=cmd|' /C calc'!A0\"");
        assert_eq!(cell("a\",\"b"), "\"a\"\",\"\"b\"");
    }
}
