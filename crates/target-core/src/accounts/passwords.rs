//! Passwords: Argon2id, at most two at once, throttled before anything is hashed.
//!
//! Hashing is made dear on purpose, so whoever may ask for it could ask for all memory: a semaphore
//! lets two through, a bound on those who wait refuses the rest, and the throttle comes first. An
//! unknown account costs the same as a known one.
//!
//! **Absent:** plain passwords anywhere but on the stack of one call.

use std::sync::Arc;

use argon2::{Algorithm, Argon2, Params, Version};
use offsite_daemon::Secret;
use offsite_model::Luck;
use offsite_proto::error::{ErrorCode, Refusal};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

/// Memory of one hash in KiB.
pub const MEMORY_KIB: u32 = 19 << 10;
/// Passes over that memory.
pub const PASSES: u32 = 2;
/// Hashes at once.
pub const AT_ONCE: usize = 2;
/// Callers who wait for their turn; more are told to come back.
const WAITING_MAX: usize = 256;
/// Bytes of a password.
pub const PASSWORD_BYTES_MAX: usize = 1 << 10;
/// Characters a password must have.
pub const PASSWORD_CHARS_MIN: usize = 8;

/// A password as it is kept.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PasswordHash {
    memory_kib: u32,
    passes: u32,
    salt: [u8; 16],
    hash: [u8; 32],
}

impl std::fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PasswordHash(…)")
    }
}

/// Hashes and compares, within bounds.
pub struct Passwords {
    turns: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
    /// What an unknown account is compared with.
    nobody: PasswordHash,
    #[cfg(test)]
    pub(crate) observed: Arc<Observed>,
}

/// What tests count.
#[cfg(test)]
#[derive(Default)]
pub(crate) struct Observed {
    pub(crate) running: std::sync::atomic::AtomicUsize,
    pub(crate) most_at_once: std::sync::atomic::AtomicUsize,
    pub(crate) hashed: std::sync::atomic::AtomicUsize,
}

impl Passwords {
    /// With the shipped cost.
    #[must_use]
    pub fn new(luck: &dyn Luck) -> Self {
        let (mut salt, mut hash) = ([0; 16], [0; 32]);
        luck.fill(&mut salt);
        luck.fill(&mut hash);
        Self {
            turns: Arc::new(Semaphore::new(AT_ONCE)),
            waiting: Arc::new(Semaphore::new(WAITING_MAX)),
            nobody: PasswordHash { memory_kib: MEMORY_KIB, passes: PASSES, salt, hash },
            #[cfg(test)]
            observed: Arc::default(),
        }
    }

    /// Hashes a new password under a fresh salt.
    ///
    /// # Errors
    /// `bad_request` for one that is too short or too long, `busy` when too many wait.
    pub async fn hash(
        &self,
        password: Secret<String>,
        luck: &dyn Luck,
    ) -> Result<PasswordHash, Refusal> {
        let n_chars = password.expose().chars().count();
        if n_chars < PASSWORD_CHARS_MIN || password.expose().len() > PASSWORD_BYTES_MAX {
            return Err(Refusal::new(
                ErrorCode::BadRequest,
                format!(
                    "a password has {PASSWORD_CHARS_MIN} characters or more and {PASSWORD_BYTES_MAX} bytes or fewer"
                ),
            ));
        }
        let mut salt = [0; 16];
        luck.fill(&mut salt);
        let (memory_kib, passes) = (MEMORY_KIB, PASSES);
        let blank = PasswordHash { memory_kib, passes, salt, hash: [0; 32] };
        let hash = self.derive(blank, password, || Some(())).await?.map(|((), hash)| hash);
        let hash = hash.ok_or_else(|| Refusal::new(ErrorCode::Internal, "hashing gave nothing"))?;
        Ok(PasswordHash { memory_kib, passes, salt, hash })
    }

    /// Compares an offered password with a kept one, or with nobody's at the same cost. `admit` is
    /// asked when the turn has come and before anything is hashed: the throttle. `None` from it, or
    /// a wrong password, is `None`.
    ///
    /// # Errors
    /// `busy` when too many wait.
    pub async fn verify<T>(
        &self,
        kept: Option<PasswordHash>,
        offered: Secret<String>,
        admit: impl FnOnce() -> Option<T>,
    ) -> Result<Option<T>, Refusal> {
        if offered.expose().len() > PASSWORD_BYTES_MAX {
            return Ok(None);
        }
        let is_known = kept.is_some();
        let against = kept.unwrap_or_else(|| self.nobody.clone());
        let expected = against.hash;
        let Some((admitted, found)) = self.derive(against, offered, admit).await? else {
            return Ok(None);
        };
        let same = aws_lc_rs::constant_time::verify_slices_are_equal(&expected, &found).is_ok();
        Ok((same && is_known).then_some(admitted))
    }

    /// One hash, when its turn has come.
    async fn derive<T>(
        &self,
        with: PasswordHash,
        password: Secret<String>,
        admit: impl FnOnce() -> Option<T>,
    ) -> Result<Option<(T, [u8; 32])>, Refusal> {
        let busy = || Refusal::new(ErrorCode::Busy, "too many logins at once").after(5);
        let failed = || Refusal::new(ErrorCode::Internal, "a password could not be hashed");
        let Ok(_waiting) = self.waiting.try_acquire() else { return Err(busy()) };
        let turn = Arc::clone(&self.turns).acquire_owned().await.map_err(|_| failed())?;
        let Some(admitted) = admit() else { return Ok(None) };
        #[cfg(test)]
        let observed = Arc::clone(&self.observed);
        let hashed = tokio::task::spawn_blocking(move || {
            // The turn lasts as long as the memory is held, also when nobody waits for the answer
            // any more.
            let _turn = turn;
            #[cfg(test)]
            let _counted = Counted::new(observed);
            derive(&with, password.expose().as_bytes())
        });
        match hashed.await {
            Ok(Some(hash)) => Ok(Some((admitted, hash))),
            Ok(None) | Err(_) => Err(failed()),
        }
    }
}

/// Argon2id, version 1.3, one lane.
fn derive(with: &PasswordHash, password: &[u8]) -> Option<[u8; 32]> {
    let params = Params::new(with.memory_kib, with.passes, 1, Some(32)).ok()?;
    let mut hash = [0; 32];
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(password, &with.salt, &mut hash)
        .ok()?;
    Some(hash)
}

#[cfg(test)]
struct Counted(Arc<Observed>);

#[cfg(test)]
impl Counted {
    fn new(observed: Arc<Observed>) -> Self {
        use std::sync::atomic::Ordering::SeqCst;
        observed.hashed.fetch_add(1, SeqCst);
        let now = observed.running.fetch_add(1, SeqCst) + 1;
        observed.most_at_once.fetch_max(now, SeqCst);
        Self(observed)
    }
}

#[cfg(test)]
impl Drop for Counted {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
    }
}
