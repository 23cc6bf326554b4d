//! Lists that may be longer than one answer: `items`, and `next` where more follow.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{self, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::endpoint::{Params, Values};
use crate::error::Refusal;
use crate::limits::PAGE_ITEMS_MAX;

/// One answer's part of a list. The caller asks again with `?after=<next>` until `next` is absent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", bound(deserialize = "T: Deserialize<'de>"))]
pub struct Page<T> {
    /// The items, at most [`PAGE_ITEMS_MAX`].
    #[serde(deserialize_with = "bounded")]
    pub items: Vec<T>,
    /// Where the next part begins, as a word that only its maker understands; absent on the last
    /// one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

impl<T> Page<T> {
    /// A list that is whole in one answer.
    #[must_use]
    pub const fn whole(items: Vec<T>) -> Self {
        Self { items, next: None }
    }
}

/// Reads a list of at most [`PAGE_ITEMS_MAX`] items, without believing an announced length.
pub(crate) fn bounded<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Vec<T>, D::Error> {
    struct Items<T>(PhantomData<T>);
    impl<'de, T: Deserialize<'de>> Visitor<'de> for Items<T> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "a list of at most {PAGE_ITEMS_MAX} items")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<T>, A::Error> {
            let mut items = Vec::new();
            while let Some(item) = seq.next_element()? {
                if items.len() >= PAGE_ITEMS_MAX {
                    return Err(de::Error::invalid_length(items.len(), &self));
                }
                items.push(item);
            }
            Ok(items)
        }
    }
    deserializer.deserialize_seq(Items(PhantomData))
}

/// A parameter struct of a paged call: what it is about, and where to go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paged<P> {
    /// The rest of the parameters.
    pub of: P,
    /// `next` of the answer before; absent for the first part.
    pub after: Option<String>,
}

impl<P> Paged<P> {
    /// The first part.
    #[must_use]
    pub const fn first(of: P) -> Self {
        Self { of, after: None }
    }
}

impl<P: Params> Params for Paged<P> {
    fn read(values: &Values) -> Result<Self, Refusal> {
        Ok(Self { of: P::read(values)?, after: values.parse_optional("after")? })
    }

    fn write(&self, values: &mut Values) {
        self.of.write(values);
        if let Some(after) = &self.after {
            values.insert("after", after.clone());
        }
    }
}
