//! One change of the register: typed rows inside a transaction, and the keys it touches.

use offsite_model::CoreId;
use offsite_proto::operator::RequestName;
use offsite_store::catalog::{CatalogError, Order, RowsMut, TypedRows, TypedRowsMut};

use super::index::KeyThumbprint;
use super::tables::{
    KEYS, LAPSED, LapsedRow, Number, PEERS, PeerRow, REQUESTS, SINGLES, SUBJECTS, SYSTEMS,
    SystemRow, thumbprint_of,
};

/// The key of the counter of rows in [`SINGLES`].
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

    /// The next short number.
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
        let Number(last) = self.rows.value(SINGLES, name)?.unwrap_or(Number(0));
        let next = last.saturating_add(1);
        self.rows.put_value(SINGLES, name, &Number(next))?;
        Ok(next)
    }

    /// The row with this number.
    ///
    /// # Errors
    /// The catalog's.
    pub fn peer(&self, number: u64) -> Result<Option<PeerRow>, CatalogError> {
        self.rows.value(PEERS, &number.to_be_bytes())
    }

    /// The row that this key leads to.
    ///
    /// # Errors
    /// The catalog's.
    pub fn peer_of_key(&self, thumbprint: &KeyThumbprint) -> Result<Option<PeerRow>, CatalogError> {
        match self.rows.value::<Number>(KEYS, thumbprint)? {
            Some(Number(number)) => self.peer(number),
            None => Ok(None),
        }
    }

    /// The row of this pairing.
    ///
    /// # Errors
    /// The catalog's.
    pub fn peer_of_subject(&self, subject: CoreId) -> Result<Option<PeerRow>, CatalogError> {
        match self.rows.value::<Number>(SUBJECTS, &subject.to_bytes())? {
            Some(Number(number)) => self.peer(number),
            None => Ok(None),
        }
    }

    /// The row of the request that an operator names.
    ///
    /// # Errors
    /// The catalog's.
    pub fn peer_named(&self, name: RequestName) -> Result<Option<PeerRow>, CatalogError> {
        match name {
            RequestName::Number(number) => self.peer(number),
            RequestName::Id(id) => match self.rows.value::<Number>(REQUESTS, &id.to_bytes())? {
                Some(Number(number)) => self.peer(number),
                None => Ok(None),
            },
        }
    }

    /// Keeps a row in place of what stood under its number, and every name that leads to it.
    ///
    /// # Errors
    /// The catalog's.
    pub fn put_peer(&mut self, row: &PeerRow) -> Result<(), CatalogError> {
        let number = Number(row.number);
        // A request that was filed anew has another id; the old one must lead nowhere.
        let before = self.peer(row.number)?;
        if let Some(before) = &before {
            for id in before.request_ids() {
                self.rows.remove(REQUESTS, &id.to_bytes())?;
            }
            // A key that the row lost keeps leading to it, so that it is never taken again.
            before.machine.keys().into_iter().for_each(|key| self.touch(thumbprint_of(key)));
        }
        for id in row.request_ids() {
            self.rows.put_value(REQUESTS, &id.to_bytes(), &number)?;
        }
        for key in row.machine.keys() {
            let thumbprint = thumbprint_of(key);
            self.touch(thumbprint);
            self.rows.put_value(KEYS, &thumbprint, &number)?;
        }
        if let Some(place) = &row.place {
            self.rows.put_value(SUBJECTS, &place.subject.0.to_bytes(), &number)?;
        }
        self.rows.put_value(PEERS, &row.number.to_be_bytes(), row)
    }

    /// Forgets a row and every name that leads to it.
    ///
    /// # Errors
    /// The catalog's.
    pub fn remove_peer(&mut self, row: &PeerRow) -> Result<(), CatalogError> {
        for id in row.request_ids() {
            self.rows.remove(REQUESTS, &id.to_bytes())?;
        }
        for key in row.machine.keys() {
            let thumbprint = thumbprint_of(key);
            self.touch(thumbprint);
            self.rows.remove(KEYS, &thumbprint)?;
        }
        if let Some(place) = &row.place {
            self.rows.remove(SUBJECTS, &place.subject.0.to_bytes())?;
        }
        self.rows.remove(PEERS, &row.number.to_be_bytes()).map(|_| ())
    }

    /// Remembers that a request lapsed.
    ///
    /// # Errors
    /// The catalog's.
    pub fn put_lapsed(&mut self, number: u64, row: &LapsedRow) -> Result<(), CatalogError> {
        self.rows.put_value(LAPSED, &number.to_be_bytes(), row)
    }

    /// Every system.
    ///
    /// # Errors
    /// The catalog's.
    pub fn systems(&self) -> Result<Vec<SystemRow>, CatalogError> {
        let rows = self.rows.scan_values(SYSTEMS, &[], None, Order::Ascending, usize::MAX)?;
        Ok(rows.into_iter().map(|(_, system)| system).collect())
    }

    /// Whether the request that an operator names lapsed a while ago.
    ///
    /// # Errors
    /// The catalog's.
    pub fn has_lapsed(&self, name: RequestName) -> Result<bool, CatalogError> {
        if let RequestName::Number(number) = name {
            let row: Option<LapsedRow> = self.rows.value(LAPSED, &number.to_be_bytes())?;
            return Ok(row.is_some());
        }
        let all: Vec<(Vec<u8>, LapsedRow)> =
            self.rows.scan_values(LAPSED, &[], None, Order::Ascending, usize::MAX)?;
        Ok(all.iter().any(|(_, row)| RequestName::Id(row.request.0) == name))
    }

    /// The system with this id.
    ///
    /// # Errors
    /// The catalog's.
    pub fn system(&self, sid: i64) -> Result<Option<SystemRow>, CatalogError> {
        self.rows.value(SYSTEMS, &sid.to_be_bytes())
    }

    /// Keeps a system. Ids are positive, so their bytes sort like the numbers.
    ///
    /// # Errors
    /// The catalog's.
    pub fn put_system(&mut self, system: &SystemRow) -> Result<(), CatalogError> {
        self.rows.put_value(SYSTEMS, &system.sid.to_be_bytes(), system)
    }
}
