//! `pair request`: ends when the request is filed and the check code is known.

use offsite_proto::admin::source::{FileRequest, RequestPairing};
use offsite_proto::json::Json;

use super::text;
use crate::cli::Request;
use crate::context::Context;
use crate::exit::Failure;

pub(crate) async fn run(context: &Context, request: Request) -> Result<(), Failure> {
    let Request { url, agents, customer, email, comment, enrolment_code } = request;
    let spinner = context.out.spinner("asking the target");
    let order =
        RequestPairing { url, agents, customer_id: customer, email, comment, enrolment_code };
    let asked = context.ask::<FileRequest>(&(), &Json(order)).await;
    spinner.finish_and_clear();
    let Json(pairing) = asked?;
    context.out.result(&pairing, || text(&pairing))
}
