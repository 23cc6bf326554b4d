//! `pair code`: the check code alone, for reading aloud and for scripts.

use offsite_proto::admin::source::{ReadPairing, ShowPairing};
use offsite_proto::json::Json;
use offsite_terminal::{Exit, Failure};
use serde_json::json;

use crate::context::Context;

pub(crate) async fn run(context: &Context, target: Option<String>) -> Result<Exit, Failure> {
    let Json(pairing) =
        context.ask::<ReadPairing>(&ShowPairing { target, after: None }, &()).await?;
    let Some(code) = pairing.check_code else {
        return Err(Failure::new(
            Exit::Unknown,
            "request_unknown",
            format!("there is no check code: the pairing is {}", pairing.state.as_str()),
            "a code exists while the target's operator has to decide",
        ));
    };
    context.out.result(&json!({ "check_code": code, "target": pairing.target }), |_| code.clone())
}
