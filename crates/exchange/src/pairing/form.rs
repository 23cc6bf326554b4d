//! How the nouns of `model` are kept: fixed bytes and plain numbers, for `#[serde(with)]`.
//!
//! `model` knows no serialisation, and the text forms of `proto` belong to the wire.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

macro_rules! forms {
    ($($name:ident: $noun:ty as $kept:ty, $to:expr, $from:expr;)*) => {$(
        pub(crate) mod $name {
            use super::*;

            pub(crate) fn serialize<S: Serializer>(value: &$noun, serializer: S) -> Result<S::Ok, S::Error> {
                let kept: $kept = ($to)(value);
                kept.serialize(serializer)
            }

            pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<$noun, D::Error> {
                <$kept>::deserialize(deserializer).map($from)
            }
        }
    )*};
}

forms! {
    request_id: offsite_model::RequestId as [u8; 16], |id: &offsite_model::RequestId| id.to_bytes(), offsite_model::RequestId::from_bytes;
    core_id: offsite_model::CoreId as [u8; 16], |id: &offsite_model::CoreId| id.to_bytes(), offsite_model::CoreId::from_bytes;
    agent_id: offsite_model::AgentId as [u8; 16], |id: &offsite_model::AgentId| id.to_bytes(), offsite_model::AgentId::from_bytes;
    moment: offsite_model::Timestamp as i64, |moment: &offsite_model::Timestamp| moment.as_micros(), offsite_model::Timestamp::from_micros;
}
