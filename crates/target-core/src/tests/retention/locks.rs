//! Locks against every role and every way to make a point go, and acts that take two persons.

use offsite_model::{Digest, PointId};
use offsite_proto::admin::target as calls;
use offsite_proto::admin::target::{
    Approve, ChangeTenant, OfAgent, OfApproval, OfPoint, OfTenant, SetRetention, ShortenLock,
    ShortenSoftDelete,
};
use offsite_proto::catalog;
use offsite_proto::error::{ErrorCode, Refusal};
use offsite_proto::json::Json;
use offsite_proto::pairing::{DeleteRecoveryPoints, Unpair};
use offsite_proto::text::{Big, Text};

use super::{DAY, Vault};
use crate::principal::{Role, TenantScope};
use crate::retention::Removal;
use crate::tests::scene::ROOT;

/// A vault with a locked and live, and a locked and deleted point.
async fn locked() -> (Vault, PointId, PointId) {
    let vault = Vault::open().await;
    let (live, deleted) =
        (vault.plant(1, vault.scene().now()), vault.plant(2, vault.scene().now()));
    vault.ask::<calls::DeletePoint>(OfPoint(deleted), ()).await.unwrap();
    let change = Json(ChangeTenant { lock_days: Some(30), ..ChangeTenant::default() });
    vault.ask::<calls::SetTenant>(tenant_of(&vault), change).await.unwrap();
    (vault, live, deleted)
}

pub(super) fn tenant_of(vault: &Vault) -> OfTenant {
    OfTenant(vault.owner.tenant.to_string())
}

/// A second person's answer to what the first began.
async fn agree(vault: &Vault, token: &str, approval: calls::Approval) -> Result<(), Refusal> {
    let body = Json(Approve { digest: approval.digest.clone() });
    let of = OfApproval(approval.approval_id);
    vault.desk.ask::<calls::ApproveApproval>(token, of, body).await.map(drop)
}

fn check_whole(vault: &Vault, live: PointId, deleted: PointId, what: &str) {
    let points = vault.points();
    let find = |id: PointId| points.iter().find(|point| point.point == id);
    assert!(find(live).is_some_and(|point| point.deleted_at.is_none()), "{what}");
    assert!(find(deleted).is_some(), "{what}");
}

#[tokio::test]
async fn c_03_nobody_makes_a_locked_point_go() {
    let (vault, live, deleted) = locked().await;
    let desk = &vault.desk;
    let scope = TenantScope::only(vec![vault.owner.tenant]);
    let second = desk.account("second", Role::Officer, &TenantScope::All);
    let lock = |days| Json(ChangeTenant { lock_days: Some(days), ..ChangeTenant::default() });
    for role in Role::ALL {
        let scope = match role {
            Role::Viewer | Role::Operator => scope.clone(),
            Role::Administrator | Role::Officer => TenantScope::All,
        };
        let token = &desk.account(&format!("a {role}"), *role, &scope);
        let may = matches!(role, Role::Operator | Role::Administrator);
        let wanted = if may { ErrorCode::RetentionLocked } else { ErrorCode::Forbidden };
        let n_before = vault.n_audited("refused");
        let of = || OfAgent(vault.agent(0).to_string());
        let point = desk.ask::<calls::DeletePoint>(token, OfPoint(live), ()).await;
        assert_eq!(point.map_err(|refusal| refusal.code).err(), Some(wanted), "{role}");
        let agent = desk.ask::<calls::DeleteAgent>(token, of(), ()).await;
        assert_eq!(agent.map_err(|refusal| refusal.code).err(), Some(wanted), "{role}");
        if may {
            assert_eq!(vault.n_audited("refused"), n_before + 2, "one entry each");
        }
        for days in [0, 29] {
            let shorter = desk.ask::<calls::SetTenant>(token, tenant_of(&vault), lock(days)).await;
            assert_eq!(shorter.map_err(|refusal| refusal.code).err(), Some(wanted), "{role}");
        }
        if may {
            assert_eq!(vault.n_audited("refused"), n_before + 4, "one entry each");
        }
        // Two persons together.
        let begun = desk.ask::<calls::PurgePoint>(token, OfPoint(deleted), ()).await;
        if let Ok(Json(begun)) = begun {
            let refused = agree(&vault, &second, begun).await.unwrap_err();
            assert_eq!(refused.code, ErrorCode::RetentionLocked, "{role}");
        }
        let shorten = Json(ShortenLock { governance_days: 0 });
        let begun = desk.ask::<calls::ShortenTenantLock>(token, tenant_of(&vault), shorten).await;
        assert!(begun.is_err(), "there is no governance lock to shorten");
        check_whole(&vault, live, deleted, role.as_str());
    }
    // The source, and this machine's own administrator.
    let of = catalog::OfAgent { agent: vault.agent(0) };
    let refused = vault.source.call::<catalog::DeleteAgent>(vault.scene(), &of, &()).await;
    assert_eq!(refused.err(), Some(ErrorCode::RetentionLocked));
    let all = DeleteRecoveryPoints(true);
    let refused = vault.source.call::<Unpair>(vault.scene(), &all, &()).await;
    assert_eq!(refused.err(), Some(ErrorCode::RetentionLocked));
    let target = &vault.scene().target;
    let removal = Removal {
        owner: &vault.owner,
        what: String::new(),
        points: vault.points(),
        waiting: Vec::new(),
    };
    let refused = target.delete_softly(&ROOT, &removal).unwrap_err();
    assert_eq!(refused.code, ErrorCode::RetentionLocked);
    let refused = target.purge_early(&ROOT, vault.owner.tenant, deleted).unwrap_err();
    assert_eq!(refused.code, ErrorCode::RetentionLocked);
    // No policy, and no time before the lock's.
    let body = Json(SetRetention {
        policy: Some(Text("last=0".parse().unwrap())),
        soft_delete_days: None,
    });
    vault.ask::<calls::ChangeRetention>(calls::OfRetention::default(), body).await.unwrap();
    vault.plant(3, vault.scene().now());
    vault.pass(DAY.times(29));
    check_whole(&vault, live, deleted, "time");
    vault.pass(DAY.times(2));
    let points = vault.points();
    assert!(points.iter().all(|point| point.point != deleted), "its lock is over");
    assert!(points.iter().any(|point| point.point == live && point.deleted_at.is_some()));
}

#[tokio::test]
async fn c_06_what_takes_two_persons_happens_with_two() {
    let vault = Vault::open().await;
    let desk = &vault.desk;
    let second = desk.account("second", Role::Officer, &TenantScope::All);
    let governance =
        |days| Json(ChangeTenant { governance_days: Some(days), ..ChangeTenant::default() });
    let point = vault.plant(1, vault.scene().now());
    vault.plant(2, vault.scene().now());
    // A governance lock: longer by one, shorter by two.
    vault.ask::<calls::SetTenant>(tenant_of(&vault), governance(30)).await.unwrap();
    let alone = vault.ask::<calls::SetTenant>(tenant_of(&vault), governance(29)).await;
    assert_eq!(alone.err(), Some(ErrorCode::RetentionLocked));
    let refused = vault.ask::<calls::DeletePoint>(OfPoint(point), ()).await;
    assert_eq!(refused.err(), Some(ErrorCode::RetentionLocked));
    let shorten = Json(ShortenLock { governance_days: 0 });
    let begun = vault.ask::<calls::ShortenTenantLock>(tenant_of(&vault), shorten).await.unwrap().0;
    assert_eq!(vault.scene().target.tenant_lock(vault.owner.tenant).unwrap().governance_days, 30);
    agree(&vault, &second, begun).await.unwrap();
    vault.ask::<calls::DeletePoint>(OfPoint(point), ()).await.unwrap();
    // Purge before its time.
    let begun = vault.ask::<calls::PurgePoint>(OfPoint(point), ()).await.unwrap().0;
    assert_eq!(vault.points().len(), 2);
    agree(&vault, &second, begun).await.unwrap();
    assert_eq!(vault.points().len(), 1);
    // Soft deletion.
    let soft = |days| Json(SetRetention { policy: None, soft_delete_days: Some(days) });
    let of = calls::OfRetention::default;
    vault.ask::<calls::ChangeRetention>(of(), soft(20)).await.unwrap();
    let alone = vault.ask::<calls::ChangeRetention>(of(), soft(19)).await;
    assert_eq!(alone.err(), Some(ErrorCode::RetentionLocked));
    let days = |days| Json(ShortenSoftDelete { soft_delete_days: days });
    let below = vault.ask::<calls::ShortenRetention>((), days(6)).await;
    assert_eq!(below.err(), Some(ErrorCode::BadRequest), "seven is the least for everybody");
    let begun = vault.ask::<calls::ShortenRetention>((), days(7)).await.unwrap().0;
    agree(&vault, &second, begun).await.unwrap();
    let shown = vault.ask::<calls::ShowRetention>(of(), ()).await.unwrap().0;
    assert_eq!(shown.soft_delete_days, 7);
    // The clock is owed nothing.
    let credit = Json(calls::CreditClock { seconds: 1 });
    let refused = vault.ask::<calls::CreditRetention>((), credit).await;
    assert_eq!(refused.err(), Some(ErrorCode::BadRequest));
}

#[tokio::test]
async fn c_12_a_lock_is_at_most_400_days_and_a_full_quota_deletes_nothing() {
    let vault = Vault::open().await;
    for image in super::images(4) {
        vault.send(&image).await;
    }
    let before = vault.all_restored();
    for days in [401, 36_500, u32::MAX] {
        let lock = Json(ChangeTenant { lock_days: Some(days), ..ChangeTenant::default() });
        let governance =
            Json(ChangeTenant { governance_days: Some(days), ..ChangeTenant::default() });
        for change in [lock, governance] {
            let refused = vault.ask::<calls::SetTenant>(tenant_of(&vault), change).await;
            assert_eq!(refused.err(), Some(ErrorCode::BadRequest), "{days}");
        }
    }
    let full =
        ChangeTenant { quota_bytes: Some(Big(1)), lock_days: Some(400), ..ChangeTenant::default() };
    vault.ask::<calls::SetTenant>(tenant_of(&vault), Json(full)).await.unwrap();
    let more = crate::tests::wire::Image { number: 9, contents: vec![77] };
    let refused = crate::tests::wire::Wire::open(vault.scene(), &vault.source, &more).await.err();
    assert_eq!(refused, Some(ErrorCode::NoSpace));
    vault.pass(DAY.times(20));
    assert_eq!(vault.all_restored(), before);
    assert_eq!(vault.n_live(), 4);
}

#[tokio::test]
async fn c_14_a_stolen_operators_token_alone_destroys_nothing() {
    for role in [Role::Operator, Role::Administrator] {
        let vault = Vault::open().await;
        for image in super::images(6) {
            vault.send(&image).await;
        }
        let before = vault.all_restored();
        let scope = match role {
            Role::Operator => TenantScope::only(vec![vault.owner.tenant]),
            _ => TenantScope::All,
        };
        let token = vault.desk.account("thief", role, &scope);
        for _ in 0..2 {
            everything_destructive(&vault, &token, &before).await;
        }
        vault.pass(DAY.times(13));
        assert_eq!(vault.all_restored(), before, "inside the time of soft deletion");
        assert!(vault.points().iter().all(|point| point.deleted_at.is_some()), "it was tried");
    }
}

/// Every call that changes anything, of one token alone; what comes of it does not matter.
async fn everything_destructive(vault: &Vault, token: &str, points: &[(PointId, Digest)]) {
    let desk = &vault.desk;
    let source = || calls::OfSource(vault.owner.source.to_string());
    let agent = || OfAgent(vault.agent(0).to_string());
    macro_rules! tried {
        ($($call:ident $params:expr, $body:expr;)*) => {
            $(drop(desk.ask::<calls::$call>(token, $params, $body).await);)*
        };
    }
    for (point, _) in points {
        tried! {
            DeletePoint OfPoint(*point), ();
            PurgePoint OfPoint(*point), ();
        }
    }
    let policy = || {
        let policy = Some(Text("last=0".parse().unwrap()));
        Json(SetRetention { policy, soft_delete_days: None })
    };
    let of = || calls::OfRetention { agent: Some(vault.agent(0).to_string()) };
    let soft = || Json(SetRetention { policy: None, soft_delete_days: Some(7) });
    let full = || Json(ChangeTenant { quota_bytes: Some(Big(1)), ..ChangeTenant::default() });
    tried! {
        DeleteAgent agent(), ();
        ChangeRetention of(), policy();
        ChangeRetention calls::OfRetention::default(), policy();
        ChangeRetention calls::OfRetention::default(), soft();
        ShortenRetention (), Json(ShortenSoftDelete { soft_delete_days: 7 });
        CreditRetention (), Json(calls::CreditClock { seconds: 1 });
        ShortenTenantLock tenant_of(vault), Json(ShortenLock { governance_days: 0 });
        SetTenant tenant_of(vault), full();
        DeleteTenant tenant_of(vault), ();
        DenyRestore source(), ();
        RevokeSource source(), ();
        ClosePairingDoor (), ();
    }
    // Its own consent to whatever it began.
    let waiting = desk.ask::<calls::ListApprovals>(token, (), ()).await;
    for approval in waiting.map(|Json(list)| list).unwrap_or_default() {
        let answered = agree(vault, token, approval.clone()).await;
        assert!(answered.is_err(), "one person agreed to {}", approval.act);
    }
}
