//! Policies: by the time of receipt, never the newest, and always to be taken back.

use offsite_model::{Luck as _, PointId, Policy, Span, Timestamp};
use offsite_proto::admin::target::{
    ChangeRetention, OfPreview, OfRetention, PreviewRetention, SetRetention, ShowRetention,
};
use offsite_proto::error::ErrorCode;
use offsite_proto::json::Json;
use offsite_proto::text::Text;
use offsite_testkit::SeededLuck;

use super::{DAY, Vault};

const N_BOGUS: u32 = 1_000;

pub(super) async fn set(vault: &Vault, policy: &str) -> Result<(), ErrorCode> {
    let policy = Some(Text(policy.parse::<Policy>().unwrap()));
    let of = OfRetention { agent: Some(vault.agent(0).to_string()) };
    let body = Json(SetRetention { policy, soft_delete_days: None });
    vault.ask::<ChangeRetention>(of, body).await.map(drop)
}

/// What a policy would keep now.
fn kept(vault: &Vault, policy: &str) -> Vec<PointId> {
    let policy = policy.parse().unwrap();
    let agent = vault.agent(0);
    let decided = vault.scene().target.decided(&vault.owner, Some(agent), Some(policy)).unwrap();
    let kept = decided[&agent].iter().filter(|one| one.verdict.is_kept());
    kept.map(|one| one.point.point).collect()
}

#[tokio::test]
async fn c_05_bogus_points_with_forged_times_push_nothing_honest_out() {
    let luck = SeededLuck::from_env_or(5);
    let vault = Vault::open().await;
    let now = || vault.scene().now();
    // Four honest points a day for twenty days.
    let mut honest: Vec<(PointId, Timestamp)> = Vec::new();
    for number in 0..80 {
        vault.scene().advance(Span::from_hours(6));
        honest.push((vault.plant(number, now()), now()));
    }
    let lock = Span::from_days(7);
    vault.scene().target.raise_lock(vault.owner.tenant, None, 7).unwrap();
    // The attacker says of his that they are of any of these days, or of days to come.
    let attack = now();
    for number in 0..N_BOGUS {
        let reach = luck.below(40 * 86_400);
        let forged = now() - DAY.times(30) + Span::from_secs(reach);
        vault.plant(1_000 + number, forged);
        vault.scene().advance(Span::from_secs(3));
    }
    let all_points = vault.points();
    for policy in ["last=3", "weekly=4", "last=0", "daily=30", "hourly=1 daily=1 monthly=1"] {
        let kept = kept(&vault, policy);
        for (point, received_at) in &honest {
            let is_locked = now().since(*received_at) < lock;
            assert!(!is_locked || kept.contains(point), "{policy}: an honest point goes");
        }
        assert!(!kept.is_empty());
    }
    // What counts days has an honest point of each, also of the day of the attack.
    let daily = kept(&vault, "daily=30");
    let days = |of: &[(PointId, Timestamp)]| {
        let mut days: Vec<i64> = of.iter().map(|(_, at)| at.as_secs() / 86_400).collect();
        days.dedup();
        days
    };
    let honest_kept: Vec<_> =
        honest.iter().filter(|(point, _)| daily.contains(point)).copied().collect();
    assert_eq!(days(&honest_kept), days(&honest));
    assert!(honest.iter().any(|(_, at)| at.as_secs() / 86_400 == attack.as_secs() / 86_400));
    // Done in earnest, with the worst policy there is, and again and again.
    set(&vault, "last=0").await.unwrap();
    vault.pass(Span::from_hours(2));
    let points = vault.points();
    assert_eq!(points.len(), all_points.len(), "nothing is gone for good");
    let is_live =
        |id: &PointId| points.iter().any(|point| point.point == *id && point.deleted_at.is_none());
    for (point, received_at) in &honest {
        assert!(now().since(*received_at) >= lock || is_live(point));
    }
    assert!(vault.n_live() > 0 && vault.n_live() < all_points.len());
    vault.pass(DAY.times(9));
    assert_eq!(vault.n_live(), 1, "the newest stays for ever");
}

#[tokio::test]
async fn a_preview_says_what_goes_and_why_and_changes_nothing() {
    let vault = Vault::open().await;
    for number in 0..6 {
        vault.scene().advance(DAY);
        vault.plant(number, vault.scene().now() - DAY.times(2));
    }
    let of = |policy: &str| OfPreview {
        agent: Some(vault.agent(0).to_string()),
        policy: Some(Text(policy.parse().unwrap())),
    };
    let previewed = vault.ask::<PreviewRetention>(of("last=2 min-age=3d"), ()).await.unwrap().0;
    let points = &previewed[0].points;
    let why: Vec<String> = points.iter().map(|point| point.why.join("+")).collect();
    assert_eq!(why, ["newest+min-age+last 1", "min-age+last 2", "min-age", "", "", ""]);
    assert!(points.iter().all(|point| point.time_odd && point.keep != point.why.is_empty()));
    vault.pass(DAY);
    assert_eq!(vault.n_live(), 6, "nobody set a policy: all stay");
    set(&vault, "last=2").await.unwrap();
    vault.pass(Span::from_hours(2));
    assert_eq!(vault.n_live(), 2);
    let shown = vault.ask::<ShowRetention>(OfRetention::default(), ()).await.unwrap().0;
    assert_eq!(shown.default_policy.0, Policy::KeepAll);
    assert!(shown.agents.iter().any(|agent| agent.own && agent.policy.to_string() == "last=2"));
    assert_eq!(shown.soft_delete_days, 14);
    assert_eq!(vault.n_audited("policy_applied"), 1);
}

#[tokio::test]
async fn c_04_after_a_clock_set_back_no_policy_removes_anything_for_a_day() {
    let vault = Vault::open().await;
    for number in 0..5 {
        vault.scene().advance(DAY);
        vault.plant(number, vault.scene().now());
    }
    vault.pass(Span::from_hours(2));
    set(&vault, "last=1").await.unwrap();
    vault.scene().clock.jump_back(DAY.times(3_650));
    vault.pass(Span::from_hours(23));
    assert_eq!((vault.n_live(), vault.n_audited("clock_jumped")), (5, 1));
    vault.pass(Span::from_hours(3));
    assert_eq!(vault.n_live(), 1);
    // Set forward, soft deletion takes its fourteen days all the same.
    vault.scene().clock.jump_forward(DAY.times(36_500));
    vault.pass(DAY.times(13));
    assert_eq!((vault.points().len(), vault.n_audited("clock_jumped")), (5, 2));
    vault.pass(DAY.times(2));
    assert_eq!(vault.points().len(), 1);
}
