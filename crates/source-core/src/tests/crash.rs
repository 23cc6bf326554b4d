//! The daemon dies at every step of pairing and starts again: each time it goes on to the same end.

use offsite_proto::admin::source::State;
use offsite_testkit::SimClock;

use super::fake::{Decision, Fake};
use super::scene::Scene;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_12_a_kill_at_any_step_leads_to_one_active_pairing() {
    for n_steps in 0..24 {
        let clock = SimClock::new();
        let (fake, _stop) = Fake::start(&clock).await;
        fake.state().decision = Decision::Accept;
        let mut scene = Scene::start(&clock);
        // The request may or may not be filed when the daemon dies; its operator asks again if it
        // is not.
        scene.ask_and_die(&fake.url(), n_steps).await;
        let mut scene = scene.kill().await;
        if scene.pairing().state == State::Unpaired {
            scene.request(&fake.url()).await.unwrap();
        }
        let active = scene.until("active", |pairing| pairing.state == State::Active).await;
        assert!(!active.alarm, "{n_steps}");
        assert_eq!(fake.n_active(), 1, "{n_steps}");
        assert_eq!(scene.key_files().len(), 1, "{n_steps}: {:?}", scene.key_files());
        assert_eq!(scene.handle.pairings().len(), 1, "{n_steps}");
    }
}
