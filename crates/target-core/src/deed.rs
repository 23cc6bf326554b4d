//! What every act of an operator carries: who, when, and the luck from which ids and secrets are
//! drawn.

use offsite_model::{Luck, TenantId, Timestamp};
use offsite_store::catalog::{CatalogError, RowsMut};

use crate::audit::{self, Entry, Event};
use crate::principal::{Person, Principal};

/// An act in the making.
#[derive(Clone, Copy)]
pub struct Deed<'a> {
    /// Who acts. That he may is decided before.
    pub by: &'a Principal,
    /// When, by the target's clock.
    pub at: Timestamp,
    /// Where ids and secrets come from.
    pub luck: &'a dyn Luck,
}

impl Deed<'_> {
    /// Writes the act into the audit log, in its own transaction.
    ///
    /// # Errors
    /// What the catalog says.
    pub fn record(
        &self,
        rows: &mut dyn RowsMut,
        event: Event,
        tenant: Option<TenantId>,
        facts: &[(&'static str, String)],
    ) -> Result<(), CatalogError> {
        audit::record(rows, &Entry { at: self.at, principal: self.by, tenant, event, facts })
    }

    /// The person who acts, where it is one.
    #[must_use]
    pub fn person(&self) -> Option<Person> {
        self.by.person()
    }
}
