//! `pair status`.

use offsite_proto::admin::source::{ReadPairing, ShowPairing};
use offsite_proto::json::Json;

use super::text;
use crate::context::Context;
use crate::exit::Failure;

pub(crate) async fn run(context: &Context, target: Option<String>) -> Result<(), Failure> {
    let Json(pairing) =
        context.ask::<ReadPairing>(&ShowPairing { target, after: None }, &()).await?;
    context.out.result(&pairing, || text(&pairing))
}
