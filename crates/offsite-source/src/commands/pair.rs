//! Verbs about pairings, and how a pairing is shown.

pub(crate) mod code;
pub(crate) mod renew;
pub(crate) mod request;
pub(crate) mod reset;
pub(crate) mod retry;
pub(crate) mod status;
pub(crate) mod wait;
pub(crate) mod withdraw;

use offsite_proto::admin::source::Pairing;
use offsite_terminal::facts;

/// A pairing for people.
pub(crate) fn text(pairing: &Pairing) -> String {
    let agents = (!pairing.agents.is_empty()).then(|| pairing.agents.join(" "));
    let renewing = pairing.renewing.then(|| "a renewal is under way".to_owned());
    let skew = pairing.clock_skew_seconds.filter(|skew| skew.unsigned_abs() >= 5);
    facts(&[
        ("target", pairing.target.clone()),
        ("address", pairing.address.clone()),
        ("state", Some(pairing.state.as_str().to_owned())),
        ("connection", Some(pairing.connection.as_str().to_owned())),
        ("check code", pairing.check_code.clone()),
        ("message", pairing.message.clone()),
        ("next", pairing.next.clone()),
        ("agents", agents),
        ("target id", pairing.target_id.map(|id| id.to_string())),
        ("target key", pairing.target_fingerprint.clone()),
        ("own key", pairing.fingerprint.clone()),
        ("expires", pairing.expires_at.map(|at| at.to_string())),
        ("certificate", pairing.certificate_ends_at.map(|at| format!("valid until {at}"))),
        ("renewal", renewing),
        ("clock", skew.map(|skew| format!("differs from the target's by {skew} seconds"))),
        ("last answer", pairing.last_answer_at.map(|at| at.to_string())),
    ])
}
