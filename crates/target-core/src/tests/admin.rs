//! The admin API over the operator listener, with tokens: tenants, locks, and adoption by two
//! persons.

use std::net::SocketAddr;
use std::sync::Arc;

use http::{HeaderMap, HeaderValue};
use offsite_pki::PrivateKey;
use offsite_pki::Validity;
use offsite_pki::tls::{ClientIdentity, ServerIdentity, Trust, client, operator_server};
use offsite_proto::admin::target::{
    self as calls, Accept, Adopt, Approve, ChangeTenant, OfAgent, OfApproval, OfRequest, OfSource,
    OfTenant, OfToken, OfUser, Reject, RequestsShown,
};
use offsite_proto::endpoint::Endpoint;
use offsite_proto::error::{ErrorCode, Refusal};
use offsite_proto::json::Json;
use offsite_proto::pairing::PairingState;
use offsite_store::catalog::Transactions;
use offsite_transport::{
    CallError, Classify, Connection, ConnectionClass, ConnectionPolicy, HostPort, Server, Timeouts,
};
use tokio_util::sync::CancellationToken;

use super::scene::{ROOT, Scene, decision};
use crate::accounts::tokens::{self, Wanted};
use crate::accounts::users::{self, Rights};
use crate::failure::Failure;
use crate::principal::{Principal, Role, TenantScope};
use crate::{Operators, tenants};

/// The operator listener of a scene.
pub(super) struct Desk {
    pub(super) scene: Scene,
    address: SocketAddr,
    shutdown: CancellationToken,
}

impl Drop for Desk {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

struct Everybody;

impl Classify for Everybody {
    fn class(&self, _: Option<&offsite_pki::Thumbprint>) -> ConnectionClass {
        ConnectionClass::Operator
    }
}

impl Desk {
    pub(super) async fn open() -> Self {
        Self::of(Scene::open().await).await
    }

    /// The operator listener of this scene.
    pub(super) async fn of(scene: Scene) -> Self {
        let identity = scene.target.identity();
        let key = PrivateKey::generate().unwrap();
        let validity = Validity::days(scene.now(), 30).unwrap();
        let certificate = identity
            .authority
            .issue_server(&key, identity.core, &[], validity, &*scene.luck)
            .unwrap();
        let shown = ServerIdentity::new(&key, &certificate).unwrap();
        let policy = ConnectionPolicy {
            handshakes_per_sec: 10_000,
            operators: 1_000,
            ..ConnectionPolicy::default()
        };
        let tls = operator_server(&shown).unwrap();
        let listening = Server::bind("127.0.0.1:0".parse().unwrap(), tls, policy).await.unwrap();
        let address = listening.local_address().unwrap();
        let shutdown = CancellationToken::new();
        let router = Operators::new(Arc::clone(&scene.target)).network_router().unwrap();
        tokio::spawn(listening.serve(router, Arc::new(Everybody), shutdown.clone()));
        Self { scene, address, shutdown }
    }

    /// A new account with a token that it made itself.
    pub(super) fn account(&self, name: &str, role: Role, scope: &TenantScope) -> String {
        let deed = self.scene.target.deed(&ROOT);
        self.scene
            .target
            .catalog()
            .write::<_, Failure>(|rows| {
                let rights = Rights { role, tenants: scope.clone(), restore_grant: false };
                let user = users::add(rows, &deed, name, &rights, None)?;
                let by = Principal::User(crate::principal::Account {
                    user: user.id,
                    name: name.to_owned(),
                    role,
                    tenants: scope.clone(),
                    restore_grant: false,
                    minted_by: None,
                });
                let own = crate::deed::Deed { by: &by, ..deed };
                Ok(tokens::issue(rows, &own, &user, &Wanted::days(None)?)?.1.expose().clone())
            })
            .unwrap()
    }

    pub(super) fn tenant(&self, name: &str) -> tenants::TenantRow {
        let deed = self.scene.target.deed(&ROOT);
        let catalog = self.scene.target.catalog();
        catalog.write::<_, Failure>(|rows| tenants::add(rows, &deed, name)).unwrap()
    }

    pub(super) async fn ask<E: Endpoint>(
        &self,
        token: &str,
        params: E::Params,
        body: E::Request,
    ) -> Result<E::Response, Refusal> {
        let tls = client(ClientIdentity::None, Trust::FirstSight).unwrap();
        let place = HostPort::new("127.0.0.1", self.address.port()).unwrap();
        let connection = Connection::dial(&place, &tls, &Timeouts::default()).await.unwrap();
        let mut headers = HeaderMap::new();
        headers.insert("authtoken", HeaderValue::from_str(token).unwrap());
        match connection.call_with::<E>(&params, &body, headers).await {
            Ok(answer) => Ok(answer.body),
            Err(CallError::Refused(refusal, _)) => Err(super::calls::masked(refusal)),
            Err(error) => panic!("not refused but failed: {error}"),
        }
    }

    /// A source paired under a tenant, and its id here.
    pub(super) async fn pair_under(&self, tenant: &str) -> (super::scene::Source, String) {
        let mut source = self.scene.source();
        source.name = format!("source of {tenant}");
        let request = self.scene.submit(&source).await.unwrap().request_id.0;
        let mut decide = decision(request, true);
        decide.tenant = Some(tenant.to_owned());
        self.scene.target.decide(&ROOT, &decide).unwrap();
        self.scene.target.issue_ordered();
        source.fetch(&self.scene, request).await;
        assert_eq!(source.sync(&self.scene).await.unwrap().pairing_state, PairingState::Active);
        let rows = self.scene.target.register().peers().unwrap();
        let place = rows.last().unwrap().place.clone().unwrap();
        (source, place.subject.0.to_string())
    }
}

/// A refusal whose sentence does not depend on the name that was asked for.
pub(super) fn without(mut refusal: Refusal, name: &str) -> Refusal {
    refusal.message = refusal.message.replace(name, "…");
    refusal
}

pub(super) const RANDOM: &str = "01234567-89ab-cdef-0123-456789abcdef";

#[tokio::test]
async fn g_11_another_tenants_things_are_not_there() {
    let desk = Desk::open().await;
    let (own, other) = (desk.tenant("own"), desk.tenant("other"));
    let (_, own_source) = desk.pair_under("own").await;
    let (foreign, foreign_source) = desk.pair_under("other").await;
    let waiting = desk.scene.submit(&desk.scene.source()).await.unwrap().request_id.0.to_string();
    let scope = TenantScope::only(vec![own.id]);
    let agent = foreign.agents[0].id.to_string();
    let reject = || Json(Reject { message: "no".into() });
    let accept = || Json(Accept { without_code: true, ..Accept::default() });
    let lock = || Json(ChangeTenant { lock_days: Some(1), ..ChangeTenant::default() });
    for role in [Role::Viewer, Role::Operator] {
        let token = &desk.account(role.as_str(), role, &scope);
        macro_rules! same {
            ($call:ty, $params:expr, $theirs:expr, $body:expr) => {{
                let theirs: &str = $theirs;
                let one = desk.ask::<$call>(token, $params(theirs.to_owned()), $body).await;
                let none = desk.ask::<$call>(token, $params(RANDOM.to_owned()), $body).await;
                let (one, none) = (one.err().expect("refused"), none.err().expect("refused"));
                assert_eq!(without(one, theirs), without(none, RANDOM), stringify!($call));
            }};
        }
        same!(calls::ShowRequest, OfRequest, &waiting, ());
        same!(calls::AcceptRequest, OfRequest, &waiting, accept());
        same!(calls::RejectRequest, OfRequest, &waiting, reject());
        same!(calls::ShowSource, OfSource, &foreign_source, ());
        same!(calls::RevokeSource, OfSource, &foreign_source, ());
        same!(calls::AllowRestore, OfSource, &foreign_source, ());
        same!(calls::DenyRestore, OfSource, &foreign_source, ());
        same!(
            calls::AdoptSource,
            OfSource,
            &foreign_source,
            Json(Adopt { request: waiting.clone() })
        );
        same!(calls::SetTenant, OfTenant, &other.id.to_string(), lock());
        same!(calls::DeleteTenant, OfTenant, &other.id.to_string(), ());
        same!(calls::ShowAgent, OfAgent, &agent, ());
        same!(calls::RemoveUser, OfUser, "viewer", ());
        same!(calls::RevokeToken, OfToken, RANDOM, ());
        // Names, too, and lists.
        same!(calls::SetTenant, OfTenant, "other", lock());
        let sources = desk.ask::<calls::ListSources>(token, (), ()).await.unwrap().0;
        let ids: Vec<_> = sources.iter().map(|source| source.source_id.to_string()).collect();
        assert_eq!(ids, std::slice::from_ref(&own_source));
        let tenants = desk.ask::<calls::ListTenants>(token, (), ()).await.unwrap().0;
        assert_eq!(tenants.iter().map(|row| row.name.as_str()).collect::<Vec<_>>(), ["own"]);
        let agents = desk.ask::<calls::ListAgents>(token, (), ()).await.unwrap().0;
        assert!(agents.iter().all(|agent| agent.tenant == "own") && agents.len() == 2);
        let shown = RequestsShown { all: true };
        let requests = desk.ask::<calls::ListRequests>(token, shown, ()).await.unwrap().0;
        assert!(requests.iter().all(|request| request.source_name == "source of own"));
        let entries = desk
            .ask::<calls::ListAudit>(token, calls::AuditShown { limit: None }, ())
            .await
            .unwrap()
            .0;
        let own_id = own.id.to_string();
        assert!(!entries.is_empty());
        assert!(entries.iter().all(|entry| entry.tenant_id.as_deref() == Some(own_id.as_str())));
    }
    // Nothing of it happened.
    let rows = desk.scene.target.register().peers().unwrap();
    assert_eq!(rows.iter().filter(|row| row.paired().is_some()).count(), 2);
    assert_eq!(foreign.sync(&desk.scene).await.unwrap().pairing_state, PairingState::Active);
}

#[tokio::test]
async fn c_03_no_role_shortens_a_lock() {
    let desk = Desk::open().await;
    let tenant = desk.tenant("held");
    let scope = TenantScope::only(vec![tenant.id]);
    let change = |days| Json(ChangeTenant { lock_days: Some(days), ..ChangeTenant::default() });
    let of = || OfTenant("held".to_owned());
    let root = desk.account("root", Role::Administrator, &TenantScope::All);
    desk.ask::<calls::SetTenant>(&root, of(), change(30)).await.unwrap();
    for role in Role::ALL {
        let scope = match role {
            Role::Viewer | Role::Operator => scope.clone(),
            Role::Administrator | Role::Officer => TenantScope::All,
        };
        let token = desk.account(&format!("a {role}"), *role, &scope);
        for days in [0, 1, 29] {
            let refusal = desk.ask::<calls::SetTenant>(&token, of(), change(days)).await;
            let expected = match role {
                Role::Viewer | Role::Officer => ErrorCode::Forbidden,
                Role::Operator | Role::Administrator => ErrorCode::RetentionLocked,
            };
            assert_eq!(refusal.err().map(|refusal| refusal.code), Some(expected), "{role} {days}");
        }
    }
    let deed = desk.scene.target.deed(&ROOT);
    let by_root = desk
        .scene
        .target
        .catalog()
        .write::<_, Failure>(|rows| tenants::set(rows, &deed, tenant.id, None, Some(29)));
    assert!(by_root.is_err());
    let held = desk.ask::<calls::ListTenants>(&root, (), ()).await.unwrap().0;
    assert_eq!(held[0].lock_days, 30);
}

#[tokio::test]
async fn a_17_a_claimed_identity_gets_nothing_until_two_persons_agree() {
    let desk = Desk::open().await;
    let scene = &desk.scene;
    let old = scene.paired().await;
    let subject = scene.target.register().peers().unwrap()[0].place.clone().unwrap().subject.0;
    // The machine was lost; a new key claims to be the same core, and asks for one agent more.
    let mut claimant = scene.source();
    claimant.core = old.core;
    claimant.agents = old.agents.clone();
    claimant.agents.push(offsite_proto::pairing::AgentDescription {
        id: offsite_model::AgentId::from_bytes([9; 16]).into(),
        ..old.agents[0].clone()
    });
    let stranger = scene.source();
    let request = scene.submit(&claimant).await.unwrap().request_id.0;
    scene.submit(&stranger).await.unwrap();
    // Before: the same answers as any new source, on every row.
    for row in super::calls::replication_rows() {
        let values = super::calls::values(row, &offsite_testkit::SeededLuck::new(3));
        let (one, two) = (claimant.dial(scene).await, stranger.dial(scene).await);
        if row.action == offsite_proto::endpoint::Action::PollRequest || row.id == "44" {
            continue;
        }
        let one = super::calls::call(&one, row, &values).await;
        let two = super::calls::call(&two, row, &values).await;
        assert_eq!(one, two, "row {}", row.id);
    }
    assert_eq!(claimant.sync(scene).await.unwrap().pairing_state, PairingState::Pending);
    assert_eq!(old.sync(scene).await.unwrap().pairing_state, PairingState::Active);

    let first = desk.account("first", Role::Administrator, &TenantScope::All);
    let second = desk.account("second", Role::Officer, &TenantScope::All);
    let adopt = Json(Adopt { request: request.to_string() });
    let of = OfSource(subject.to_string());
    let begun = desk.ask::<calls::AdoptSource>(&first, of, adopt).await.unwrap().0;
    let id = || OfApproval(begun.approval_id.clone());
    let agree = || Json(Approve { digest: begun.digest.clone() });
    let alone = desk.ask::<calls::ApproveApproval>(&first, id(), agree()).await;
    assert_eq!(alone.err().map(|refusal| refusal.code), Some(ErrorCode::Forbidden));
    assert_eq!(claimant.sync(scene).await.unwrap().pairing_state, PairingState::Pending);
    let connection = old.dial(scene).await;
    let done = desk.ask::<calls::ApproveApproval>(&second, id(), agree()).await.unwrap().0;
    assert_eq!(done.state, "done");

    // After: the old key is nobody, on new connections and on the one it had.
    assert_eq!(old.sync(scene).await, Err(ErrorCode::NotPaired));
    let greeting = connection.call::<offsite_proto::pairing::Greet>(&(), &()).await;
    let cut = greeting.map_or(true, |answer| answer.body.0.host_name.is_none());
    assert!(cut, "the open connection of the revoked key still speaks as the source");
    scene.target.issue_ordered();
    claimant.fetch(scene, request).await;
    let status = claimant.sync(scene).await.unwrap();
    assert_eq!(status.pairing_state, PairingState::Active);
    let states: Vec<_> =
        status.agents.iter().map(|agent| format!("{:?}", agent.agent_pairing_state)).collect();
    assert_eq!(states.iter().filter(|state| *state == "Denied").count(), 1, "{states:?}");
    let sources = desk.ask::<calls::ListSources>(&first, (), ()).await.unwrap().0;
    assert_eq!(sources.len(), 1);
    assert_eq!(sources[0].source_id.0, subject);
    assert_eq!((sources[0].sid, sources[0].tenant.as_str()), (1, "branch office"));
    let tenants = desk.ask::<calls::ListTenants>(&first, (), ()).await.unwrap().0;
    assert_eq!(tenants.len(), 1, "the identity keeps its tenant");
    // Forgetting the old row later does not take the identity away.
    scene.advance(offsite_model::Span::from_days(40));
    scene.target.keep_house(true).unwrap();
    assert!(scene.target.register().of_subject(subject).unwrap().is_some());
    assert_eq!(crate::audit::verify(&**scene.target.catalog()).unwrap().first_bad, None);
}
