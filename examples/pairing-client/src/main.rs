//! Pairs with an Offsite target by request, written against `offsite-proto` alone.
//!
//! It shows everything another implementation of a source must do: make a key, show it in the
//! handshake, file the request, print the check code, poll, verify and keep the certificates, and
//! speak mutual TLS. It blocks and speaks HTTP/1.1 by hand, so that nothing hides behind a
//! framework.
//!
//! ```text
//! pairing-client HOST:PORT NAME DIRECTORY [ENROLMENT-CODE]
//! ```

mod http;
mod tls;

use std::error::Error;
use std::path::Path;
use std::time::Duration;

use offsite_proto::endpoint::Endpoint;
use offsite_proto::error::ErrorCode;
use offsite_proto::json::Json;
use offsite_proto::model::{AgentId, CoreId};
use offsite_proto::pairing::{
    AgentDescription, CheckCode, CoreDescription, FetchCertificate, FetchTargetCertificate, Greet,
    OfRequest, PairingSync, PollResolution, Resolution, Submit, SubmitRequest, Sync,
    UseCredentials, Validate, VerifyPairing,
};
use offsite_proto::text::{Big, Text};
use offsite_proto::version::{ProductVersion, ProtocolVersion};

use crate::http::{Answer, Connection};
use crate::tls::{Identity, TargetKey};

type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (address, name, directory, code) = match &arguments[..] {
        [address, name, directory] => (address, name, directory, None),
        [address, name, directory, code] => (address, name, directory, Some(code.clone())),
        _ => {
            eprintln!("usage: pairing-client HOST:PORT NAME DIRECTORY [ENROLMENT-CODE]");
            std::process::exit(2);
        }
    };
    if let Err(error) = pair(address, name, Path::new(directory), code) {
        eprintln!("cannot pair with {address}: {error}");
        std::process::exit(1);
    }
}

fn pair(address: &str, name: &str, directory: &Path, code: Option<String>) -> Outcome<()> {
    let identity = Identity::generate()?;
    let me = CoreDescription {
        host_name: name.to_owned(),
        id: Text(CoreId::from_bytes(tls::random_bytes()?)),
        is_replication_only_repository_supported: false,
        version: ProductVersion::from_package(env!("CARGO_PKG_VERSION")),
    };

    // The key seen first is the one that every later connection must show again.
    let (target_key, request) = {
        let (mut connection, target_key) = Connection::open(address, &identity, None)?;
        greet(&mut connection, &me)?;
        let request = submit(&mut connection, &identity, &me, name, code)?;
        if request.target_public_key != target_key.hex() {
            return Err("the target names another key than the one it showed".into());
        }
        (target_key, request)
    };
    let code = CheckCode::of(target_key.spki(), &identity.spki(), request.request_id.0);
    println!("check code {code}");

    let of_request = OfRequest { request: request.request_id.0 };
    let accepted = poll(address, &identity, &target_key, of_request, request.poll_after_seconds)?;
    let (certificate, target_certificate) = {
        let (mut connection, _) = Connection::open(address, &identity, Some(&target_key))?;
        let certificate = ok(connection.call::<FetchCertificate>(&of_request, &())?)?.0;
        let target = ok(connection.call::<FetchTargetCertificate>(&of_request, &())?)?.0;
        (certificate, target)
    };
    tls::check_sha256(&certificate, accepted.certificate_sha256.as_deref())?;
    tls::check_sha256(&target_certificate, accepted.target_certificate_sha256.as_deref())?;
    let paired = identity.with_certificate(&certificate)?;

    std::fs::create_dir_all(directory)?;
    std::fs::write(directory.join("key.pem"), paired.key_pem())?;
    std::fs::write(directory.join("certificate.pem"), &certificate)?;
    std::fs::write(directory.join("target.pem"), &target_certificate)?;

    let (mut connection, _) = Connection::open(address, &paired, Some(&target_key))?;
    let state = PairingSync {
        core_id: me.id,
        host_name: name.to_owned(),
        version: me.version,
        request_id: Some(request.request_id),
        agents: Vec::new(),
    };
    let Json(status) = ok(connection.call::<Sync>(&(), &Json(state))?)?;
    println!("pairing {:?}", status.pairing_state);
    Ok(())
}

fn ok<T>(answer: Answer<T>) -> Outcome<T> {
    answer.result.map_err(Into::into)
}

/// Rows 59, 37 and 49: is this a target, does it speak our version, can we pair.
fn greet(connection: &mut Connection, me: &CoreDescription) -> Outcome<()> {
    let anonymous = UseCredentials(false);
    let Json(Text(core)) = ok(connection.call::<Validate>(&anonymous, &())?)?;
    let Json(summary) = ok(connection.call::<Greet>(&(), &())?)?;
    if ProtocolVersion::negotiate(summary.protocol_min, summary.protocol_max).is_none() {
        let (min, max) = (summary.protocol_min, summary.protocol_max);
        return Err(format!("the target speaks versions {min} to {max} and we do not").into());
    }
    let Json(verdict) = ok(connection.call::<VerifyPairing>(&anonymous, &Json(me.clone()))?)?;
    for reason in &verdict.reasons {
        eprintln!("{}: {}", reason.code, reason.message);
    }
    if !verdict.can_pair {
        return Err("these two cores cannot pair".into());
    }
    println!("target {core}, version {}", summary.version);
    Ok(())
}

/// Row 44: the target closes the connection after the answer.
fn submit(
    connection: &mut Connection,
    identity: &Identity,
    me: &CoreDescription,
    name: &str,
    enrolment_code: Option<String>,
) -> Outcome<offsite_proto::pairing::Submitted> {
    let request = SubmitRequest {
        client_certificate: identity.certificate_request()?,
        master_core_info: me.clone(),
        agents: vec![AgentDescription {
            id: Text(AgentId::from_bytes(tls::random_bytes()?)),
            display_name: format!("{name}-agent"),
            host_name: name.to_owned(),
            logical_bytes: Big(0),
        }],
        customer_id: String::new(),
        email_address: String::new(),
        comments: "from the example client".to_owned(),
        use_seed_drive: false,
        enrolment_code,
    };
    let Json(submitted) = ok(connection.call::<Submit>(&(), &Json(request))?)?;
    Ok(submitted)
}

/// P1 until somebody has decided.
fn poll(
    address: &str,
    identity: &Identity,
    target_key: &TargetKey,
    of_request: OfRequest,
    first_pause_secs: u32,
) -> Outcome<offsite_proto::pairing::ResolutionAnswer> {
    let mut pause_secs = first_pause_secs;
    loop {
        std::thread::sleep(Duration::from_secs(pause_secs.clamp(1, 60).into()));
        let (mut connection, _) = Connection::open(address, identity, Some(target_key))?;
        let answer = connection.call::<PollResolution>(&of_request, &())?;
        pause_secs = answer.retry_after_secs.unwrap_or(60);
        match answer.result {
            Ok(Json(resolved)) => match resolved.resolution {
                Resolution::Pending => {}
                Resolution::Accepted => return Ok(resolved),
                Resolution::Rejected | Resolution::Expired => {
                    let message = resolved.message.unwrap_or_default();
                    return Err(format!("the operator of the target rejected: {message:?}").into());
                }
            },
            Err(refusal) if refusal.code == ErrorCode::RequestUnknown => {
                return Err(format!("nobody answered: {refusal}").into());
            }
            Err(refusal) if refusal.retryable => eprintln!("{}: {refusal}", PollResolution::ROW.id),
            Err(refusal) => return Err(refusal.into()),
        }
    }
}
