//! How ids stand in catalog rows: as their bytes.
//!
//! The model's ids do not serialise by themselves, so that none reaches a wire by accident; rows
//! say `with = "rows::id"`.

use offsite_model::{CoreId, RepositoryId, RequestId, TenantId, TokenId, UserId};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// An id as 16 bytes.
pub trait Bytes16: Copy {
    /// Its bytes.
    fn bytes(self) -> [u8; 16];
    /// The id of these bytes.
    fn of(bytes: [u8; 16]) -> Self;
}

macro_rules! bytes16 {
    ($($name:ident)*) => {$(
        impl Bytes16 for $name {
            fn bytes(self) -> [u8; 16] {
                self.to_bytes()
            }

            fn of(bytes: [u8; 16]) -> Self {
                Self::from_bytes(bytes)
            }
        }
    )*};
}

bytes16! { CoreId RepositoryId RequestId TenantId TokenId UserId }

/// For `#[serde(with = "crate::rows::id")]`.
pub mod id {
    use super::{Bytes16, Deserialize, Deserializer, Serialize, Serializer};

    /// Writes the bytes of an id.
    ///
    /// # Errors
    /// Those of the serialiser.
    pub fn serialize<T: Bytes16, S: Serializer>(id: &T, serializer: S) -> Result<S::Ok, S::Error> {
        id.bytes().serialize(serializer)
    }

    /// Reads the bytes of an id.
    ///
    /// # Errors
    /// Those of the deserialiser.
    pub fn deserialize<'de, T: Bytes16, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<T, D::Error> {
        <[u8; 16]>::deserialize(deserializer).map(T::of)
    }
}

/// For `#[serde(with = "crate::rows::ids")]`: a list of ids.
pub mod ids {
    use super::{Bytes16, Deserialize, Deserializer, Serializer};

    /// Writes the bytes of each id.
    ///
    /// # Errors
    /// Those of the serialiser.
    pub fn serialize<T: Bytes16, S: Serializer>(
        ids: &[T],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(ids.iter().map(|id| id.bytes()))
    }

    /// Reads the bytes of each id.
    ///
    /// # Errors
    /// Those of the deserialiser.
    pub fn deserialize<'de, T: Bytes16, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<T>, D::Error> {
        Ok(Vec::<[u8; 16]>::deserialize(deserializer)?.into_iter().map(T::of).collect())
    }
}
