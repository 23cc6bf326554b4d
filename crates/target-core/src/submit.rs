//! Row 44: a source asks to be paired, asks again, or renews its certificate.
//!
//! Everything is checked before anything is stored: the TLS key is the key of the certificate
//! request (or, for a renewal, that of the pairing, which the gate has judged), the request is
//! signed by its own key, every text is within bounds. A full table refuses newcomers and evicts
//! nobody.
//!
//! **Absent:** the decision (`accept`), rates per address (transport).

use std::net::{IpAddr, Ipv4Addr};

use offsite_exchange::pairing::target::{self as machine, Input, Reply};
use offsite_exchange::pairing::{Asked, EnrolmentCode, PublicKey, Wish, WishedAgent};
use offsite_model::{CoreId, Digest, RequestId};
use offsite_pki::{Spki, request};
use offsite_proto::error::{ErrorCode, Refusal};
use offsite_proto::limits::{CSR_BYTES_MAX, NAME_BYTES_MAX, REQUEST_AGENTS_MAX};
use offsite_proto::pairing::{AgentDescription, SubmitRequest};
use offsite_transport::{Origin, PeerKey, Place};

use crate::Target;
use crate::accounts::enrolment;
use crate::drive::draw_serial;
use crate::failure::Failure;
use crate::names::{COMMENT_BYTES_MAX, check_name, check_text};
use crate::peers::tables::{Arrival, PeerRow};
use crate::peers::{KeyThumbprint, Step, network_of};
use crate::principal::Principal;

/// Seconds after which a refused newcomer should come back.
const BUSY_SECS: u32 = 30;
/// Bytes of an enrolment code as a person types it.
const CODE_BYTES_MAX: usize = 128;

/// A submission whose form is good.
pub(crate) struct Submission {
    spki: Spki,
    asked: Asked,
    code: Option<String>,
    address: String,
    network: Vec<u8>,
}

impl Submission {
    /// Reads what was submitted.
    ///
    /// # Errors
    /// `bad_request` that says what is wrong with it.
    pub(crate) fn read(body: SubmitRequest, origin: &Origin) -> Result<Self, Refusal> {
        let bad = |why: String| Refusal::new(ErrorCode::BadRequest, why);
        if body.client_certificate.len() > CSR_BYTES_MAX {
            let why = format!("the certificate request is longer than {CSR_BYTES_MAX} bytes");
            return Err(bad(why));
        }
        let spki = request::read(&body.client_certificate)
            .map_err(|why| bad(why.to_string()))?
            .into_spki();
        let core = body.master_core_info;
        check_name("the name of the source", &core.host_name)?;
        check_agents(&body.agents)?;
        for (field, text, bytes_max) in [
            ("the customer id", &body.customer_id, NAME_BYTES_MAX),
            ("the e-mail address", &body.email_address, NAME_BYTES_MAX),
            ("the comment", &body.comments, COMMENT_BYTES_MAX),
        ] {
            check_text(field, text, bytes_max)?;
        }
        if body.enrolment_code.as_ref().is_some_and(|code| code.len() > CODE_BYTES_MAX) {
            return Err(bad("the enrolment code is too long to be one".to_owned()));
        }
        let wish = Wish {
            agents: body.agents.into_iter().map(wished).collect(),
            customer_id: body.customer_id,
            email_address: body.email_address,
            comments: body.comments,
            use_seed_drive: body.use_seed_drive,
            // A digest of it: enough to tell another code, and nothing that could be used again.
            enrolment_code: body
                .enrolment_code
                .as_ref()
                .map(|code| EnrolmentCode(Digest::of(code.as_bytes()).to_string())),
        };
        let asked =
            Asked { core_id: core.id.0, host_name: core.host_name, version: core.version, wish };
        let address = address_of(origin);
        let network = network_of(address);
        Ok(Self { spki, asked, code: body.enrolment_code, address: address.to_string(), network })
    }

    fn key(&self) -> PublicKey {
        PublicKey::from_der(self.spki.as_der())
    }

    fn thumbprint(&self) -> KeyThumbprint {
        *self.spki.thumbprint().as_bytes()
    }
}

fn address_of(origin: &Origin) -> IpAddr {
    match origin.address {
        Place::Network(address) => address.to_canonical(),
        Place::Local { .. } => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
    }
}

/// The network a caller is counted under.
pub(crate) fn network_of_origin(origin: &Origin) -> Vec<u8> {
    network_of(address_of(origin))
}

/// Checks the agents of a request or of a dry run.
///
/// # Errors
/// `bad_request` that says what is wrong with them.
pub(crate) fn check_agents(agents: &[AgentDescription]) -> Result<(), Refusal> {
    let bad = |why: String| Err(Refusal::new(ErrorCode::BadRequest, why));
    if agents.len() > REQUEST_AGENTS_MAX {
        return bad(format!("more than {REQUEST_AGENTS_MAX} agents are asked for"));
    }
    let mut ids: Vec<_> = agents.iter().map(|agent| agent.id.0).collect();
    ids.sort_unstable();
    ids.dedup();
    if ids.len() != agents.len() {
        return bad("an agent stands twice in the request".to_owned());
    }
    agents.iter().try_for_each(check_agent)
}

/// Checks the texts of one agent.
///
/// # Errors
/// `bad_request` that says what is wrong with it.
pub(crate) fn check_agent(agent: &AgentDescription) -> Result<(), Refusal> {
    check_name("the name of an agent", &agent.display_name)?;
    check_text("the host name of an agent", &agent.host_name, NAME_BYTES_MAX)
}

fn wished(agent: AgentDescription) -> WishedAgent {
    WishedAgent {
        id: agent.id.0,
        display_name: agent.display_name,
        host_name: agent.host_name,
        logical_bytes: agent.logical_bytes.0,
    }
}

impl Target {
    /// A stranger's or an enrolling source's submission.
    ///
    /// # Errors
    /// `unauthenticated` where the handshake's key is not the request's, `already_exists` for a key
    /// that is used up, `busy` where the budget for newcomers is used up.
    pub(crate) fn submit(
        &self,
        principal: &Principal,
        peer: &PeerKey,
        submission: &Submission,
    ) -> Result<Reply, Refusal> {
        if peer.spki != submission.spki {
            return Err(Refusal::new(
                ErrorCode::Unauthenticated,
                "the certificate request holds another key than the connection's",
            ));
        }
        self.advance_with(principal, |step| {
            let fresh = RequestId::random(&*self.world().luck);
            let rules = self.settings().rules();
            if let Some(row) = step.peer_of_key(&submission.thumbprint())? {
                // Lapsed, and not swept away yet: as if it had never been.
                if !self.has_lapsed(&row) {
                    let input = Input::Submit { asked: submission.asked.clone(), fresh };
                    return self.stepped(row, input);
                }
                step.remove_peer(&row)?;
            }
            let row = self.newcomer(step, principal, submission)?;
            let asked = submission.asked.clone();
            let at = self.moment();
            let turned = machine::Target::submitted(submission.key(), asked, fresh, at, &rules);
            Ok((PeerRow { machine: turned.row.clone(), ..row }, turned))
        })
    }

    fn has_lapsed(&self, row: &PeerRow) -> bool {
        match row.machine.stage() {
            machine::Stage::Pending(pending) => self.now() >= pending.expires_at,
            _ => false,
        }
    }

    /// A row for a key that was never seen, if there is room for one.
    fn newcomer(
        &self,
        step: &mut Step<'_>,
        principal: &Principal,
        submission: &Submission,
    ) -> Result<PeerRow, Failure> {
        let tenant = match &submission.code {
            None => None,
            Some(code) => {
                let deed = self.deed(principal);
                enrolment::redeem(step.rows(), &deed, code, &submission.thumbprint())?
            }
        };
        self.budget(&submission.network, tenant.is_some())?;
        let rules = self.settings().rules();
        let fresh = RequestId::random(&*self.world().luck);
        let asked = submission.asked.clone();
        let blank =
            machine::Target::submitted(submission.key(), asked, fresh, self.moment(), &rules);
        Ok(PeerRow {
            number: step.next_number()?,
            machine: blank.row,
            arrival: Arrival {
                address: submission.address.clone(),
                network: submission.network.clone(),
                tenant: tenant.map(Into::into),
            },
            place: None,
            generation: 0,
            last_seen: None,
        })
    }

    /// Whether there is room for one more newcomer. All of them together have a fixed budget;
    /// nobody is ever put out.
    ///
    /// # Errors
    /// `busy` where there is none.
    pub(crate) fn budget(&self, network: &[u8], with_code: bool) -> Result<(), Refusal> {
        let settings = &self.settings().pairing;
        let counts = self.register().pending(network);
        let without_code = counts.in_all.saturating_sub(counts.with_code);
        let for_all = settings.pending_max.saturating_sub(settings.reserved_for_codes);
        let is_full = counts.in_all >= settings.pending_max
            || (!with_code
                && (without_code >= for_all || counts.here >= settings.pending_per_address_max));
        if is_full {
            return Err(busy());
        }
        Ok(())
    }

    /// A paired source's submission: a new certificate, granted without an operator.
    ///
    /// # Errors
    /// `already_exists` for a key that belongs to something else.
    pub(crate) fn renew(
        &self,
        principal: &Principal,
        subject: CoreId,
        by: &PeerKey,
        submission: &Submission,
    ) -> Result<Reply, Refusal> {
        let reply = self.advance(principal, |step| {
            let row = step.peer_of_subject(subject)?.ok_or_else(not_paired)?;
            // The machine knows its own keys; that no other row knows this one is the register's
            // word.
            let other = step.peer_of_key(&submission.thumbprint())?;
            if other.is_some_and(|other| other.number != row.number) {
                return Err(Failure::refused(
                    ErrorCode::AlreadyExists,
                    "this key is in use already; renew with a new one",
                ));
            }
            let input = Input::Renew {
                by: PublicKey::from_der(by.spki.as_der()),
                key: submission.key(),
                fresh: RequestId::random(&*self.world().luck),
                serial: draw_serial(&*self.world().luck),
            };
            Ok((row, input))
        })?;
        Ok(reply)
    }
}

pub(crate) fn busy() -> Refusal {
    let sentence = "too many requests to pair are waiting; come back later";
    Refusal::new(ErrorCode::Busy, sentence).after(BUSY_SECS)
}

pub(crate) fn not_paired() -> Failure {
    Failure::refused(ErrorCode::NotPaired, "this key is bound to no pairing")
}
