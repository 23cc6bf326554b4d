//! clocks may differ by a day; beyond that the text holds the seconds.

use offsite_proto::admin::source::State;
use offsite_testkit::SimClock;

use super::fake::{Decision, Fake};
use super::scene::Scene;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_16_a_day_of_skew_is_borne_and_more_is_named_in_seconds() {
    for hours in [-48_i64, -36, -24, -12, 0, 12, 24, 36, 48] {
        let clock = SimClock::new();
        let (fake, _stop) = Fake::start(&clock).await;
        let mut scene = Scene::start_wrong(&clock, hours * 3_600);
        fake.state().decision = Decision::Accept;
        scene.request(&fake.url()).await.unwrap();
        if hours.abs() <= 24 {
            let active = scene.until("active", |pairing| pairing.state == State::Active).await;
            assert_eq!(active.clock_skew_seconds, Some(hours * 3_600), "{hours} h");
            continue;
        }
        let secs = (hours.abs() * 3_600).to_string();
        let skewed = scene
            .until("skewed", |pairing| {
                pairing.message.as_deref().is_some_and(|message| message.contains(&secs))
            })
            .await;
        assert_eq!(skewed.state, State::Accepted, "{hours} h");
        let side = if hours < 0 { "behind" } else { "ahead" };
        assert!(skewed.message.as_deref().unwrap().contains(side), "{hours} h: {skewed:?}");
        assert!(!skewed.is_resolved(), "{hours} h: it goes on when the clock is set");
        assert_eq!(fake.n_active(), 0, "{hours} h");
        assert!(!fake.state().calls.contains(&"P2"), "{hours} h");
    }
}
