//! Settings of a target as plain data: every one is named, none is hidden.
//!
//! [`Settings::shipped`] is what a fresh installation says; the program reads its configuration
//! file over it. Hard maxima are applied by [`Settings::bounded`], whoever asks for more.
//!
//! **Absent:** files, parsing; state that changes while the daemon runs (whether pairing is open
//! stands in the catalog).

use offsite_exchange::pairing::Rules;
use offsite_exchange::replication;
use offsite_model::{Digest, Span};
use offsite_proto::version::ProductVersion;

/// Payload bytes of a session that may be on the line or in memory.
const CREDIT_BYTES: u64 = 8 << 20;

/// Everything an operator can set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The target's name, shown to sources that are paired.
    pub name: String,
    /// The product version that is shown.
    pub version: ProductVersion,
    /// How requests to pair are taken and kept.
    pub pairing: PairingSettings,
    /// What an acceptance says where the operator says nothing.
    pub acceptance: AcceptanceDefaults,
    /// How images are received.
    pub replication: ReplicationSettings,
    /// How the store is kept in order.
    pub upkeep: offsite_upkeep::Settings,
}

/// How images are received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicationSettings {
    /// Bytes after which what arrived is made durable.
    pub barrier_bytes: u64,
    /// Time after which it is, however little there is.
    pub barrier_after: Span,
    /// How long a session that nobody speaks to can be gone on with as it is. What it brought stays
    /// for as long again, and is dropped then.
    pub lease: Span,
}

/// How requests to pair are taken and kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PairingSettings {
    /// Requests that may wait from one address (/32, or /56 of IPv6).
    pub pending_per_address_max: u32,
    /// Requests that may wait in all.
    pub pending_max: u32,
    /// How many of these are kept for callers with an enrolment code.
    pub reserved_for_codes: u32,
    /// How long a request waits for a decision.
    pub request_life: Span,
    /// Wrong check codes after which a request is locked until the source submits again.
    pub wrong_codes_max: u32,
    /// The pause before the first poll, in seconds; also the shortest spacing asked for.
    pub poll_after_secs: u32,
    /// Life of an issued certificate, in days.
    pub certificate_days: u32,
    /// How long two keys of one source are valid side by side during a renewal.
    pub key_overlap: Span,
    /// How long after its end a certificate may still renew.
    pub renew_after_expiry: Span,
    /// Whether nobody may accept without a check code.
    pub require_check_code: bool,
    /// How long rejected requests and ended pairings are remembered.
    pub ended_kept: Span,
}

/// What an acceptance says where the operator says nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcceptanceDefaults {
    /// The most a source may store, in bytes; none = no quota.
    pub quota_bytes: Option<u64>,
    /// Whether a source may read its own points back.
    pub allow_restore: bool,
    /// The least time a point is kept from deletion, in days.
    pub lock_days: u32,
}

/// Hard maxima of the settings.
pub mod maxima {
    /// Requests that may wait from one address.
    pub const PENDING_PER_ADDRESS: u32 = 64;
    /// Requests that may wait in all.
    pub const PENDING: u32 = 4_096;
    /// Requests kept for callers with an enrolment code.
    pub const RESERVED_FOR_CODES: u32 = 256;
    /// Days a request waits.
    pub const REQUEST_DAYS: u64 = 30;
    /// Wrong check codes.
    pub const WRONG_CODES: u32 = 10;
    /// Days of a certificate.
    pub const CERTIFICATE_DAYS: u32 = 400;
    /// Days of two keys side by side.
    pub const OVERLAP_DAYS: u64 = 7;
    /// Days of renewal after the end of a certificate.
    pub const RENEW_DAYS: u64 = 365;
    /// Bytes between two barriers.
    pub const BARRIER_BYTES: u64 = 1 << 30;
    /// Seconds between two barriers.
    pub const BARRIER_SECS: u64 = 60;
    /// Days of a lease.
    pub const LEASE_DAYS: u64 = 7;
}

impl Settings {
    /// What a fresh installation says.
    #[must_use]
    pub fn shipped(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            version: ProductVersion::from_package(env!("CARGO_PKG_VERSION")),
            pairing: PairingSettings {
                pending_per_address_max: 4,
                pending_max: 256,
                reserved_for_codes: 32,
                request_life: Span::from_days(7),
                wrong_codes_max: 5,
                poll_after_secs: 5,
                certificate_days: 90,
                key_overlap: Span::from_hours(24),
                renew_after_expiry: Span::from_days(180),
                require_check_code: false,
                ended_kept: Span::from_days(30),
            },
            acceptance: AcceptanceDefaults {
                quota_bytes: None,
                allow_restore: false,
                lock_days: 0,
            },
            replication: ReplicationSettings {
                barrier_bytes: 256 << 20,
                barrier_after: Span::from_secs(10),
                lease: Span::from_hours(24),
            },
            upkeep: offsite_upkeep::Settings::default(),
        }
    }

    /// The same settings, none above its hard maximum and none that would make the target useless.
    #[must_use]
    pub fn bounded(mut self) -> Self {
        let pairing = &mut self.pairing;
        pairing.pending_max = pairing.pending_max.clamp(1, maxima::PENDING);
        pairing.reserved_for_codes =
            pairing.reserved_for_codes.min(maxima::RESERVED_FOR_CODES).min(pairing.pending_max);
        pairing.pending_per_address_max =
            pairing.pending_per_address_max.clamp(1, maxima::PENDING_PER_ADDRESS);
        pairing.request_life =
            pairing.request_life.clamp(Span::from_secs(60), Span::from_days(maxima::REQUEST_DAYS));
        pairing.wrong_codes_max = pairing.wrong_codes_max.clamp(1, maxima::WRONG_CODES);
        pairing.poll_after_secs = pairing.poll_after_secs.clamp(1, 60);
        pairing.certificate_days = pairing.certificate_days.clamp(1, maxima::CERTIFICATE_DAYS);
        pairing.key_overlap = pairing.key_overlap.min(Span::from_days(maxima::OVERLAP_DAYS));
        pairing.renew_after_expiry =
            pairing.renew_after_expiry.min(Span::from_days(maxima::RENEW_DAYS));
        let replication = &mut self.replication;
        replication.barrier_bytes = replication.barrier_bytes.clamp(1 << 20, maxima::BARRIER_BYTES);
        let longest = Span::from_secs(maxima::BARRIER_SECS);
        replication.barrier_after = replication.barrier_after.clamp(Span::from_secs(1), longest);
        replication.lease =
            replication.lease.clamp(Span::from_secs(1), Span::from_days(maxima::LEASE_DAYS));
        self.upkeep = self.upkeep.bounded();
        self
    }

    /// The rules of pairing that follow from them.
    #[must_use]
    pub fn rules(&self) -> Rules {
        let pairing = &self.pairing;
        Rules {
            request_life: pairing.request_life,
            wrong_codes_max: pairing.wrong_codes_max,
            poll_pause_min: Span::from_secs(u64::from(pairing.poll_after_secs)),
            certificate_life: Span::from_days(u64::from(pairing.certificate_days)),
            overlap: pairing.key_overlap,
            renew_after_expiry: pairing.renew_after_expiry,
            ..Rules::shipped()
        }
    }

    /// The rules of receiving an image that follow from them.
    #[must_use]
    pub fn session_rules(&self) -> replication::target::Rules {
        let ReplicationSettings { barrier_bytes, barrier_after, lease } = self.replication;
        let credit_bytes = CREDIT_BYTES;
        replication::target::Rules {
            credit_bytes,
            barrier_bytes,
            barrier_after,
            idle: lease,
            ..Default::default()
        }
    }

    /// Digest of the policy that an acceptance would apply by itself: part of what an operator is
    /// shown.
    #[must_use]
    pub fn policy_digest(&self) -> Digest {
        let AcceptanceDefaults { quota_bytes, allow_restore, lock_days } = &self.acceptance;
        Digest::of(format!("{quota_bytes:?} {allow_restore} {lock_days}").as_bytes())
    }
}
