//! Certificates that acceptances and renewals ordered: signed in the background, published last.
//!
//! An order is kept before it is signed, serial number included, so a crash signs the same
//! certificate again and not a second one. What was ordered and not published is found again
//! at every start.
//!
//! **Absent:** the profile of a certificate (pki).

use std::sync::PoisonError;

use offsite_exchange::pairing::target::{Input, Issued, Order, Renewal, Stage};
use offsite_model::Luck;
use offsite_pki::{Spki, Validity};

use crate::Target;
use crate::failure::Failure;
use crate::peers::tables::PeerRow;
use crate::principal::Principal;

/// Luck that gives the serial number of an order.
struct Serial([u8; 16]);

impl Luck for Serial {
    fn fill(&self, bytes: &mut [u8]) {
        for (place, byte) in bytes.iter_mut().zip(self.0.iter().cycle()) {
            *place = *byte;
        }
    }
}

impl Target {
    /// Takes orders; whoever runs [`Target::issue_ordered`] is woken.
    pub(crate) fn order(&self, orders: Vec<Order>) {
        self.orders().lock().unwrap_or_else(PoisonError::into_inner).extend(orders);
        self.wake().notify_one();
    }

    /// Finds what was ordered before a restart and never published.
    ///
    /// # Errors
    /// The catalog's.
    pub fn find_orders(&self) -> Result<(), Failure> {
        let orders = self.register().peers()?.iter().flat_map(open_orders).collect();
        self.order(orders);
        Ok(())
    }

    /// Signs and publishes everything that is ordered. Blocks; says how many were published.
    pub fn issue_ordered(&self) -> usize {
        let mut n_published = 0;
        loop {
            let mut orders = self.orders().lock().unwrap_or_else(PoisonError::into_inner);
            let Some(order) = orders.pop_front() else { return n_published };
            drop(orders);
            match self.issue(&order) {
                Ok(()) => n_published += 1,
                Err(cause) => {
                    tracing::error!(%cause, source = %order.subject, "cannot publish a certificate")
                }
            }
        }
    }

    fn issue(&self, order: &Order) -> Result<(), Failure> {
        let input = match self.sign(order) {
            Ok(issued) => Input::Issued(issued),
            Err(reason) => Input::IssueFailed { serial: order.serial, reason },
        };
        self.advance(&Principal::LocalRoot { uid: 0 }, |step| {
            let row = step.peer_of_subject(order.subject)?;
            let row = row.ok_or_else(|| {
                Failure::refused(
                    offsite_proto::error::ErrorCode::RequestUnknown,
                    "the request is gone",
                )
            })?;
            Ok((row, input))
        })?;
        Ok(())
    }

    fn sign(&self, order: &Order) -> Result<Issued, String> {
        let rules = self.settings().rules();
        let key = Spki::from_der(order.key.as_der()).map_err(|why| why.to_string())?;
        let days = order.not_after.since(order.not_before + rules.backdate).as_secs() / 86_400;
        let days = u32::try_from(days).map_err(|why| why.to_string())?;
        let validity = Validity::days(order.not_before + rules.backdate, days)
            .map_err(|why| why.to_string())?;
        let identity = self.identity();
        let certificate = identity
            .authority
            .issue_client(&key, order.subject, validity, &Serial(order.serial))
            .map_err(|why| why.to_string())?;
        if certificate.serial().as_bytes() != order.serial {
            return Err("the authority wrote another serial number than was ordered".to_owned());
        }
        let target = &identity.certificate;
        Ok(Issued {
            serial: order.serial,
            certificate_pem: certificate.to_pem(),
            target_pem: target.to_pem() + &identity.authority.certificate().to_pem(),
            certificate_sha256: certificate.sha256(),
            target_certificate_sha256: target.sha256(),
        })
    }
}

/// What a row has ordered and not published.
fn open_orders(row: &PeerRow) -> Vec<Order> {
    match row.machine.stage() {
        Stage::AwaitIssued(waiting) => vec![waiting.order.clone()],
        Stage::AwaitFirstUse(paired) | Stage::Active(paired) => match &paired.renewal {
            Some(Renewal::AwaitIssued(order)) => vec![order.clone()],
            _ => Vec::new(),
        },
        _ => Vec::new(),
    }
}
