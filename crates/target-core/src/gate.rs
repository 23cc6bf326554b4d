//! The gate of the replication listener: who is calling, decided on every request.
//!
//! | the caller shows | and the register says | class |
//! |---|---|---|
//! | no certificate, or a key without a row | nothing | nobody |
//! | any certificate of a key | the key made a request | enrolling |
//! | the issued certificate, in time | the key is pinned to a pairing | source |
//! | the same, out of time for at most 180 days | the same | expired: renewal and state only |
//! | anything | the key's pairing or request has ended | nobody |
//!
//! A chain proves nothing here: authority is the pinned key, its row, and the serial of the
//! certificate in that row (I7).
//!
//! **Absent:** operators and their tokens; what may be done to one object (`authority`, asked again
//! by the handler).

use std::net::IpAddr;
use std::sync::Arc;

use http::HeaderMap;
use offsite_exchange::pairing::PublicKey;
use offsite_exchange::pairing::target::Input;
use offsite_model::{CoreId, RequestId, Timestamp};
use offsite_pki::{Pinned, Serial, Spki, Standing as Judgement, Thumbprint};
use offsite_proto::endpoint::{Access, Action, Class, Row, Values};
use offsite_proto::error::{ErrorCode, Refusal};
use offsite_store::catalog::Transactions as _;
use offsite_transport::{Classify, ConnectionClass, Gate, Origin, PeerKey, Place, route_unknown};

use crate::Target;
use crate::addresses;
use crate::authority::{Object, permits};
use crate::peers::{Enrolment, KeyThumbprint, Pairing, Standing};
use crate::principal::{PairedPeer, Principal};
use crate::submit::not_paired;
use crate::target::off_runtime;

/// The gate of the replication listener.
pub struct ReplicationGate(Arc<Target>);

/// What the register and the shown certificate make of a caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Known {
    /// No key was shown.
    Keyless,
    /// A key without a row, or one whose time is over for good.
    Stranger,
    /// A key whose pairing or request has ended.
    Spent,
    /// A key that made a request, without the certificate issued to it.
    Enrolling {
        /// The request.
        request: RequestId,
        /// Whether it was rejected.
        is_rejected: bool,
        /// Whether its pairing is in use already, so that only the issued certificate speaks for
        /// it.
        is_active: bool,
    },
    /// The issued certificate of a pinned key, in time.
    Source {
        /// The source.
        peer: PairedPeer,
        /// Whether that certificate was used before.
        is_used: bool,
    },
    /// The same, out of time, not for too long.
    Expired(PairedPeer),
}

impl ReplicationGate {
    /// The gate of this target.
    #[must_use]
    pub const fn new(target: Arc<Target>) -> Self {
        Self(target)
    }

    fn decide(
        &self,
        known: &Known,
        row: &Row,
        values: &Values,
        origin: &Origin,
    ) -> Result<Principal, Refusal> {
        let opens = |class| match row.access {
            Access::AnyOf(classes) => classes.contains(&class),
            Access::ByQuery(without, _) => without == class,
        };
        if opens(Class::Anon) {
            self.door(known, row, origin)?;
            // A closed door looks the same whatever the query asks for, so the query is read behind
            // it.
            let with_credential = matches!(row.access, Access::ByQuery(..))
                && values.flag("useCredentials", Some(false))?;
            if !with_credential {
                return Ok(principal_of(known, origin));
            }
        } else if opens(Class::Enrolling) {
            return self.enrolling_row(row, known, origin);
        } else if opens(Class::Cert) {
            return permitted(certified(known, origin)?, row.action);
        }
        // What is left needs an administrator's credential, and this build takes none on this
        // listener.
        Err(refused(ErrorCode::Unauthenticated))
    }

    /// The rows of newcomers, while pairing is open; who is known keeps them either way.
    fn door(&self, known: &Known, row: &Row, origin: &Origin) -> Result<(), Refusal> {
        if row.action == Action::Liveness {
            return Ok(());
        }
        let is_newcomer = match known {
            Known::Keyless | Known::Stranger | Known::Spent => true,
            // A request can be looked after while pairing is closed, not submitted.
            Known::Enrolling { .. } => row.action == Action::SubmitRequest,
            Known::Source { .. } | Known::Expired(_) => false,
        };
        if !is_newcomer {
            return Ok(());
        }
        let open = self.0.register().is_open(self.0.now());
        let client_key = origin.peer.is_some();
        if !open {
            return Err(route_unknown());
        }
        let door = Object::Door { open, client_key };
        match permits(&Principal::Anon, row.action, &door).is_granted() {
            true => Ok(()),
            false => Err(refused(ErrorCode::Unauthenticated)),
        }
    }

    /// Rows 45, 46 and P1 to P3.
    fn enrolling_row(
        &self,
        row: &Row,
        known: &Known,
        origin: &Origin,
    ) -> Result<Principal, Refusal> {
        let Some(peer) = &origin.peer else { return Err(refused(ErrorCode::Unauthenticated)) };
        let is_poll = row.path.contains("{requestId}");
        match known {
            Known::Keyless => Err(refused(ErrorCode::Unauthenticated)),
            // Polls are about the key alone: whoever holds one goes the same way to the same 404
            //
            Known::Expired(_) if is_poll => Err(refused(ErrorCode::NotPaired)),
            _ if is_poll => Ok(Principal::Anon),
            Known::Stranger | Known::Spent => {
                let thumbprint = peer.thumbprint.as_bytes();
                let had_one = *known == Known::Spent || self.0.register().is_withdrawn(thumbprint);
                if row.action == Action::PollRequest && had_one {
                    return Ok(Principal::Anon);
                }
                Err(refused(ErrorCode::NotPaired))
            }
            Known::Enrolling { is_active: true, .. } if row.action == Action::PollRequest => {
                Err(refused(ErrorCode::NotPaired))
            }
            Known::Expired(_) if row.action == Action::PollRequest => {
                Err(refused(ErrorCode::NotPaired))
            }
            known => permitted(principal_of(known, origin), row.action),
        }
    }
}

/// What a key is to the pools of connections.
impl Classify for ReplicationGate {
    fn class(&self, peer: Option<&Thumbprint>) -> ConnectionClass {
        let standing = peer.and_then(|key| self.0.register().standing(key.as_bytes()));
        match standing {
            None | Some(Standing::Spent) => ConnectionClass::Unknown,
            Some(Standing::Enrolling { .. }) => ConnectionClass::Enrolling,
            Some(Standing::Paired(_)) => ConnectionClass::Paired,
        }
    }
}

impl Gate<Principal> for ReplicationGate {
    async fn admit(
        &self,
        row: &'static Row,
        values: &Values,
        origin: &Origin,
        _headers: &HeaderMap,
    ) -> Result<Principal, Refusal> {
        let known = self.0.recognise(origin.peer.as_ref());
        let principal = self.decide(&known, row, values, origin)?;
        if let (Principal::Source(peer), Place::Network(address)) = (&principal, origin.address) {
            self.0.note_address(peer, address).await;
        }
        if let (Principal::Source(_), Known::Source { is_used: false, .. }, Some(peer)) =
            (&principal, &known, &origin.peer)
        {
            // The first call with a new certificate makes it the pairing's, and ends the key before
            // it.
            let target = Arc::clone(&self.0);
            let (principal, key) = (principal.clone(), peer.spki.clone());
            off_runtime(move || target.used(&principal, &key)).await?;
        }
        Ok(principal)
    }

    fn approved(&self, principal: &Principal) -> bool {
        !matches!(principal, Principal::Anon | Principal::Enrolling { .. })
    }
}

impl Target {
    /// What the register says now about whoever shows this key and certificate.
    pub(crate) fn recognise(&self, peer: Option<&PeerKey>) -> Known {
        let Some(peer) = peer else { return Known::Keyless };
        let now = self.now();
        match self.register().standing(peer.thumbprint.as_bytes()) {
            None => Known::Stranger,
            Some(Standing::Spent) => Known::Spent,
            Some(Standing::Enrolling { request, resolution }) => match resolution {
                // A request that lapsed is as unknown as one that never was.
                Enrolment::Pending { expires_at, .. } if now >= expires_at => Known::Stranger,
                Enrolment::Pending { .. } | Enrolment::Accepted => {
                    Known::Enrolling { request, is_rejected: false, is_active: false }
                }
                Enrolment::Rejected => {
                    Known::Enrolling { request, is_rejected: true, is_active: false }
                }
            },
            Some(Standing::Paired(pairing)) => self.recognise_paired(peer, pairing, now),
        }
    }

    fn recognise_paired(&self, peer: &PeerKey, pairing: Pairing, now: Timestamp) -> Known {
        let Pairing { pin, .. } = pairing;
        if pin.ends_at.is_some_and(|end| now >= end) {
            return Known::Spent;
        }
        let Ok(serial) = Serial::from_bytes(&pin.serial) else { return Known::Stranger };
        let authority = self.identity().authority.certificate();
        let row = Pinned { thumbprint: peer.thumbprint, serial: &serial, authority };
        let vouched = PairedPeer::vouched_by_gate(
            pairing.subject,
            pairing.tenant,
            *peer.thumbprint.as_bytes(),
            pairing.allow_restore,
        );
        match peer.presented.judge(row, now) {
            Judgement::Active => Known::Source { peer: vouched, is_used: pin.is_used },
            Judgement::Expired { since } if since <= self.settings().pairing.renew_after_expiry => {
                Known::Expired(vouched)
            }
            Judgement::Expired { .. } | Judgement::NotYet { .. } => Known::Stranger,
            // The key alone: it may look after its request, and nothing else.
            Judgement::NotOurs => Known::Enrolling {
                request: pairing.request,
                is_rejected: false,
                is_active: pairing.is_active,
            },
        }
    }

    /// Notes from where a source calls. What goes wrong here is logged and keeps nobody out.
    pub(crate) async fn note_address(self: &Arc<Self>, peer: &PairedPeer, address: IpAddr) {
        if !self.addresses().is_unknown(peer.source(), address) {
            return;
        }
        let (target, peer) = (Arc::clone(self), peer.clone());
        let noted = off_runtime(move || {
            let principal = Principal::Source(peer.clone());
            let deed = target.deed(&principal);
            let kept = target.catalog().write(|rows| addresses::keep(rows, &deed, &peer, address));
            kept.map_err(Into::into)
        });
        if let Err(cause) = noted.await {
            tracing::error!(%cause, "the address of a source was not noted");
        }
    }

    /// Notes that a certificate was used for the first time.
    fn used(&self, principal: &Principal, key: &Spki) -> Result<(), Refusal> {
        let thumbprint = *key.thumbprint().as_bytes();
        self.advance(principal, |step| {
            let row = step.peer_of_key(&thumbprint)?.ok_or_else(not_paired)?;
            Ok((row, Input::Used { key: PublicKey::from_der(key.as_der()) }))
        })
        .map(|_| ())
    }

    /// The source that a principal is, if it is one.
    pub(crate) fn source_of(principal: &Principal) -> Option<CoreId> {
        match principal {
            Principal::Source(peer) | Principal::Expired(peer) => Some(peer.source()),
            _ => None,
        }
    }
}

/// The caller of a row that asks for a paired source.
fn certified(known: &Known, origin: &Origin) -> Result<Principal, Refusal> {
    match known {
        Known::Keyless => Err(refused(ErrorCode::Unauthenticated)),
        Known::Stranger | Known::Spent | Known::Expired(_) => Err(refused(ErrorCode::NotPaired)),
        Known::Enrolling { is_rejected: true, .. } => Err(refused(ErrorCode::PairingDenied)),
        Known::Enrolling { .. } => Err(refused(ErrorCode::PairingPending)),
        Known::Source { .. } => Ok(principal_of(known, origin)),
    }
}

fn principal_of(known: &Known, origin: &Origin) -> Principal {
    match (known, &origin.peer) {
        (Known::Enrolling { request, .. }, Some(peer)) => {
            Principal::Enrolling { thumbprint: thumbprint_of(peer), request: *request }
        }
        (Known::Source { peer, .. }, _) => Principal::Source(peer.clone()),
        (Known::Expired(peer), _) => Principal::Expired(peer.clone()),
        _ => Principal::Anon,
    }
}

/// The table's word, before a byte of the body is read.
fn permitted(principal: Principal, action: Action) -> Result<Principal, Refusal> {
    match permits(&principal, action, &Object::Unnamed).is_granted() {
        true => Ok(principal),
        false => Err(refused(ErrorCode::Forbidden)),
    }
}

/// The key of a peer, as the register files it.
pub(crate) fn thumbprint_of(peer: &PeerKey) -> KeyThumbprint {
    *peer.thumbprint.as_bytes()
}

fn refused(code: ErrorCode) -> Refusal {
    Refusal::new(
        code,
        match code {
            ErrorCode::Unauthenticated => "the caller showed no valid credential",
            ErrorCode::NotPaired => "the caller's certificate belongs to no pairing",
            ErrorCode::PairingDenied => "the caller's request to pair was rejected",
            ErrorCode::PairingPending => "the caller's request to pair is not decided yet",
            _ => "the caller may not do this",
        },
    )
}
