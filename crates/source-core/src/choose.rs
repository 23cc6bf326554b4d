//! Which pairing an operator means: by the target's address, by its core id, or by its name.
//!
//! An address is the operator's own word and an id is made to be one of a kind, so both go before a
//! name, which the target gives itself. What fits several is never guessed.

use offsite_proto::admin::source::{Pairing, State};
use offsite_proto::error::ErrorCode;

use crate::error::Trouble;

/// The place of the pairing that is meant. One that has ended gives way to one that has not.
///
/// # Errors
/// The operator's: nothing fits, or several do; then the sentence names each by its address.
pub(crate) fn choose(named: &str, pairings: &[Pairing]) -> Result<usize, Trouble> {
    let ways: [fn(&Pairing, &str) -> bool; 3] = [
        |pairing, named| pairing.address.as_deref() == Some(named),
        |pairing, named| {
            pairing.target_id.is_some_and(|id| id.to_string().eq_ignore_ascii_case(named))
        },
        |pairing, named| pairing.target.as_deref() == Some(named),
    ];
    for fits in ways {
        let all = pairings.iter().enumerate().filter(|(_, pairing)| fits(pairing, named));
        let (open, over): (Vec<_>, Vec<_>) = all.partition(|(_, pairing)| {
            matches!(pairing.state, State::Pending | State::Accepted | State::Active)
        });
        match (open.as_slice(), over.as_slice()) {
            ([], []) => {}
            ([(index, _)], _) | ([], [(index, _)]) => return Ok(*index),
            ([], several) | (several, _) => {
                let candidates: Vec<_> =
                    several.iter().filter_map(|(_, one)| one.address.as_deref()).collect();
                return Err(Trouble::operator(
                    ErrorCode::BadRequest,
                    format!("\"{named}\" may mean several targets: {}", candidates.join(", ")),
                    "name one by its address",
                ));
            }
        }
    }
    Err(Trouble::operator(
        ErrorCode::SystemUnknown,
        format!("there is no pairing with {named}"),
        "see offsite-source status",
    ))
}

#[cfg(test)]
mod tests {
    use offsite_model::CoreId;
    use offsite_proto::text::Text;

    use super::*;

    fn pairing(address: &str, id: u8, name: Option<&str>, state: State) -> Pairing {
        Pairing {
            state,
            address: Some(address.to_owned()),
            target: Some(name.unwrap_or(address).to_owned()),
            target_id: Some(Text(CoreId::from_bytes([id; 16]))),
            ..Pairing::none()
        }
    }

    #[test]
    fn an_address_goes_before_an_id_and_both_before_a_name() {
        let all = [
            pairing("a:1", 1, Some("vault"), State::Active),
            // It calls itself what another one's address is.
            pairing("b:1", 2, Some("a:1"), State::Active),
            pairing("c:1", 3, Some("twin"), State::Active),
            pairing("d:1", 4, Some("twin"), State::Pending),
            pairing("e:1", 5, Some("vault"), State::Ended),
        ];
        let id = CoreId::from_bytes([2; 16]).to_string();
        for (named, place) in [("a:1", 0), ("b:1", 1), (&id, 1), (&id.to_uppercase(), 1)] {
            assert_eq!(choose(named, &all).unwrap(), place, "{named}");
        }
        assert_eq!(choose("vault", &all).unwrap(), 0, "the ended one gives way");
        let several = choose("twin", &all).unwrap_err();
        assert_eq!(several.code, ErrorCode::BadRequest);
        assert!(several.message.contains("c:1, d:1"), "{several}");
        assert_eq!(choose("nobody", &all).unwrap_err().code, ErrorCode::SystemUnknown);
    }
}
