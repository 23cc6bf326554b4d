//! `pair request`: ends when the request is filed and the check code is known.

use offsite_proto::admin::source::{FileRequest, RequestPairing};
use offsite_proto::json::Json;
use offsite_terminal::{Exit, Failure};

use super::text;
use crate::cli::Request;
use crate::context::Context;

pub(crate) async fn run(context: &Context, request: Request) -> Result<Exit, Failure> {
    let Request { url, agents, customer, email, comment, enrolment_code } = request;
    let spinner = context.out.spinner("asking the target");
    let order =
        RequestPairing { url, agents, customer_id: customer, email, comment, enrolment_code };
    let asked = context.ask::<FileRequest>(&(), &Json(order)).await;
    drop(spinner);
    let Json(pairing) = asked?;
    context.out.result(&pairing, text)
}
