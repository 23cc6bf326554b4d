//! The service that accepts, issues, receives and keeps.

pub mod audit;
pub mod authority;
pub mod principal;
pub mod rows;
