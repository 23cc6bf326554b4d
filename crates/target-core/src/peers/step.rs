//! One change of the register: typed rows inside a transaction, and the keys it touches.

use offsite_model::{CoreId, RequestId};
use offsite_proto::operator::RequestName;
use offsite_store::catalog::{CatalogError, RowsMut, TypedRows, TypedRowsMut};

use super::index::KeyThumbprint;
use super::stored::IdRow;
use super::tables::{
    Counter, KEYS, KeyRow, NUMBERS, PAIRINGS, PairingRow, REQUESTS, RequestRow, SINGLES, SYSTEMS,
    SystemRow,
};

/// The key of the counter of requests in [`SINGLES`].
const LAST_REQUEST: &[u8] = b"last-request";
/// The key of the counter of systems in [`SINGLES`].
const LAST_SYSTEM: &[u8] = b"last-system";

/// One change in progress.
pub struct Step<'a> {
    rows: &'a mut dyn RowsMut,
    touched: Vec<KeyThumbprint>,
}

impl<'a> Step<'a> {
    pub(super) fn new(rows: &'a mut dyn RowsMut) -> Self {
        Self { rows, touched: Vec::new() }
    }

    pub(super) fn into_touched(self) -> Vec<KeyThumbprint> {
        self.touched
    }

    /// The rows themselves, for tables that are not the register's.
    pub fn rows(&mut self) -> &mut dyn RowsMut {
        self.rows
    }

    fn touch(&mut self, thumbprint: KeyThumbprint) {
        if !self.touched.contains(&thumbprint) {
            self.touched.push(thumbprint);
        }
    }

    /// The next short number of a request.
    ///
    /// # Errors
    /// The catalog's.
    pub fn next_number(&mut self) -> Result<u64, CatalogError> {
        self.count(LAST_REQUEST)
    }

    /// The next id of a system.
    ///
    /// # Errors
    /// The catalog's.
    pub fn next_sid(&mut self) -> Result<i64, CatalogError> {
        let sid = self.count(LAST_SYSTEM)?;
        i64::try_from(sid).map_err(|_| CatalogError::Damaged("no system id is left".to_owned()))
    }

    fn count(&mut self, name: &[u8]) -> Result<u64, CatalogError> {
        let Counter(last) = self.rows.value(SINGLES, name)?.unwrap_or_default();
        let next = last.saturating_add(1);
        self.rows.put_value(SINGLES, name, &Counter(next))?;
        Ok(next)
    }

    /// What is kept about a key.
    ///
    /// # Errors
    /// The catalog's.
    pub fn key(&self, thumbprint: &KeyThumbprint) -> Result<Option<KeyRow>, CatalogError> {
        self.rows.value(KEYS, thumbprint)
    }

    /// Keeps what a key stands for.
    ///
    /// # Errors
    /// The catalog's.
    pub fn put_key(&mut self, thumbprint: KeyThumbprint, row: KeyRow) -> Result<(), CatalogError> {
        self.touch(thumbprint);
        self.rows.put_value(KEYS, &thumbprint, &row)
    }

    /// Forgets a key.
    ///
    /// # Errors
    /// The catalog's.
    pub fn remove_key(&mut self, thumbprint: &KeyThumbprint) -> Result<(), CatalogError> {
        self.touch(*thumbprint);
        self.rows.remove(KEYS, thumbprint).map(|_| ())
    }

    /// The request with this id.
    ///
    /// # Errors
    /// The catalog's.
    pub fn request(&self, id: RequestId) -> Result<Option<RequestRow>, CatalogError> {
        self.rows.value(REQUESTS, &id.to_bytes())
    }

    /// The request an operator names.
    ///
    /// # Errors
    /// The catalog's.
    pub fn request_named(&self, name: RequestName) -> Result<Option<RequestRow>, CatalogError> {
        match name {
            RequestName::Id(id) => self.request(id),
            RequestName::Number(number) => {
                match self.rows.value::<IdRow>(NUMBERS, &number.to_be_bytes())? {
                    Some(IdRow(id)) => self.request(RequestId::from_bytes(id)),
                    None => Ok(None),
                }
            }
        }
    }

    /// Keeps a request under its id and number.
    ///
    /// # Errors
    /// The catalog's.
    pub fn put_request(&mut self, request: &RequestRow) -> Result<(), CatalogError> {
        let id = request.id.0.to_bytes();
        self.touch(request.thumbprint);
        self.rows.put_value(REQUESTS, &id, request)?;
        self.rows.put_value(NUMBERS, &request.number.to_be_bytes(), &IdRow(id))
    }

    /// Forgets a request.
    ///
    /// # Errors
    /// The catalog's.
    pub fn remove_request(&mut self, request: &RequestRow) -> Result<(), CatalogError> {
        self.touch(request.thumbprint);
        self.rows.remove(REQUESTS, &request.id.0.to_bytes())?;
        self.rows.remove(NUMBERS, &request.number.to_be_bytes()).map(|_| ())
    }

    /// Gives a request another id under the same number.
    ///
    /// # Errors
    /// The catalog's.
    pub fn rename_request(
        &mut self,
        request: &mut RequestRow,
        id: RequestId,
    ) -> Result<(), CatalogError> {
        self.rows.remove(REQUESTS, &request.id.0.to_bytes())?;
        request.id = id.into();
        self.put_request(request)
    }

    /// The pairing with this id.
    ///
    /// # Errors
    /// The catalog's.
    pub fn pairing(&self, subject: CoreId) -> Result<Option<PairingRow>, CatalogError> {
        self.rows.value(PAIRINGS, &subject.to_bytes())
    }

    /// Keeps a pairing. Whoever takes a key out of it touches that key himself, by [`Step::put_key`].
    ///
    /// # Errors
    /// The catalog's.
    pub fn put_pairing(&mut self, pairing: &PairingRow) -> Result<(), CatalogError> {
        for pin in &pairing.keys {
            self.touch(pin.thumbprint);
        }
        self.rows.put_value(PAIRINGS, &pairing.subject.0.to_bytes(), pairing)
    }

    /// The system with this id.
    ///
    /// # Errors
    /// The catalog's.
    pub fn system(&self, sid: i64) -> Result<Option<SystemRow>, CatalogError> {
        self.rows.value(SYSTEMS, &system_key(sid))
    }

    /// Keeps a system.
    ///
    /// # Errors
    /// The catalog's.
    pub fn put_system(&mut self, system: &SystemRow) -> Result<(), CatalogError> {
        self.rows.put_value(SYSTEMS, &system_key(system.sid), system)
    }
}

/// Ids of systems are positive, so their big-endian bytes sort like the numbers.
const fn system_key(sid: i64) -> [u8; 8] {
    sid.to_be_bytes()
}
