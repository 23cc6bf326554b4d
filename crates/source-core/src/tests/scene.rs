//! A source whose disk and time are simulated, and the questions that tests ask of it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use offsite_daemon::PrivateDirectory;
use offsite_model::{AgentId, Clock, CoreId, Luck, Span, Timestamp};
use offsite_proto::admin::source::{EndPairing, Pairing, RequestPairing, ResetDone, State};
use offsite_proto::version::ProductVersion;
use offsite_store::catalog::MemoryCatalog;
use offsite_testkit::disk::Disk;
use offsite_testkit::{SeededLuck, SimClock};
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::calls::TlsLine;
use crate::config::Settings;
use crate::engine::{Engine, Handle};
use crate::error::Trouble;
use crate::event::{Order, ReplyTo};
use crate::install::Keys;
use crate::memory::{AgentRow, Identity, Memory, VolumeRow};
use crate::pairing::Means;
use crate::poll::{Wait, Waiter};

/// Longer than any step takes; only a test that fails waits for it.
const STUCK: Duration = Duration::from_secs(20);

/// A clock that is wrong by a fixed amount.
pub(super) struct Wrong {
    pub(super) clock: SimClock,
    pub(super) ahead_secs: i64,
}

impl Clock for Wrong {
    fn now(&self) -> Timestamp {
        let micros = self.ahead_secs.saturating_mul(1_000_000);
        Timestamp::from_micros(self.clock.now().as_micros().saturating_add(micros))
    }

    fn uptime(&self) -> Span {
        self.clock.uptime()
    }
}

/// Waits by letting simulated time pass, as often as the test permits.
struct SimWaiter {
    clock: SimClock,
    wakes: Arc<Semaphore>,
}

impl Waiter for SimWaiter {
    fn wait(&self, pause: Span) -> Wait {
        let (clock, wakes) = (self.clock.clone(), Arc::clone(&self.wakes));
        Box::pin(async move {
            wakes.acquire().await.unwrap().forget();
            clock.advance(pause);
        })
    }
}

pub(super) struct Scene {
    pub(super) clock: SimClock,
    pub(super) disk: Disk,
    pub(super) catalog: Arc<MemoryCatalog>,
    pub(super) ahead_secs: i64,
    pub(super) wakes: Arc<Semaphore>,
    pub(super) means: Arc<Means>,
    pub(super) handle: Handle,
    stop: CancellationToken,
    running: JoinHandle<Result<(), Trouble>>,
}

impl Scene {
    pub(super) fn start(clock: &SimClock) -> Self {
        Self::start_wrong(clock, 0)
    }

    /// A source whose clock is wrong.
    pub(super) fn start_wrong(clock: &SimClock, ahead_secs: i64) -> Self {
        let disk = Disk::new(1);
        PrivateDirectory::create(disk.files(), Path::new("/keys"), 0).unwrap();
        let catalog = Arc::new(MemoryCatalog::new());
        let memory = Memory::new(catalog.clone());
        let core = CoreId::from_bytes([7; 16]);
        memory.set_identity(&Identity::new(core, "here".to_owned(), clock.now())).unwrap();
        let volume = VolumeRow::new(
            offsite_model::VolumeId::from_bytes([1; 16]),
            "root".to_owned(),
            "/v".to_owned(),
            4_096,
        );
        for (number, name) in [(1, "web"), (2, "db")] {
            let id = AgentId::from_bytes([number; 16]);
            let agent = AgentRow::new(id, name.to_owned(), vec![volume.clone()], clock.now());
            memory.put_agent(&agent).unwrap();
        }
        Self::open(clock, disk, catalog, ahead_secs)
    }

    pub(super) fn open(
        clock: &SimClock,
        disk: Disk,
        catalog: Arc<MemoryCatalog>,
        ahead_secs: i64,
    ) -> Self {
        let files = disk.files();
        let directory = PrivateDirectory::open(Arc::clone(&files), Path::new("/keys"), 0).unwrap();
        let keys = Keys::new(files, Arc::new(directory));
        let wrong: Arc<dyn Clock> = Arc::new(Wrong { clock: clock.clone(), ahead_secs });
        let luck: Arc<dyn Luck> = Arc::new(SeededLuck::new(5));
        let memory = Memory::new(catalog.clone());
        let line = Arc::new(TlsLine {
            keys: keys.clone(),
            clock: Arc::clone(&wrong),
            luck: Arc::clone(&luck),
            settings: Settings::shipped(),
            version: ProductVersion::from_package("0.1.0"),
        });
        let wakes = Arc::new(Semaphore::new(0));
        let identity = memory.identity().unwrap().unwrap();
        let waiter = Arc::new(SimWaiter { clock: clock.clone(), wakes: Arc::clone(&wakes) });
        let rules = Settings::shipped().rules();
        let means =
            Arc::new(Means { clock: wrong, luck, memory, keys, line, waiter, rules, identity });
        let (engine, handle) = Engine::load(Arc::clone(&means)).unwrap();
        let stop = CancellationToken::new();
        let running = tokio::spawn(engine.run(stop.clone()));
        Self {
            clock: clock.clone(),
            disk,
            catalog,
            ahead_secs,
            wakes,
            means,
            handle,
            stop,
            running,
        }
    }

    /// Ends the daemon as a signal does, and starts it again on the same disk.
    pub(super) async fn restart(self) -> Self {
        self.stop.cancel();
        self.running.await.unwrap().unwrap();
        Self::open(&self.clock, self.disk, self.catalog, self.ahead_secs)
    }

    /// Ends the daemon as a kill does, and starts it again on the same disk.
    pub(super) async fn kill(self) -> Self {
        self.running.abort();
        drop(self.running.await);
        self.disk.kill();
        Self::open(&self.clock, self.disk, self.catalog, self.ahead_secs)
    }

    async fn order<T>(&self, order: impl FnOnce(ReplyTo<T>) -> Order) -> Result<T, Trouble> {
        let (to_us, answer) = oneshot::channel();
        self.handle.order(order(to_us)).await.unwrap();
        tokio::time::timeout(STUCK, answer).await.expect("an order was never answered").unwrap()
    }

    pub(super) async fn request(&self, url: &str) -> Result<Pairing, Trouble> {
        self.request_for(url, "web").await
    }

    pub(super) async fn request_for(&self, url: &str, agent: &str) -> Result<Pairing, Trouble> {
        let request = RequestPairing {
            url: url.to_owned(),
            agents: vec![agent.to_owned()],
            customer_id: "c-1".to_owned(),
            email: "a@b".to_owned(),
            comment: "please".to_owned(),
            enrolment_code: None,
        };
        self.order(|reply| Order::Request(request, reply)).await
    }

    pub(super) async fn withdraw(&self) -> Result<Pairing, Trouble> {
        self.order(|reply| Order::Withdraw(None, reply)).await
    }

    pub(super) async fn renew(&self) -> Result<Pairing, Trouble> {
        self.order(|reply| Order::Renew(None, reply)).await
    }

    pub(super) async fn retry(&self) -> Result<Pairing, Trouble> {
        self.order(|reply| Order::Retry(None, reply)).await
    }

    pub(super) async fn reset(&self) -> Result<ResetDone, Trouble> {
        self.order(|reply| Order::Reset(None, reply)).await
    }

    pub(super) async fn end(&self, target: &str, delete: bool) -> Result<Pairing, Trouble> {
        let order = EndPairing { target: target.to_owned(), delete_recovery_points: delete };
        self.order(|reply| Order::End(order, reply)).await
    }

    /// Asks for a pairing, lets so many changes pass, and leaves the daemon as it then is.
    pub(super) async fn ask_and_die(&mut self, url: &str, n_changes: usize) {
        let request = RequestPairing {
            url: url.to_owned(),
            agents: vec!["web".to_owned()],
            customer_id: String::new(),
            email: String::new(),
            comment: String::new(),
            enrolment_code: None,
        };
        let (to_us, _answer) = oneshot::channel();
        self.handle.order(Order::Request(request, to_us)).await.unwrap();
        for _ in 0..n_changes {
            if self.pairing().state == State::Active {
                return;
            }
            if self.wakes.available_permits() == 0 {
                self.wake();
            }
            self.handle.changed().await;
        }
    }

    /// The newest pairing.
    pub(super) fn pairing(&self) -> Pairing {
        self.handle.pairings().pop().unwrap_or_else(Pairing::none)
    }

    /// Lets one pause pass.
    pub(super) fn wake(&self) {
        self.wakes.add_permits(1);
    }

    /// Waits, without letting a pause pass, until the newest pairing is as asked.
    pub(super) async fn settled(
        &mut self,
        what: &str,
        is_so: impl Fn(&Pairing) -> bool,
    ) -> Pairing {
        let wait = async {
            loop {
                let pairing = self.pairing();
                if is_so(&pairing) {
                    return pairing;
                }
                self.handle.changed().await;
            }
        };
        match tokio::time::timeout(STUCK, wait).await {
            Ok(pairing) => pairing,
            Err(_) => panic!("never {what}: {:?}", self.handle.pairings()),
        }
    }

    /// Lets pauses pass, one after each change, until the newest pairing is as asked.
    pub(super) async fn until(&mut self, what: &str, is_so: impl Fn(&Pairing) -> bool) -> Pairing {
        for _ in 0..1_000 {
            let pairing = self.pairing();
            if is_so(&pairing) {
                return pairing;
            }
            if self.wakes.available_permits() == 0 {
                self.wake();
            }
            let change = pairing.change;
            self.settled(what, |pairing| pairing.change != change || is_so(pairing)).await;
        }
        panic!("not {what} after a thousand steps: {:?}", self.pairing());
    }

    /// Pairs, up to the active state.
    pub(super) async fn pair(&mut self, url: &str) -> Pairing {
        self.request(url).await.unwrap();
        self.until("active", |pairing| pairing.state == State::Active).await
    }

    /// Names of the files in the directory of keys.
    pub(super) fn key_files(&self) -> Vec<String> {
        self.disk.files().list(Path::new("/keys")).unwrap()
    }
}
