//! What the target daemon answers under `/api/v1`, on its operator listener and its local socket.
//!
//! **Absent:** list A and its neighbours, which are published; they stand in `operator`.

mod role;

pub use role::{Role, RoleError};

use crate::endpoint::Row;

/// Every call of this module.
pub const ROWS: &[Row] = &[];
