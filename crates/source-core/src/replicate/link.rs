//! The way to the target of a pairing: one connection for calls and keys, and as many for records
//! as the distance asks for. Each is made when it is needed and kept while it lives.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use offsite_exchange::pace::Pace;
use offsite_exchange::pairing::source::{Link as PinnedLink, Stage};
use offsite_exchange::replication::Runs;
use offsite_exchange::replication::source::Failure;
use offsite_model::{AgentId, Clock};
use offsite_pki::Thumbprint;
use offsite_pki::tls::{self, ClientIdentity, ClientTls, Trust};
use offsite_proto::bitmap::Bitmap;
use offsite_proto::error::{ErrorCode, Refusal};
use offsite_proto::session::BitmapBody;
use offsite_transport::{CallError, Congestion, Connection, DialError, HostPort, Timeouts};
use tokio::sync::Mutex;
use tokio::task::JoinSet;

use crate::config::Settings;
use crate::error::Trouble;
use crate::install::spki;
use crate::pairing::Means;

/// The longest wait for an answer: row 47 may take half a minute to say that it is not done.
const ANSWER_SECS: u64 = 90;

/// The distance from which on one connection does not fill a link: what is under way on it is too
/// little for long, and a lost packet costs too much.
const FAR: Duration = Duration::from_millis(15);
/// The distance from which on twice as many are used.
const VERY_FAR: Duration = Duration::from_millis(60);
const N_STREAMS_FAR: u32 = 6;
/// A few less than a target takes of one source, which needs some for other work.
const N_STREAMS_VERY_FAR: u32 = 12;

/// Raw bytes that are worth a connection of their own.
const STREAM_BYTES: u64 = 1 << 20;

/// What went over a link, and the clock that it is measured by.
struct Gauge {
    clock: Arc<dyn Clock>,
    pace: std::sync::Mutex<Pace>,
}

/// A target and how it is reached.
pub(crate) struct Link {
    target: HostPort,
    name: String,
    own: Vec<u8>,
    pin: Thumbprint,
    tls: ClientTls,
    timeouts: Timeouts,
    congestion: Congestion,
    pace: Option<Gauge>,
    /// The first carries calls, keys and the first stream of records; the others one stream each.
    open: Box<[Mutex<Option<Connection>>]>,
}

impl Link {
    /// The link of the newest active pairing of an agent, or of that with this target. Blocks.
    pub(crate) fn find(
        means: &Means,
        settings: &Settings,
        agent: AgentId,
        agent_name: &str,
        target: Option<&str>,
    ) -> Result<Self, Trouble> {
        let none = || {
            let message = match target {
                Some(target) => format!("agent {agent_name} is not paired with {target}"),
                None => format!("agent {agent_name} is not part of an active pairing"),
            };
            let hint = "see offsite-source pair status, or pair: offsite-source pair request URL \
                --agent NAME";
            Trouble::operator(ErrorCode::WrongState, message, hint)
        };
        let pairings = means.memory.pairings()?;
        let found = pairings.into_iter().rev().find_map(|(_, row)| {
            let core = row.target_core().map(|core| core.to_string());
            let is_meant = target.is_none_or(|t| row.target == t || core.as_deref() == Some(t));
            match row.machine.stage() {
                Stage::Active(active) if is_meant && row.agents().contains(&agent) => {
                    Some(active.link.clone())
                }
                _ => None,
            }
        });
        Self::of(means, settings, found.ok_or_else(none)?)
    }

    /// The link of the newest active pairing with this target, whatever its agents: by its address,
    /// its id, or the name it gives itself. Blocks.
    pub(crate) fn to(means: &Means, settings: &Settings, target: &str) -> Result<Self, Trouble> {
        let mut found = None;
        for (number, row) in means.memory.pairings()?.into_iter().rev() {
            let Stage::Active(active) = row.machine.stage() else { continue };
            let core = row.target_core().map(|core| core.to_string());
            // An address and an id go before a name, which a target gives itself.
            if row.target == target || core.as_deref() == Some(target) {
                found = Some(active.link.clone());
                break;
            }
            let is_named = means.memory.target_name(number)?.as_deref() == Some(target);
            if is_named && found.is_none() {
                found = Some(active.link.clone());
            }
        }
        let link = found.ok_or_else(|| {
            let shown: String = target.chars().take(128).flat_map(char::escape_debug).collect();
            Trouble::operator(
                ErrorCode::SystemUnknown,
                format!("there is no active pairing with {shown}"),
                "see offsite-source pair status",
            )
        })?;
        Self::of(means, settings, link)
    }

    /// The link that a pairing settled on. Blocks.
    pub(super) fn of(
        means: &Means,
        settings: &Settings,
        link: PinnedLink,
    ) -> Result<Self, Trouble> {
        let (key, certificate) = means.keys.identity(&link.key)?;
        let pin = spki(&link.target_key)?.thumbprint();
        let tls = tls::client(ClientIdentity::Certified(&key, &certificate), Trust::Pin(pin))
            .map_err(|error| Trouble::us(format!("cannot prepare a connection: {error}")))?;
        let host = link.target.parse::<HostPort>();
        let host = host.map_err(|error| Trouble::us(format!("the target's address: {error}")))?;
        Ok(Self {
            target: host,
            name: link.target,
            own: link.key.as_der().to_vec(),
            pin,
            tls,
            timeouts: Timeouts {
                connect: settings.connect_timeout.to_std(),
                handshake: settings.connect_timeout.to_std(),
                answer: Duration::from_secs(ANSWER_SECS),
            },
            congestion: settings.congestion.clone(),
            pace: Pace::new(settings.transfer_bytes_per_sec).map(|pace| Gauge {
                clock: Arc::clone(&means.clock),
                pace: std::sync::Mutex::new(pace),
            }),
            open: (0..N_STREAMS_VERY_FAR).map(|_| Mutex::new(None)).collect(),
        })
    }

    /// The target, as the pairing names it.
    pub(crate) fn target(&self) -> &str {
        &self.name
    }

    /// Whether both lead to the same target with the same keys.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.own == other.own && self.pin == other.pin && self.name == other.name
    }

    /// Whether it is what a pairing settled on: the same target, our same key.
    pub(super) fn is_by(&self, pinned: &PinnedLink) -> bool {
        let pin = spki(&pinned.target_key).map(|key| key.thumbprint());
        self.name == pinned.target
            && self.own == pinned.key.as_der()
            && pin.is_ok_and(|pin| pin == self.pin)
    }

    /// How long to wait before so many bytes of records may go over this link, whichever way
    /// (`maxTransferSpeed`).
    pub(crate) fn pace(&self, bytes: u64) -> Duration {
        let Some(Gauge { clock, pace }) = &self.pace else { return Duration::ZERO };
        let mut pace = pace.lock().unwrap_or_else(PoisonError::into_inner);
        pace.take(bytes, clock.uptime()).to_std()
    }

    /// The open connection for calls, or a new one.
    pub(crate) async fn connection(&self) -> Result<Connection, Failure> {
        self.open_at(0).await
    }

    /// How many streams of records the distance asks for.
    pub(crate) async fn n_streams(&self) -> Result<u32, Failure> {
        let distance = self.connection().await?.round_trip();
        Ok(match distance {
            _ if distance >= VERY_FAR => N_STREAMS_VERY_FAR,
            _ if distance >= FAR => N_STREAMS_FAR,
            _ => 1,
        })
    }

    /// Dials what streams of so many bytes will need, so that no record waits for a handshake. Who
    /// needs a connection that could not be made tries again, and says what is wrong.
    pub(crate) async fn prepare(self: Arc<Self>, bytes: u64) {
        let Ok(n_streams) = self.n_streams().await else { return };
        let n_filled = usize::try_from(bytes / STREAM_BYTES).unwrap_or(usize::MAX);
        let mut dials = JoinSet::new();
        for index in 1..n_filled.min(n_streams as usize) {
            let link = Arc::clone(&self);
            dials.spawn(async move { link.open_at(index).await.is_ok() });
        }
        while dials.join_next().await.is_some() {}
    }

    /// The connection of a stream of records, or a new one.
    pub(crate) async fn of_stream(&self, stream: u32) -> Result<Connection, Failure> {
        let n_streams = self.n_streams().await?.max(1);
        self.open_at(stream.checked_rem(n_streams).unwrap_or(0) as usize).await
    }

    async fn open_at(&self, index: usize) -> Result<Connection, Failure> {
        let Some(place) = self.open.get(index) else { return Err(Failure::Cut) };
        // Held across the dial, so that all who need it share it.
        let mut open = place.lock().await;
        if let Some(connection) = open.as_ref().filter(|connection| !connection.is_closed()) {
            return Ok(connection.clone());
        }
        let connection = self.dial().await.map_err(|error| {
            tracing::info!(target = self.name, cause = %error, "the target cannot be reached");
            match error {
                DialError::PinMismatch { .. } => Failure::Refused(Refusal::new(
                    ErrorCode::TargetChanged,
                    "the target shows another key than the one that was pinned",
                )),
                _ => Failure::Cut,
            }
        })?;
        *open = Some(connection.clone());
        Ok(connection)
    }

    async fn dial(&self) -> Result<Connection, DialError> {
        let congestion = Some(&self.congestion);
        Connection::dial_with(&self.target, &self.tls, &self.timeouts, congestion).await
    }

    /// Sees to it that the connection for calls is open.
    pub(super) async fn stand_by(&self) -> Result<(), DialError> {
        let Some(place) = self.open.first() else { return Ok(()) };
        let mut open = place.lock().await;
        if open.as_ref().is_none_or(Connection::is_closed) {
            *open = Some(self.dial().await?);
        }
        Ok(())
    }
}

/// A call that failed, in the machine's words.
pub(crate) fn failure(error: CallError) -> Failure {
    match error {
        CallError::Refused(refusal, _) => {
            tracing::debug!(code = %refusal.code, cause = %refusal.message, "a call was refused");
            Failure::Refused(refusal)
        }
        CallError::Transport { sentence, .. } => {
            tracing::debug!(cause = sentence, "a call failed");
            Failure::Cut
        }
    }
}

/// The positions that a bitmap says need not be sent; none where it cannot be read.
pub(crate) fn runs_of(body: &BitmapBody) -> Option<Runs> {
    let mut runs = Runs::new();
    let bitmap = Bitmap::read(&body.0).ok()?;
    bitmap.runs(|run| runs.insert(run)).ok()?;
    Some(runs)
}
