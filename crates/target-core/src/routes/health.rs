//! N10: liveness. It says that this process answers, and nothing about it.

use std::sync::Arc;

use offsite_proto::error::Refusal;
use offsite_proto::json::PlainText;
use offsite_proto::operator::Healthz;
use offsite_transport::{Call, Reply};

use crate::principal::Principal;

/// N10.
pub(super) async fn healthz<S>(
    _: Arc<S>,
    _: Call<Healthz, Principal>,
) -> Result<Reply<PlainText>, Refusal> {
    Ok(Reply::new(PlainText("ok".to_owned())))
}
