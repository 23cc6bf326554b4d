//! How ids and moments stand in catalog rows: as their plain numbers and bytes.
//!
//! The model's nouns do not serialise by themselves, so that none reaches a wire by accident; a row
//! says [`Stored`].

use std::fmt;

use offsite_model::{AgentId, CoreId, RepositoryId, RequestId, TenantId, Timestamp};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A noun of the model inside a catalog row.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stored<T>(pub T);

/// What a noun is made of.
pub trait Plain: Sized {
    /// Its plain form.
    type Form: Serialize + for<'de> Deserialize<'de>;

    /// Its plain form.
    fn to_plain(&self) -> Self::Form;

    /// The noun with this plain form.
    fn from_plain(form: Self::Form) -> Self;
}

macro_rules! plain_ids {
    ($($name:ident)*) => {$(
        impl Plain for $name {
            type Form = [u8; 16];

            fn to_plain(&self) -> [u8; 16] {
                self.to_bytes()
            }

            fn from_plain(form: [u8; 16]) -> Self {
                Self::from_bytes(form)
            }
        }
    )*};
}

plain_ids! { AgentId CoreId RepositoryId RequestId TenantId }

impl Plain for Timestamp {
    type Form = i64;

    fn to_plain(&self) -> i64 {
        self.as_micros()
    }

    fn from_plain(form: i64) -> Self {
        Self::from_micros(form)
    }
}

impl<T: Plain> Serialize for Stored<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.to_plain().serialize(serializer)
    }
}

impl<'de, T: Plain> Deserialize<'de> for Stored<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        T::Form::deserialize(deserializer).map(T::from_plain).map(Self)
    }
}

impl<T> From<T> for Stored<T> {
    fn from(noun: T) -> Self {
        Self(noun)
    }
}

impl<T: fmt::Debug> fmt::Debug for Stored<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
