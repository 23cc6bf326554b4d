//! `init`: the data directory, the identity, and the key that the first pairing will use.

use offsite_daemon::{SystemClock, SystemLuck};
use offsite_model::{Clock, CoreId};
use offsite_source_core::memory::Identity;
use offsite_source_core::view::fingerprint;
use offsite_terminal::{Exit, Failure, facts};
use serde_json::json;

use crate::context::Context;
use crate::home::Home;

pub(crate) fn run(context: &Context, name: &str, lost: Option<CoreId>) -> Result<Exit, Failure> {
    // An id is a claim and no proof: what the lost source had is given by people at the target.
    let id = lost.unwrap_or_else(|| CoreId::random(&SystemLuck));
    let identity = Identity::new(id, name.to_owned(), SystemClock.now());
    let key = fingerprint(&Home::make(&context.data, &identity)?);
    let document = json!({ "source_id": id.to_string(), "fingerprint": key });
    context.out.result(&document, |_| {
        facts(&[
            ("source", Some(name.to_owned())),
            ("id", Some(id.to_string())),
            ("fingerprint", Some(key.clone())),
            ("directory", Some(context.data.display().to_string())),
            ("next", Some("offsite-source serve".to_owned())),
        ])
    })
}
