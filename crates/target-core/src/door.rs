//! The door for newcomers: open, open for a while, closed.

use offsite_model::Span;
use offsite_proto::endpoint::Action;
use offsite_proto::error::{ErrorCode, Refusal};

use crate::Target;
use crate::audit::Event;
use crate::authority::{Object, permits};
use crate::peers::tables::Door;
use crate::principal::Principal;

/// The longest that pairing can be opened for a while, in minutes: a day.
const MINUTES_MAX: u32 = 24 * 60;

impl Target {
    /// Closes pairing: newcomers find no such path. Requests that wait and sources that are paired
    /// are not touched.
    ///
    /// # Errors
    /// `forbidden`, or `internal` where the catalog fails.
    pub fn close_pairing(&self, principal: &Principal) -> Result<(), Refusal> {
        self.turn_door(principal, Door::Closed, Event::PairingClosed, "for good".to_owned())
    }

    /// Opens pairing, for so many minutes or for good.
    ///
    /// # Errors
    /// `forbidden`, `bad_request` for more than a day, or `internal` where the catalog fails.
    pub fn open_pairing(&self, principal: &Principal, minutes: Option<u32>) -> Result<(), Refusal> {
        let (door, until) = match minutes {
            None => (Door::Open, "for good".to_owned()),
            Some(minutes) if minutes <= MINUTES_MAX => {
                let end = self.now() + Span::from_secs(u64::from(minutes) * 60);
                (Door::OpenUntil(end.into()), format!("for {minutes} minutes"))
            }
            Some(_) => {
                let sentence = format!("pairing is opened for at most {MINUTES_MAX} minutes");
                return Err(Refusal::new(ErrorCode::BadRequest, sentence));
            }
        };
        self.turn_door(principal, door, Event::PairingOpened, until)
    }

    fn turn_door(
        &self,
        principal: &Principal,
        door: Door,
        event: Event,
        until: String,
    ) -> Result<(), Refusal> {
        permits(principal, Action::ClosePairing, &Object::Target)
            .terms(ErrorCode::Forbidden, "this account has not that right")?;
        self.register().set_door(door, |step| {
            self.deed(principal).record(step.rows(), event, None, &[("until", until)])?;
            Ok(())
        })?;
        Ok(())
    }
}
