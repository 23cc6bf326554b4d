//! Enums that a later version may extend: an unknown word is read as the neutral member.

/// Defines an enum whose unknown words are read as its neutral member.
macro_rules! open_enum {
    ($(#[$doc:meta])* $name:ident { $($(#[$member_doc:meta])* $member:ident),* $(,)? } else $(#[$neutral_doc:meta])* $neutral:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
        pub enum $name {
            $($(#[$member_doc])* $member,)*
            $(#[$neutral_doc])*
            #[default]
            #[serde(other)]
            $neutral,
        }
    };
}
