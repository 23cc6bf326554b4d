//! `serve`: the daemon. Open, bind, load, publish, serve; stop in the opposite order.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use offsite_daemon::{Shutdown, SystemClock, SystemLuck, command, logging, process, readiness};
use offsite_model::{Clock, Span, TenantId};
use offsite_proto::version::ProductVersion;
use offsite_source_core::admin::{self, Admin};
use offsite_source_core::calls::TlsLine;
use offsite_source_core::engine::Engine;
use offsite_source_core::hooks::Runner;
use offsite_source_core::jobs::Jobs;
use offsite_source_core::pairing::Means;
use offsite_source_core::poll::RealWaiter;
use offsite_source_core::protect::Protection;
use offsite_source_core::replicate::Replicator;
use offsite_terminal::{Exit, Failure};
use offsite_transport::{ConnectionPolicy, LocalServer};
use serde_json::json;

use crate::context::{Context, SOCKET};
use crate::exit::{no_directory, troubled};
use crate::home::Home;

/// How long work that is under way may take to come to its end after a signal.
const DRAIN: Duration = Duration::from_secs(10);
/// How long a command may leave an answer unread.
const UNREAD: Duration = Duration::from_secs(600);

pub(crate) async fn run(context: &Context) -> Result<Exit, Failure> {
    let failed = |doing: &str, error: &dyn std::fmt::Display| {
        Failure::failed(format!("cannot {doing}: {error}"))
    };
    process::harden().map_err(|error| failed("keep secrets out of core files", &error))?;
    let home = Home::open(&context.data)?;
    let clock = Arc::new(SystemClock);
    logging::start(home.file.log.format.into(), &home.file.log.filter, clock.clone())
        .map_err(|error| failed("start the log", &error))?;
    let shutdown =
        Shutdown::on_signals(DRAIN).map_err(|error| failed("listen for signals", &error))?;
    let stop = shutdown.draining().clone();

    let run_directory = home.directory.clean_run_dir().map_err(no_directory)?;
    tracing::debug!(path = %run_directory.display(), "run directory is clean");
    // A restore to a slow device may stop reading for a while; nobody but the owner gets here.
    let policy = ConnectionPolicy { unread: UNREAD, ..ConnectionPolicy::default() };
    let socket = LocalServer::bind(&context.data.join(SOCKET), policy)
        .map_err(|error| failed("listen on the local socket", &error))?;

    let means = means(&home);
    let (engine, handle) = Engine::load(Arc::clone(&means)).map_err(troubled)?;
    let protection = protection(&home);
    let replicator = Arc::new(Replicator::new(
        Arc::clone(&means),
        Arc::clone(&protection),
        home.file.settings(),
    ));
    let admin = Arc::new(Admin {
        means,
        files: Arc::clone(&home.files),
        protection,
        replicator: Arc::clone(&replicator),
        jobs: Jobs::default(),
        handle,
        version: env!("CARGO_PKG_VERSION"),
        since: clock.uptime(),
        stop: stop.clone(),
    });
    let router = admin::router(admin, process::owner())
        .map_err(|error| failed("serve the local socket", &error))?;

    let addresses = json!({ "console": null, "pid": process::id() }).to_string();
    let published = home.directory.publish_addresses(&addresses).map_err(no_directory)?;
    tracing::info!(source = %home.identity.core_id(), name = home.identity.name, "serving");
    readiness::ready().map_err(|error| failed("tell the service manager", &error))?;

    let server = tokio::spawn(socket.serve(router, stop.clone()));
    let standing_by = stop.clone();
    tokio::spawn(async move { replicator.stand_by(standing_by).await });
    // The engine ends by the signal, or because the disk failed; the socket then has nothing to
    // serve.
    let worked = tokio::select! {
        worked = engine.run(stop) => worked,
        () = shutdown.overdue().cancelled() => Ok(()),
    };
    shutdown.begin();
    let stopped = tokio::select! {
        stopped = server => stopped,
        () = shutdown.overdue().cancelled() => Ok(()),
    };
    drop(published);
    tracing::info!("stopped");
    stopped.map_err(|error| failed("end the local socket", &error))?;
    worked.map(|()| Exit::Done).map_err(troubled)
}

fn protection(home: &Home) -> Arc<Protection> {
    let n_processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    Arc::new(Protection {
        store: home.store.clone(),
        tenant: TenantId::from_bytes(home.identity.core_id().to_bytes()),
        files: Arc::clone(&home.files),
        clock: Arc::new(SystemClock),
        luck: Arc::new(SystemLuck),
        runner: Arc::new(Programs),
        settings: home.file.protect(n_processors),
        busy: Mutex::default(),
        turn: Mutex::default(),
    })
}

/// Runs hooks as programs of this machine.
struct Programs;

impl Runner for Programs {
    fn run(&self, program: &Path, variables: &[(&str, &str)], within: Span) -> Result<(), String> {
        command::run(program, variables, within).map_err(|error| error.to_string())
    }
}

fn means(home: &Home) -> Arc<Means> {
    let (clock, luck) = (Arc::new(SystemClock), Arc::new(SystemLuck));
    let settings = home.file.settings();
    let line = Arc::new(TlsLine {
        keys: home.keys.clone(),
        clock: clock.clone(),
        luck: luck.clone(),
        settings: settings.clone(),
        version: ProductVersion::from_package(env!("CARGO_PKG_VERSION")),
    });
    Arc::new(Means {
        clock,
        luck,
        memory: home.memory.clone(),
        keys: home.keys.clone(),
        line,
        waiter: Arc::new(RealWaiter),
        rules: settings.rules(),
        identity: home.identity.clone(),
    })
}
