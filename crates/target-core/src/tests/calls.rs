//! Any row of the table as a call, with what came of it.

use http::HeaderValue;
use offsite_model::{AgentId, Luck};
use offsite_proto::endpoint::{Listener, Method, Row, Segment, Values};
use offsite_proto::error::{ErrorCode, Refusal};
use offsite_proto::rows;
use offsite_transport::{CallError, Connection, Outgoing};

/// What came of a call: its success, or its refusal with the status, without the number of the
/// request.
pub(super) type Outcome = Result<u16, (u16, Refusal)>;

/// The rows of the replication listener, each path and method once.
pub(super) fn replication_rows() -> Vec<&'static Row> {
    let mut found: Vec<&'static Row> = Vec::new();
    for row in rows::ALL.iter().filter(|row| row.listener != Listener::Operator) {
        if !found.iter().any(|other| other.path == row.path && other.method == row.method) {
            found.push(row);
        }
    }
    found
}

/// Values for the path of a row: random ids, ones for numbers.
pub(super) fn values(row: &Row, luck: &dyn Luck) -> Values {
    let mut values = Values::new();
    for segment in row.segments() {
        if let Segment::Parameter(name) = segment {
            let value = match name {
                "epochNumber" | "skipCount" | "maxCount" | "dataSize" => "1".to_owned(),
                "fileName" => "driver.dll".to_owned(),
                _ => AgentId::random(luck).to_string(),
            };
            values.insert(name, value);
        }
    }
    if row.query.contains(&"commit") {
        values.insert("commit", "false");
    }
    values
}

pub(super) async fn call(connection: &Connection, row: &Row, values: &Values) -> Outcome {
    let json = HeaderValue::from_static("application/json");
    let body = match row.method {
        Method::Get | Method::Delete => Outgoing::empty(),
        Method::Post | Method::Put if row.request_bytes_max == 0 => Outgoing::empty(),
        Method::Post | Method::Put => Outgoing::whole("{}"),
    };
    match connection.stream(row, values, json, body, 1 << 20).await {
        Ok(answer) => {
            let status = answer.status;
            let _body = answer.body.whole().await;
            Ok(status)
        }
        Err(CallError::Refused(refusal, status)) => Err((status, masked(refusal))),
        Err(other) => panic!("row {} failed on the way: {other}", row.id),
    }
}

/// The refusal without the one thing that differs from call to call.
pub(super) fn masked(mut refusal: Refusal) -> Refusal {
    if let Some(facts) = &mut refusal.detail {
        let number = facts.remove("requestId").expect("a refusal without its number");
        assert_eq!(number.as_str().map(str::len), Some(16));
    }
    refusal
}

/// The code of an outcome; none where the call went through or failed on its own merits behind the
/// gate.
pub(super) fn gate_word(outcome: &Outcome) -> Option<ErrorCode> {
    let word = outcome.as_ref().err().map(|(_, refusal)| refusal.code)?;
    matches!(
        word,
        ErrorCode::Unauthenticated
            | ErrorCode::NotPaired
            | ErrorCode::PairingPending
            | ErrorCode::PairingDenied
            | ErrorCode::Forbidden
            | ErrorCode::RouteUnknown
            | ErrorCode::RequestUnknown
    )
    .then_some(word)
}
