//! The service that accepts, issues, receives and keeps.

pub mod accounts;
pub mod approvals;
pub mod audit;
pub mod authority;
pub mod deed;
pub mod failure;
pub mod principal;
pub mod rows;
pub mod storage_list;
pub mod tenants;
