//! Accounts that are bound to tenants, on the calls that name something: what is another tenant's
//! and what is not there are one answer (G-11).

use offsite_proto::admin::target::{
    self as calls, AddEnrolment, AddToken, Approve, OfAgent, OfApproval, OfContent, OfTenant,
    OfToken,
};
use offsite_proto::endpoint::Endpoint;
use offsite_proto::error::{ErrorCode, Refusal};
use offsite_proto::json::Json;
use offsite_proto::{endpoint, operator};
use offsite_store::catalog::Transactions;

use super::admin::{Desk, RANDOM, without};
use super::scene::ROOT;
use crate::failure::Failure;
use crate::principal::{Role, TenantScope};
use crate::storage_list;

const GIB: u64 = 1 << 30;

endpoint! {
    /// What a restore asks for; a refusal needs no reader of streams.
    ReadContent = calls::CONTENT, OfContent, () => Json<()>
}

/// Two tenants, and an operator of the first.
struct Bounds {
    desk: Desk,
    token: String,
}

impl Bounds {
    async fn open() -> Self {
        let desk = Desk::open().await;
        let own = desk.tenant("own");
        desk.tenant("other");
        let token = desk.account("bound", Role::Operator, &TenantScope::only(vec![own.id]));
        Self { desk, token }
    }

    async fn refused<E: Endpoint>(&self, params: E::Params, body: E::Request) -> Refusal {
        self.desk.ask::<E>(&self.token, params, body).await.err().expect("refused")
    }
}

fn token_of(tenant: &str) -> Json<AddToken> {
    let tenants = Some(vec![tenant.to_owned()]);
    Json(AddToken { user: None, days: None, role: None, tenants })
}

#[tokio::test]
async fn g_11_a_name_of_another_tenant_is_not_told_from_no_name() {
    let bounds = Bounds::open().await;
    let one = bounds.refused::<calls::MakeToken>((), token_of("other")).await;
    let none = bounds.refused::<calls::MakeToken>((), token_of("nowhere")).await;
    assert_eq!(one.code, ErrorCode::TenantUnknown);
    assert_eq!(without(one, "other"), without(none, "nowhere"));
    let code = |tenant: &str| {
        Json(AddEnrolment { tenant: tenant.to_owned(), days: None, note: String::new() })
    };
    let one = bounds.refused::<calls::MakeEnrolment>((), code("other")).await;
    let none = bounds.refused::<calls::MakeEnrolment>((), code("nowhere")).await;
    assert_eq!(without(one, "other"), without(none, "nowhere"));
    let own = bounds.desk.ask::<calls::MakeToken>(&bounds.token, (), token_of("own")).await;
    assert_eq!(own.unwrap().0.user, "bound");
}

#[tokio::test]
async fn g_11_another_persons_token_is_not_told_from_no_token() {
    let bounds = Bounds::open().await;
    let desk = &bounds.desk;
    let root = desk.account("root", Role::Administrator, &TenantScope::All);
    let all = desk.ask::<calls::ListTokens>(&root, (), ()).await.unwrap().0;
    let theirs = all.iter().find(|token| token.user == "root").unwrap().token_id.to_string();
    for spelt in [str::to_lowercase, str::to_uppercase] {
        let (theirs, nobodys) = (spelt(&theirs), spelt("0123abcd-89ab-cdef-0123-456789abcdef"));
        let one = bounds.refused::<calls::RevokeToken>(OfToken(theirs.clone()), ()).await;
        let none = bounds.refused::<calls::RevokeToken>(OfToken(nobodys.clone()), ()).await;
        let (theirs, nobodys) = (theirs.to_lowercase(), nobodys.to_lowercase());
        assert_eq!(without(one, &theirs), without(none, &nobodys));
    }
    let mine = desk.ask::<calls::ListTokens>(&bounds.token, (), ()).await.unwrap().0;
    assert!(mine.iter().all(|token| token.user == "bound") && mine.len() == 1);
}

#[tokio::test]
async fn g_11_what_waits_for_two_persons_is_not_there_for_another_tenant() {
    let bounds = Bounds::open().await;
    let desk = &bounds.desk;
    let root = desk.account("root", Role::Administrator, &TenantScope::All);
    let of = OfTenant("other".to_owned());
    let begun = desk.ask::<calls::DeleteTenant>(&root, of, ()).await.unwrap().0;
    let listed = desk.ask::<calls::ListApprovals>(&bounds.token, (), ()).await.unwrap().0;
    assert_eq!(listed, []);
    let agree = || Json(Approve { digest: begun.digest.clone() });
    let named = |id: &str| OfApproval(id.to_owned());
    let one = bounds.refused::<calls::ApproveApproval>(named(&begun.approval_id), agree()).await;
    let none = bounds.refused::<calls::ApproveApproval>(named(RANDOM), agree()).await;
    assert_eq!((one.code, &one), (ErrorCode::RequestUnknown, &none));
    let one = bounds.refused::<calls::RejectApproval>(named(&begun.approval_id), ()).await;
    let none = bounds.refused::<calls::RejectApproval>(named(RANDOM), ()).await;
    assert_eq!(one, none);
    // What he began himself he sees, and may not agree to.
    let own = OfTenant("own".to_owned());
    let own = desk.ask::<calls::DeleteTenant>(&bounds.token, own, ()).await.unwrap().0;
    let alone = bounds.refused::<calls::ApproveApproval>(named(&own.approval_id), agree()).await;
    assert_eq!(alone.code, ErrorCode::Forbidden);
}

#[tokio::test]
async fn g_11_points_and_what_they_hold_are_not_there_for_another_tenant() {
    let bounds = Bounds::open().await;
    let (foreign, _) = bounds.desk.pair_under("other").await;
    let scope = TenantScope::only(Vec::new());
    let viewer = bounds.desk.account("viewer", Role::Viewer, &scope);
    let theirs = foreign.agents[0].id.to_string();
    let of =
        |agent: &str| OfContent { agent: agent.to_owned(), volume: "root".to_owned(), point: None };
    let named = |agent: &str| OfAgent(agent.to_owned());
    for theirs in [&theirs, &foreign.agents[0].display_name] {
        let one = bounds.refused::<calls::ListPoints>(named(theirs), ()).await;
        let none = bounds.refused::<calls::ListPoints>(named(RANDOM), ()).await;
        assert_eq!(without(one, theirs), without(none, RANDOM));
        let one = bounds.refused::<ReadContent>(of(theirs), ()).await;
        let none = bounds.refused::<ReadContent>(of(RANDOM), ()).await;
        assert_eq!(without(one, theirs), without(none, RANDOM));
        let one = bounds.desk.ask::<ReadContent>(&viewer, of(theirs), ()).await.unwrap_err();
        let none = bounds.desk.ask::<ReadContent>(&viewer, of(RANDOM), ()).await.unwrap_err();
        assert_eq!(without(one, theirs), without(none, RANDOM));
    }
}

#[tokio::test]
async fn g_11_no_token_makes_an_administrator_of_some_tenants() {
    let bounds = Bounds::open().await;
    let desk = &bounds.desk;
    for role in [Role::Administrator, Role::Officer] {
        let token = desk.account(role.as_str(), role, &TenantScope::All);
        let refused = desk.ask::<calls::MakeToken>(&token, (), token_of("own")).await;
        assert_eq!(
            refused.err().map(|refusal| refusal.code),
            Some(ErrorCode::BadRequest),
            "{role}"
        );
    }
    // Narrowed in its role as well, it is an operator's and reaches that tenant alone.
    let root = desk.account("root", Role::Administrator, &TenantScope::All);
    let Json(mut wish) = token_of("own");
    wish.role = Some(Role::Operator);
    let narrow = desk.ask::<calls::MakeToken>(&root, (), Json(wish)).await.unwrap().0.token;
    let tenants = desk.ask::<calls::ListTenants>(&narrow, (), ()).await.unwrap().0;
    assert_eq!(tenants.iter().map(|row| row.name.as_str()).collect::<Vec<_>>(), ["own"]);
    let refused = desk.ask::<calls::ListUsers>(&narrow, (), ()).await;
    assert_eq!(refused.err().map(|refusal| refusal.code), Some(ErrorCode::Forbidden));
}

#[tokio::test]
async fn g_11_how_full_a_disk_is_is_told_in_gibibytes_to_accounts_of_tenants() {
    let bounds = Bounds::open().await;
    let target = &bounds.desk.scene.target;
    let deed = target.deed(&ROOT);
    let folder = std::env::temp_dir();
    let path = folder.parent().unwrap().to_str().unwrap();
    target
        .catalog()
        .write::<_, Failure>(|rows| storage_list::add(rows, &deed, "disk", path))
        .unwrap();
    let shown = bounds.desk.ask::<calls::ListStorages>(&bounds.token, (), ()).await.unwrap().0;
    let disk = shown.iter().find(|storage| storage.name == "disk").unwrap();
    assert_eq!((disk.state.as_str(), disk.bytes_free.0 % GIB), ("online", 0));
    let shown = bounds.desk.ask::<operator::ListStorage>(&bounds.token, (), ()).await.unwrap().0;
    let disk = shown.iter().find(|storage| storage.name == "disk").unwrap();
    assert_eq!((disk.bytes_free.0 % GIB, disk.bytes_used.0 % GIB), (0, 0));
}
