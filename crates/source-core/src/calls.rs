//! The real line to a target: TLS with a pin, typed calls, and what they brought in the machine's
//! words.
//!
//! Every call dials anew: the target ends the connection of a filed request, polls are far apart,
//! and a connection that is made again is a pin that is checked again. Calls that need no other's
//! answer share a connection and go together.
//!
//! **Absent:** when to call and what an answer leads to (the machine), keys on disk
//! ([`crate::install`]).

use std::sync::Arc;

use offsite_exchange::pairing::source::{
    Acceptance, Answer, Artifacts, Ask, Call, Failure, Shown, Status, Submission,
};
use offsite_exchange::pairing::{AgentDecision, PublicKey, Wish};
use offsite_model::{Clock, Luck, RequestId};
use offsite_pki::tls::{self, ClientIdentity, ClientTls, Trust};
use offsite_pki::{Certificate, PrivateKey, Thumbprint, request, self_signed};
use offsite_proto::endpoint::Endpoint;
use offsite_proto::error::ErrorCode;
use offsite_proto::json::{Json, Pem};
use offsite_proto::limits::NAME_BYTES_MAX;
use offsite_proto::pairing::{
    AddAgents, AgentDescription, AgentPairingState, AgentSync, CoreDescription,
    DeleteRecoveryPoints, FetchCertificate, FetchTargetCertificate, Greet, OfRequest, PairingSync,
    PollResolution, Resolution, ResolutionAnswer, Submit, SubmitRequest, Sync, Unpair,
    UseCredentials, Validate, VerifyAgents, VerifyPairing,
};
use offsite_proto::text::{Big, Text};
use offsite_proto::version::{ProductVersion, ProtocolVersion};
use offsite_transport::{CallError, Connection, DialError, HostPort, Timeouts};

use crate::config::Settings;
use crate::error::Trouble;
use crate::install::{Keys, spki};
use crate::line::{Line, Outcome, Speaker, Underway};
use crate::view::refusal_hint;

/// Longest sentence of a peer that is kept.
const SENTENCE_BYTES_MAX: usize = 1 << 10;

/// Calls over the network.
pub struct TlsLine {
    /// Private keys and installed certificates.
    pub keys: Keys,
    /// Dates self-signed certificates and measures the target's clock.
    pub clock: Arc<dyn Clock>,
    /// Serial numbers of self-signed certificates.
    pub luck: Arc<dyn Luck>,
    /// How long things may take.
    pub settings: Settings,
    /// Version of the program.
    pub version: ProductVersion,
}

impl Line for TlsLine {
    fn call(self: Arc<Self>, call: Call, speaker: Speaker) -> Underway {
        Box::pin(async move { self.make(call, &speaker).await.unwrap_or_else(Outcome::from) })
    }
}

/// A call that ended early: the failure, and what a person can do.
struct Early {
    failure: Failure,
    hint: String,
}

impl From<Early> for Outcome {
    fn from(early: Early) -> Self {
        Self { hint: early.hint, ..Self::plain(Err(early.failure)) }
    }
}

impl Early {
    fn unreadable(reason: impl Into<String>) -> Self {
        Self {
            failure: Failure::Unreadable { reason: bounded(reason.into()) },
            hint: "check that this is the replication port of an Offsite target; offsite-source \
                doctor URL looks at each step"
                .to_owned(),
        }
    }
}

impl TlsLine {
    async fn make(&self, call: Call, speaker: &Speaker) -> Result<Outcome, Early> {
        let connection = self.dial(&call).await?;
        // The handshake has compared the pin; the key that is remembered is the one it proved.
        let peer = PublicKey::from_der(connection.peer().as_der());
        let plain = |answer| Outcome::plain(Ok(answer));
        match call.ask {
            Ask::Meet(wish) => self.meet(&connection, speaker, &wish, peer).await,
            Ask::Submit(wish) => {
                self.submit(&connection, speaker, &call.key, wish).await.map(plain)
            }
            Ask::Renew(key) => {
                // What was wished for stands; a renewal asks for nothing new.
                self.submit(&connection, speaker, &key, no_wish()).await.map(plain)
            }
            Ask::Poll(request) => self.poll(&connection, request).await.map(plain),
            Ask::Fetch(request) => self.fetch(&connection, request).await.map(plain),
            Ask::Sync(request) => self.sync(&connection, speaker, request).await,
            Ask::Leave { delete_points } => {
                let params = DeleteRecoveryPoints(delete_points);
                ask::<Unpair>(&connection, &params, &()).await.map(|_| plain(Answer::Left))
            }
        }
    }

    async fn dial(&self, call: &Call) -> Result<Connection, Early> {
        let target: HostPort = call.target.parse().map_err(|error| Early {
            failure: Failure::Unreachable { reason: format!("{error}") },
            hint: String::new(),
        })?;
        let identity = self.identity(&call.key, call.shown).await.map_err(own_fault)?;
        let trust = match &call.pin {
            Some(pin) => Trust::Pin(spki(pin).map_err(own_fault)?.thumbprint()),
            None => Trust::FirstSight,
        };
        let tls = settings(&identity, trust).map_err(own_fault)?;
        let timeouts = Timeouts {
            connect: self.settings.connect_timeout.to_std(),
            handshake: self.settings.connect_timeout.to_std(),
            answer: self.settings.request_timeout.to_std(),
        };
        Connection::dial(&target, &tls, &timeouts).await.map_err(|error| not_dialled(&error))
    }

    /// The key and the certificate to show. Reading them blocks, so it happens off the runtime's
    /// threads.
    async fn identity(
        &self,
        key: &PublicKey,
        shown: Shown,
    ) -> Result<(PrivateKey, Certificate), Trouble> {
        let (keys, key) = (self.keys.clone(), key.clone());
        let (clock, luck) = (Arc::clone(&self.clock), Arc::clone(&self.luck));
        let read = tokio::task::spawn_blocking(move || match shown {
            Shown::Issued => keys.identity(&key),
            Shown::SelfSigned => {
                let private = keys.private(&key)?;
                let certificate = self_signed(&private, clock.now(), &*luck)
                    .map_err(|error| Trouble::us(format!("cannot sign a certificate: {error}")))?;
                Ok((private, certificate))
            }
        });
        read.await.map_err(|error| Trouble::us(format!("reading a key did not end: {error}")))?
    }

    /// Rows 59, 37, 49 and 51, all at once.
    async fn meet(
        &self,
        connection: &Connection,
        speaker: &Speaker,
        wish: &Wish,
        target_key: PublicKey,
    ) -> Result<Outcome, Early> {
        let anonymous = UseCredentials(false);
        let described = Json(self.describe(speaker));
        let agents = Json(AddAgents {
            agents: agents(wish),
            comments: wish.comments.clone(),
            customer_id: wish.customer_id.clone(),
            email_address: wish.email_address.clone(),
        });
        let (validated, greeted, can_pair, verdicts) = tokio::join!(
            ask::<Validate>(connection, &anonymous, &()),
            ask::<Greet>(connection, &(), &()),
            ask::<VerifyPairing>(connection, &anonymous, &described),
            ask::<VerifyAgents>(connection, &(), &agents),
        );
        let (Json(Text(core)), Json(target)) = (validated?.body, greeted?.body);
        let (Json(can_pair), Json(verdicts)) = (can_pair?.body, verdicts?.body);
        if target.id.0 != core || can_pair.slave_core_id.0 != core {
            return Err(Early::unreadable("it names itself by two different ids"));
        }
        if ProtocolVersion::negotiate(target.protocol_min, target.protocol_max).is_none() {
            let message = format!(
                "it speaks versions {} to {} of the protocol, this source {} to {}",
                target.protocol_min,
                target.protocol_max,
                ProtocolVersion::OLDEST.number(),
                ProtocolVersion::NEWEST.number()
            );
            return Err(refused(ErrorCode::VersionUnsupported, message));
        }
        if !can_pair.can_pair {
            let reason = can_pair.reasons.into_iter().next();
            let (code, message) = reason
                .map_or((ErrorCode::Forbidden, "it gives no reason".to_owned()), |reason| {
                    (reason.code, reason.message)
                });
            return Err(refused(code, message));
        }
        if let Some(verdict) = verdicts.into_iter().find(|verdict| !verdict.ok) {
            let why = verdict.message.unwrap_or_default();
            let message = format!("agent {}: {why}", verdict.agent_id);
            return Err(refused(verdict.code.unwrap_or(ErrorCode::BadRequest), message));
        }
        let is_older = target.version < self.version;
        let remark = is_older.then(|| {
            format!(
                "the target runs version {}, older than this source's {}",
                target.version, self.version
            )
        });
        let met = Answer::Met { target_key, target_core: core };
        Ok(Outcome { remark, ..Outcome::plain(Ok(met)) })
    }

    /// Row 44.
    async fn submit(
        &self,
        connection: &Connection,
        speaker: &Speaker,
        key: &PublicKey,
        wish: Wish,
    ) -> Result<Answer, Early> {
        let (keys, key) = (self.keys.clone(), key.clone());
        let made = tokio::task::spawn_blocking(move || {
            request::make(&keys.private(&key)?)
                .map_err(|error| Trouble::us(format!("cannot make a certificate request: {error}")))
        });
        let made =
            made.await.map_err(|error| Trouble::us(format!("{error}"))).and_then(|made| made);
        let body = Json(SubmitRequest {
            client_certificate: made.map_err(own_fault)?,
            master_core_info: self.describe(speaker),
            agents: agents(&wish),
            customer_id: wish.customer_id,
            email_address: wish.email_address,
            comments: wish.comments,
            use_seed_drive: wish.use_seed_drive,
            enrolment_code: wish.enrolment_code.map(|code| code.0),
        });
        let Json(submitted) = ask::<Submit>(connection, &(), &body).await?.body;
        let stated = from_hex(&submitted.target_public_key)
            .ok_or_else(|| Early::unreadable("it states a public key that is not hexadecimal"))?;
        Ok(Answer::Submitted(Submission {
            request: submitted.request_id.0,
            target_core: submitted.slave_core_id.0,
            stated_target_key: PublicKey::from_der(stated),
            poll_after_secs: submitted.poll_after_seconds,
            expires_at: submitted.expires_at.0,
        }))
    }

    /// P1.
    async fn poll(&self, connection: &Connection, request: RequestId) -> Result<Answer, Early> {
        let answer = ask::<PollResolution>(connection, &OfRequest { request }, &()).await?;
        let retry_after_secs = answer.retry_after;
        let Json(resolution) = answer.body;
        if resolution.request_id.0 != request {
            return Err(Early::unreadable("it answers about another request"));
        }
        match resolution.resolution {
            Resolution::Pending => Ok(Answer::Pending { retry_after_secs }),
            Resolution::Rejected => {
                Ok(Answer::Rejected { message: bounded(resolution.message.unwrap_or_default()) })
            }
            Resolution::Accepted => acceptance(resolution).map(Answer::Accepted),
            Resolution::Expired => Err(refused(ErrorCode::RequestUnknown, "it has expired")),
        }
    }

    /// P2 and P3.
    async fn fetch(&self, connection: &Connection, request: RequestId) -> Result<Answer, Early> {
        let of = OfRequest { request };
        let (own, target) = tokio::join!(
            ask::<FetchCertificate>(connection, &of, &()),
            ask::<FetchTargetCertificate>(connection, &of, &()),
        );
        let (Pem(certificate_pem), Pem(target_pem)) = (own?.body, target?.body);
        let certificate = Certificate::from_pem(&certificate_pem)
            .map_err(|error| Early::unreadable(format!("its certificate: {error}")))?;
        let (target, authority) = Certificate::pair_from_pem(&target_pem)
            .map_err(|error| Early::unreadable(format!("the target's certificate: {error}")))?;
        // Everything that installing checks is a fact here already, so that a fault is an alarm and
        // not a surprise.
        let is_signed_by_authority = certificate.is_signed_by(&authority)
            && target.is_signed_by(&authority)
            && authority.is_signed_by(&authority)
            && certificate.is_client_only()
            && certificate.subject().is_some();
        Ok(Answer::Fetched(Box::new(Artifacts {
            certificate_sha256: certificate.sha256(),
            target_certificate_sha256: target.sha256(),
            certificate_key: PublicKey::from_der(certificate.spki().as_der()),
            target_key: PublicKey::from_der(target.spki().as_der()),
            is_signed_by_authority,
            not_before: certificate.not_before(),
            not_after: certificate.not_after(),
            certificate_pem,
            target_pem,
        })))
    }

    /// Row 45.
    async fn sync(
        &self,
        connection: &Connection,
        speaker: &Speaker,
        request: Option<RequestId>,
    ) -> Result<Outcome, Early> {
        let agents = speaker.agents.iter().map(|id| AgentSync {
            id: Text(*id),
            agent_pairing_state: AgentPairingState::Unknown,
            paused: false,
            repository_id: None,
        });
        let body = Json(PairingSync {
            core_id: Text(speaker.core_id),
            host_name: speaker.name.clone(),
            version: self.version,
            request_id: request.map(Text),
            agents: agents.collect(),
        });
        let Json(status) = ask::<Sync>(connection, &(), &body).await?.body;
        let server_time = status.server_time.0;
        let skew_secs = server_time.as_secs().saturating_sub(self.clock.now().as_secs());
        let answer = Answer::Synced(Status {
            state: status.pairing_state,
            request: status.request_id.map(|id| id.0),
            message: status.message.map(bounded),
            server_time,
        });
        let target_name = status.slave_core_info.host_name.filter(|name| is_plain(name));
        Ok(Outcome { skew_secs: Some(skew_secs), target_name, ..Outcome::plain(Ok(answer)) })
    }

    fn describe(&self, speaker: &Speaker) -> CoreDescription {
        CoreDescription {
            host_name: speaker.name.clone(),
            id: Text(speaker.core_id),
            is_replication_only_repository_supported: false,
            version: self.version,
        }
    }
}

fn settings(identity: &(PrivateKey, Certificate), trust: Trust) -> Result<ClientTls, Trouble> {
    let (key, certificate) = identity;
    tls::client(ClientIdentity::Certified(key, certificate), trust)
        .map_err(|error| Trouble::us(format!("cannot prepare a connection: {error}")))
}

/// Makes a call; what stands in its way becomes the machine's failure.
async fn ask<E: Endpoint>(
    connection: &Connection,
    params: &E::Params,
    body: &E::Request,
) -> Result<offsite_transport::Answer<E::Response>, Early> {
    connection.call::<E>(params, body).await.map_err(|error| match error {
        CallError::Refused(refusal, _) => Early {
            failure: Failure::Refused {
                code: refusal.code,
                message: bounded(refusal.message),
                retry_after_secs: refusal.retry_after_secs,
            },
            hint: refusal_hint(refusal.code).to_owned(),
        },
        CallError::Transport { fault, sentence } => match fault {
            offsite_transport::Fault::Foreign | offsite_transport::Fault::Unbounded => {
                Early::unreadable(sentence)
            }
            _ => Early { failure: Failure::Unreachable { reason: sentence }, hint: String::new() },
        },
    })
}

/// A connection that was not made, sorted by what the machine must do.
fn not_dialled(error: &DialError) -> Early {
    let sentence = error.to_string();
    match error {
        DialError::PinMismatch { mismatch, .. } => Early {
            failure: Failure::TargetKeyChanged { seen: unseen_key(mismatch.found) },
            hint: String::new(),
        },
        DialError::PlainHttp { .. } | DialError::NotTls { .. } => Early::unreadable(sentence),
        _ => Early { failure: Failure::Unreachable { reason: sentence }, hint: String::new() },
    }
}

/// A key of which the handshake kept the fingerprint alone: enough to show it.
fn unseen_key(fingerprint: Thumbprint) -> PublicKey {
    PublicKey::from_der(fingerprint.as_bytes().to_vec())
}

/// Something of ours keeps us from calling; the target is not to blame, and trying again may help.
fn own_fault(trouble: Trouble) -> Early {
    Early { failure: Failure::Unreachable { reason: trouble.message }, hint: trouble.hint }
}

fn refused(code: ErrorCode, message: impl Into<String>) -> Early {
    let failure =
        Failure::Refused { code, message: bounded(message.into()), retry_after_secs: None };
    Early { failure, hint: refusal_hint(code).to_owned() }
}

fn acceptance(resolution: ResolutionAnswer) -> Result<Acceptance, Early> {
    let digest = |text: Option<String>| {
        text.as_deref()
            .and_then(from_hex)
            .and_then(|bytes| <[u8; 32]>::try_from(bytes).ok())
            .ok_or_else(|| Early::unreadable("it announces a certificate without its sha-256"))
    };
    let agents = resolution.agents.iter().map(|agent| AgentDecision {
        id: agent.id.0,
        is_accepted: !matches!(
            agent.agent_pairing_state,
            AgentPairingState::Denied | AgentPairingState::Deleted
        ),
    });
    Ok(Acceptance {
        message: resolution.message.map(bounded),
        certificate_sha256: digest(resolution.certificate_sha256)?,
        target_certificate_sha256: digest(resolution.target_certificate_sha256)?,
        agents: agents.collect(),
    })
}

fn agents(wish: &Wish) -> Vec<AgentDescription> {
    let described = wish.agents.iter().map(|agent| AgentDescription {
        id: Text(agent.id),
        display_name: agent.display_name.clone(),
        host_name: agent.host_name.clone(),
        logical_bytes: Big(agent.logical_bytes),
    });
    described.collect()
}

const fn no_wish() -> Wish {
    Wish {
        agents: Vec::new(),
        customer_id: String::new(),
        email_address: String::new(),
        comments: String::new(),
        use_seed_drive: false,
        enrolment_code: None,
    }
}

/// Bytes from hexadecimal digits of either case.
fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> = text
        .chars()
        .map(|digit| digit.to_digit(16).and_then(|digit| u8::try_from(digit).ok()))
        .collect();
    let digits = digits.filter(|digits| digits.len().is_multiple_of(2))?;
    Some(
        digits
            .chunks(2)
            .map(|pair| pair.iter().fold(0_u8, |byte, digit| (byte << 4) | digit))
            .collect(),
    )
}

/// Whether a peer's name for itself may be shown and typed; any other is not kept.
fn is_plain(name: &str) -> bool {
    !name.trim().is_empty() && name.len() <= NAME_BYTES_MAX && !name.chars().any(char::is_control)
}

/// A sentence of a peer, cut where it is longer than anybody reads.
fn bounded(mut text: String) -> String {
    if text.len() > SENTENCE_BYTES_MAX {
        let end =
            (0..=SENTENCE_BYTES_MAX).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        text.truncate(end);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hexadecimal_is_read_whole_or_not_at_all() {
        assert_eq!(from_hex("00fFa1"), Some(vec![0, 255, 161]));
        for text in ["0", "0g", "0x00", " 00", "é0"] {
            assert_eq!(from_hex(text), None, "{text}");
        }
    }

    #[test]
    fn a_long_sentence_is_cut_between_characters() {
        let cut = bounded("é".repeat(SENTENCE_BYTES_MAX));
        assert!(cut.len() <= SENTENCE_BYTES_MAX && cut.chars().all(|letter| letter == 'é'));
    }
}
