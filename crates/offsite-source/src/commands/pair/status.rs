//! `pair status`.

use offsite_proto::admin::source::{ReadPairing, ShowPairing};
use offsite_proto::json::Json;
use offsite_terminal::{Exit, Failure};

use super::text;
use crate::context::Context;

pub(crate) async fn run(context: &Context, target: Option<String>) -> Result<Exit, Failure> {
    let Json(pairing) =
        context.ask::<ReadPairing>(&ShowPairing { target, after: None }, &()).await?;
    context.out.result(&pairing, text)
}
