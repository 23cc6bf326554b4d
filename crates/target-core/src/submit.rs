//! Row 44: a source asks to be paired, asks again, or renews its certificate.
//!
//! Everything is checked before anything is stored: the TLS key is the key of the certificate request (or, for a renewal,
//! that of the pairing, which the gate has judged), the request is signed by its own key, every text is within bounds. A
//! full table refuses newcomers and evicts nobody.
//!
//! **Absent:** the decision (`accept`), rates per address (transport).

use std::net::IpAddr;

use offsite_model::{CoreId, Digest, RequestId};
use offsite_pki::request;
use offsite_pki::{Spki, Thumbprint};
use offsite_proto::error::{ErrorCode, Refusal};
use offsite_proto::limits::{CSR_BYTES_MAX, NAME_BYTES_MAX, REQUEST_AGENTS_MAX};
use offsite_proto::pairing::{AgentDescription, SubmitRequest};
use offsite_store::catalog::{TypedRows, Value, encode_value};
use offsite_transport::{Origin, PeerKey, Place};

use crate::Target;
use crate::audit::{self, Event};
use crate::names::{COMMENT_BYTES_MAX, check_name, check_text};
use crate::peers::tables::{
    Acceptance, AgentRow, CODES, CodeRow, Content, KeyRow, PairingRow, REQUESTS, RequestRow, RequestState,
};
use crate::peers::{KeyThumbprint, Register, RegisterError, Step, network_of};
use crate::principal::Principal;

/// Seconds after which a refused newcomer should come back.
const BUSY_SECS: u32 = 30;
/// Bytes of an enrolment code, in its text form.
const CODE_BYTES: std::ops::RangeInclusive<usize> = 22..=128;

/// A submission whose form is good.
pub(crate) struct Submission {
    spki: Spki,
    thumbprint: Thumbprint,
    content: Content,
    digest: [u8; 32],
    code: Option<[u8; 32]>,
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
            return Err(bad(format!("the certificate request is longer than {CSR_BYTES_MAX} bytes")));
        }
        let spki = request::read(&body.client_certificate)
            .map_err(|why| bad(why.to_string()))?
            .into_spki();
        let core = &body.master_core_info;
        check_name("the name of the source", &core.host_name)?;
        check_agents(&body.agents)?;
        for (field, text, bytes_max) in [
            ("the customer id", &body.customer_id, NAME_BYTES_MAX),
            ("the e-mail address", &body.email_address, NAME_BYTES_MAX),
            ("the comment", &body.comments, COMMENT_BYTES_MAX),
        ] {
            check_text(field, text, bytes_max)?;
        }
        let code = match &body.enrolment_code {
            None => None,
            Some(code) if CODE_BYTES.contains(&code.len()) => Some(hash_of_code(code)),
            Some(_) => return Err(bad("the enrolment code has not the length of one".to_owned())),
        };
        let version = core.version;
        let content = Content {
            core: core.id.0.into(),
            name: core.host_name.clone(),
            version: [version.major, version.minor, version.build, version.revision],
            agents: body.agents.into_iter().map(agent_row).collect(),
            customer_id: body.customer_id,
            email: body.email_address,
            comments: body.comments,
            use_seed_drive: body.use_seed_drive,
        };
        let digest = digest_of(&spki, &content)?;
        let (address, network) = match origin.address {
            Place::Network(address) => (address.to_canonical().to_string(), network_of(address)),
            Place::Local { .. } => ("local".to_owned(), network_of(IpAddr::from([0, 0, 0, 0]))),
        };
        let thumbprint = spki.thumbprint();
        Ok(Self { spki, thumbprint, content, digest, code, address, network })
    }

    fn thumbprint(&self) -> KeyThumbprint {
        *self.thumbprint.as_bytes()
    }
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

fn agent_row(agent: AgentDescription) -> AgentRow {
    AgentRow {
        id: agent.id.0.into(),
        name: agent.display_name,
        host: agent.host_name,
        logical_bytes: agent.logical_bytes.0,
    }
}

/// The hash under which an enrolment code is known.
#[must_use]
pub fn hash_of_code(code: &str) -> [u8; 32] {
    *Digest::of(code.as_bytes()).as_bytes()
}

/// What an approval is bound to: the key and everything the operator is shown.
fn digest_of(spki: &Spki, content: &Content) -> Result<[u8; 32], Refusal> {
    let mut bytes = encode_value(REQUESTS, content).map_err(RegisterError::from)?;
    bytes.extend_from_slice(spki.as_der());
    bytes.extend_from_slice(&(spki.as_der().len() as u64).to_le_bytes());
    Ok(*Digest::of(&bytes).as_bytes())
}

impl Value for Content {
    const VERSION: u8 = 1;
    const BYTES_MAX: usize = 512 << 10;
}

impl Target {
    /// A stranger's or an enrolling source's submission.
    ///
    /// # Errors
    /// `unauthenticated` where the handshake's key is not the request's, `already_exists` for a key that is used up,
    /// `busy` where the budget for newcomers is used up.
    pub(crate) fn submit(
        &self,
        principal: &Principal,
        peer: &PeerKey,
        submission: Submission,
    ) -> Result<RequestRow, Refusal> {
        if peer.spki != submission.spki {
            return Err(Refusal::new(
                ErrorCode::Unauthenticated,
                "the certificate request holds another key than the connection's",
            ));
        }
        let submission = &submission;
        Ok(self.register().step(|step| self.submit_in(step, principal, submission))?)
    }

    fn submit_in(
        &self,
        step: &mut Step<'_>,
        principal: &Principal,
        submission: &Submission,
    ) -> Result<RequestRow, RegisterError> {
        let now = self.now();
        let thumbprint = submission.thumbprint();
        let earlier = step.key(&thumbprint)?;
        let request = match earlier {
            None => None,
            Some(KeyRow { request: Some(request), .. }) => step.request(request.0)?,
            Some(KeyRow { request: None, .. }) => return Err(used_up(None).into()),
        };
        let mut request = match request {
            None if earlier.is_some() => return Err(used_up(None).into()),
            None => self.newcomer(step, submission)?,
            Some(request) if request.state == RequestState::Pending && now < request.expires_at.0 => {
                request
            }
            // Lapsed, and not swept away yet: as if it had never been.
            Some(request) if request.state == RequestState::Pending => {
                step.remove_request(&request)?;
                self.newcomer(step, submission)?
            }
            Some(request) => return Err(used_up(Some(request.id.0)).into()),
        };
        let is_new = earlier.is_none() || request.created_at.0 == now;
        let is_locked = request.wrong_codes >= self.settings().pairing.wrong_codes_max;
        if !is_new && !is_locked && request.digest == submission.digest {
            return Ok(request);
        }
        request.content = submission.content.clone();
        request.digest = submission.digest;
        request.address.clone_from(&submission.address);
        if is_locked {
            request.wrong_codes = 0;
            step.rename_request(&mut request, RequestId::random(&*self.world().luck))?;
        } else {
            step.put_request(&request)?;
        }
        step.put_key(thumbprint, KeyRow { request: Some(request.id), subject: None })?;
        let facts = [
            ("request", request.id.0.to_string()),
            ("number", request.number.to_string()),
            ("claims", request.content.core.0.to_string()),
            ("name", request.content.name.clone()),
            ("address", request.address.clone()),
            ("n_agents", request.content.agents.len().to_string()),
        ];
        let entry = audit::Entry {
            at: now,
            principal,
            tenant: request.tenant.map(|tenant| tenant.0),
            event: Event::RequestSubmitted,
            facts: &facts,
        };
        audit::record(step.rows(), &entry)?;
        Ok(request)
    }

    /// A row for a key that was never seen, if there is room for one.
    fn newcomer(
        &self,
        step: &mut Step<'_>,
        submission: &Submission,
    ) -> Result<RequestRow, RegisterError> {
        let now = self.now();
        let code = match &submission.code {
            None => None,
            Some(hash) => {
                let row: Option<CodeRow> = step.rows().value(CODES, hash)?;
                row.filter(|code| now < code.expires_at.0)
            }
        };
        self.budget(self.register(), &submission.network, code.is_some())?;
        let settings = &self.settings().pairing;
        Ok(RequestRow {
            id: RequestId::random(&*self.world().luck).into(),
            number: step.next_number()?,
            renews: None,
            spki: submission.spki.as_der().to_vec(),
            thumbprint: submission.thumbprint(),
            content: submission.content.clone(),
            digest: submission.digest,
            address: submission.address.clone(),
            network: submission.network.clone(),
            with_code: code.is_some(),
            tenant: code.and_then(|code| code.tenant),
            created_at: now.into(),
            expires_at: (now + settings.request_life).into(),
            wrong_codes: 0,
            state: RequestState::Pending,
        })
    }

    /// Whether there is room for one more newcomer. All of them together have a fixed budget; nobody is ever put out.
    pub(crate) fn budget(
        &self,
        register: &Register,
        network: &[u8],
        with_code: bool,
    ) -> Result<(), Refusal> {
        let settings = &self.settings().pairing;
        let counts = register.pending(network);
        let without_code = counts.in_all.saturating_sub(counts.with_code);
        let is_full = if with_code {
            counts.in_all >= settings.pending_max
        } else {
            without_code >= settings.pending_max.saturating_sub(settings.reserved_for_codes)
                || counts.in_all >= settings.pending_max
                || counts.here >= settings.pending_per_address_max
        };
        if is_full {
            let sentence = "too many requests to pair are waiting; come back later";
            return Err(Refusal::new(ErrorCode::Busy, sentence).after(BUSY_SECS));
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
        submission: Submission,
    ) -> Result<RequestRow, Refusal> {
        let request = self.register().step(|step| {
            let pairing = step.pairing(subject)?.filter(|pairing| !pairing.has_ended());
            let Some(pairing) = pairing else { return Err(used_up(None).into()) };
            self.renew_in(step, principal, &pairing, &submission)
        })?;
        self.prepare(request.id.0)?;
        Ok(request)
    }

    fn renew_in(
        &self,
        step: &mut Step<'_>,
        principal: &Principal,
        pairing: &PairingRow,
        submission: &Submission,
    ) -> Result<RequestRow, RegisterError> {
        let now = self.now();
        let thumbprint = submission.thumbprint();
        if let Some(key) = step.key(&thumbprint)? {
            let earlier = match key.request {
                Some(request) => step.request(request.0)?,
                None => None,
            };
            let is_unused = pairing.keys.iter().all(|pin| {
                pin.thumbprint != thumbprint || !pin.is_used
            });
            return match earlier {
                // An answer was lost: the same key is the same renewal.
                Some(earlier) if earlier.renews == Some(pairing.subject) && is_unused => Ok(earlier),
                _ => Err(used_up(None).into()),
            };
        }
        let request = RequestRow {
            id: RequestId::random(&*self.world().luck).into(),
            number: step.next_number()?,
            renews: Some(pairing.subject),
            spki: submission.spki.as_der().to_vec(),
            thumbprint,
            content: Content { agents: Vec::new(), ..submission.content.clone() },
            digest: submission.digest,
            address: submission.address.clone(),
            network: submission.network.clone(),
            with_code: false,
            tenant: Some(pairing.tenant),
            created_at: now.into(),
            expires_at: (now + self.settings().pairing.request_life).into(),
            wrong_codes: 0,
            state: RequestState::Accepted(Acceptance {
                at: now.into(),
                message: None,
                subject: pairing.subject,
                artifacts: None,
            }),
        };
        step.put_request(&request)?;
        let key = KeyRow { request: Some(request.id), subject: Some(pairing.subject) };
        step.put_key(thumbprint, key)?;
        let facts = [("request", request.id.0.to_string()), ("address", request.address.clone())];
        let entry = audit::Entry {
            at: now,
            principal,
            tenant: Some(pairing.tenant.0),
            event: Event::RequestSubmitted,
            facts: &facts,
        };
        audit::record(step.rows(), &entry)?;
        Ok(request)
    }
}

/// A key that was decided about, or belongs to a pairing. Its holder may know which request of its own that was.
fn used_up(request: Option<RequestId>) -> Refusal {
    let refusal =
        Refusal::new(ErrorCode::AlreadyExists, "this key was used for a pairing; make a new one");
    match request {
        Some(request) => refusal.with("request", request.to_string()),
        None => refusal,
    }
}
