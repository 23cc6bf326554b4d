//! From wanted records to what is sent: whole groups as they lie, or groups made anew of the wanted
//! part.

use std::collections::{BTreeMap, BTreeSet};

use offsite_proto::limits::{GROUP_ENTRY_BYTES, GROUP_HEADER_BYTES};
use offsite_proto::window::ListEntry;

/// A group that has none of its records among so many last entries of a window does not go on
/// behind it.
const TAIL_ENTRIES: usize = 64;

/// An entry of the image's list, as the source's own store has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The entry.
    pub entry: ListEntry,
    /// Where its record lies; absent for zeros, and for records that lie alone.
    pub place: Option<Place>,
}

/// A place in a stored group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The group, by a number of the driver's.
    pub group: u64,
    /// Which of its records, from 0.
    pub slot: u8,
    /// How many records it has.
    pub n_records: u16,
    /// Bytes of its payload as it lies.
    pub stored_bytes: u32,
}

/// One group to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parcel {
    /// A stored group as it lies, its records under these ordinals, in its order.
    Whole {
        /// The group.
        group: u64,
        /// An ordinal per record.
        ordinals: Vec<u64>,
        /// Bytes of the frame's payload that it becomes, exactly.
        bytes: u64,
    },
    /// These records, made into a group anew.
    Part {
        /// The ordinals, ascending.
        ordinals: Vec<u64>,
        /// Whether they must be sent uncompressed: their group was refused.
        is_raw: bool,
        /// Bytes of the frame's payload that it becomes, at most.
        bytes: u64,
    },
}

impl Parcel {
    /// Bytes that it takes of the credit, at most.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        match self {
            Self::Whole { bytes, .. } | Self::Part { bytes, .. } => *bytes,
        }
    }

    /// Its records.
    #[must_use]
    pub fn ordinals(&self) -> &[u64] {
        match self {
            Self::Whole { ordinals, .. } | Self::Part { ordinals, .. } => ordinals,
        }
    }
}

fn frame_bytes(n_records: usize, payload: u64) -> u64 {
    u64::from(GROUP_HEADER_BYTES)
        .saturating_add((n_records as u64).saturating_mul(GROUP_ENTRY_BYTES.into()))
        .saturating_add(payload)
}

/// Packs what is wanted of a window: every group whose records are all wanted goes as it lies,
/// whatever stands between them in the list (zeros, and records that lie elsewhere).
pub(super) fn pack(
    first_ordinal: u64,
    entries: &[Listed],
    wanted: &[bool],
    raw: &BTreeSet<u64>,
    part_bytes: u64,
    part_records: usize,
) -> Vec<Parcel> {
    let is_sent = |index: usize, ordinal: u64| {
        wanted.get(index).copied().unwrap_or(false) && !raw.contains(&ordinal)
    };
    let sent = (first_ordinal..).zip(entries).enumerate();
    let sent = sent.filter(|(index, (ordinal, _))| is_sent(*index, *ordinal));
    let found = Found::among(sent.map(|(_, (ordinal, listed))| (ordinal, listed)));
    let mut parcels = Vec::new();
    let mut part = Part { ordinals: Vec::new(), bytes: 0, is_raw: false };
    for ((ordinal, listed), is_wanted) in (first_ordinal..).zip(entries).zip(wanted) {
        if !is_wanted || listed.entry.is_zeros() {
            continue;
        }
        if let Some((place, ordinals)) = found.whole(listed)
            && ordinals.binary_search(&ordinal).is_ok()
        {
            if ordinals.first() == Some(&ordinal) {
                let bytes = frame_bytes(ordinals.len(), place.stored_bytes.into());
                let ordinals = ordinals.to_vec();
                parcels.push(Parcel::Whole { group: place.group, ordinals, bytes });
            }
            continue;
        }
        let is_raw = raw.contains(&ordinal);
        let bytes = u64::from(listed.entry.bytes());
        let is_full = part.bytes.saturating_add(bytes) > part_bytes
            || part.ordinals.len() >= part_records
            || part.is_raw != is_raw;
        if is_full {
            part.close(&mut parcels);
        }
        part.is_raw = is_raw;
        part.ordinals.push(ordinal);
        part.bytes = part.bytes.saturating_add(bytes);
    }
    part.close(&mut parcels);
    parcels
}

/// Groups of which the records were found one after the other, from the first on.
struct Found(BTreeMap<u64, Vec<u64>>);

impl Found {
    /// A record that stands twice in a list counts where it stands first.
    fn among<'a>(listed: impl Iterator<Item = (u64, &'a Listed)>) -> Self {
        let mut groups: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
        for (ordinal, listed) in listed {
            let Some(place) = listed.place else { continue };
            let ordinals = groups.entry(place.group).or_default();
            if ordinals.len() == usize::from(place.slot) {
                ordinals.push(ordinal);
            }
        }
        Self(groups)
    }

    /// The ordinals of this record's group, ascending, where all of them were found.
    fn whole(&self, listed: &Listed) -> Option<(Place, &[u64])> {
        let place = listed.place?;
        let ordinals = self.0.get(&place.group)?;
        (ordinals.len() == usize::from(place.n_records)).then_some((place, ordinals.as_slice()))
    }
}

struct Part {
    ordinals: Vec<u64>,
    bytes: u64,
    is_raw: bool,
}

impl Part {
    fn close(&mut self, parcels: &mut Vec<Parcel>) {
        if !self.ordinals.is_empty() {
            let ordinals = std::mem::take(&mut self.ordinals);
            let bytes = frame_bytes(ordinals.len(), std::mem::take(&mut self.bytes));
            parcels.push(Parcel::Part { ordinals, is_raw: self.is_raw, bytes });
        }
    }
}

/// How many of these entries a window takes, so that no group that may go on behind its end is cut;
/// all, where that would leave too few.
pub(super) fn window_length(entries: &[Listed], is_last: bool) -> usize {
    let n = entries.len();
    if is_last {
        return n;
    }
    let found = Found::among((0..).zip(entries));
    let tail = entries.get(n.saturating_sub(TAIL_ENTRIES)..).unwrap_or_default();
    let cut = tail.iter().filter_map(|listed| {
        let place = listed.place?;
        let ordinals = found.0.get(&place.group)?;
        let goes_on = ordinals.len() < usize::from(place.n_records);
        goes_on.then(|| ordinals.first().copied()).flatten()
    });
    let cut = cut.min().and_then(|cut| usize::try_from(cut).ok()).unwrap_or(n);
    if cut > n / 2 { cut } else { n }
}

#[cfg(test)]
mod tests {
    use offsite_model::Key;

    use super::*;

    const RECORD: u32 = 16;

    /// A list: zeros, or the slot of a record in a group of so many.
    fn list(entries: &[Option<(u64, u8, u16)>]) -> Vec<Listed> {
        let listed = (0_u64..).zip(entries).map(|(at, place)| {
            let offset = at * u64::from(RECORD);
            let Some((group, slot, n_records)) = *place else {
                return Listed { entry: ListEntry::zeros(offset, RECORD), place: None };
            };
            let key = Key::of(&[group.to_le_bytes().as_slice(), &[slot]].concat());
            let place = Place { group, slot, n_records, stored_bytes: 20 };
            Listed { entry: ListEntry::record(offset, RECORD, key), place: Some(place) }
        });
        listed.collect()
    }

    fn packed(entries: &[Listed], wanted: &[bool], raw: &[u64]) -> Vec<(bool, Vec<u64>)> {
        let raw = raw.iter().copied().collect();
        let parcels = pack(100, entries, wanted, &raw, 256 << 10, 256);
        let parcels = parcels
            .into_iter()
            .map(|parcel| (matches!(parcel, Parcel::Whole { .. }), parcel.ordinals().to_vec()));
        parcels.collect()
    }

    /// Group 1 with zeros and records of group 2 between its own.
    fn mixed() -> Vec<Listed> {
        list(&[
            Some((1, 0, 3)),
            None,
            Some((2, 0, 2)),
            Some((1, 1, 3)),
            Some((1, 0, 3)),
            Some((1, 2, 3)),
            Some((2, 1, 2)),
        ])
    }

    #[test]
    fn groups_that_lie_among_others_go_whole() {
        let wanted = [true, false, true, true, false, true, true];
        let all = [(true, vec![100, 103, 105]), (true, vec![102, 106])];
        assert_eq!(packed(&mixed(), &wanted, &[]), all);
    }

    #[test]
    fn a_group_that_is_wanted_in_part_is_made_anew_of_that_part() {
        let wanted = [true, false, true, false, false, true, true];
        let part = [(true, vec![102, 106]), (false, vec![100, 105])];
        assert_eq!(packed(&mixed(), &wanted, &[]), part);
        // A refused group goes without compression, so never as it lies.
        let wanted = [true, false, true, true, false, true, true];
        let raw = [(true, vec![100, 103, 105]), (false, vec![102]), (false, vec![106])];
        assert_eq!(packed(&mixed(), &wanted, &[106]), raw);
    }

    #[test]
    fn a_window_ends_before_the_group_that_may_go_on_behind_it() {
        let mut entries = mixed();
        assert_eq!(window_length(&entries, false), 7);
        let more = [Some((3, 0, 1)), Some((4, 0, 2)), None, Some((2, 0, 2))];
        entries.extend(list(&more));
        assert_eq!(window_length(&entries, false), 8);
        assert_eq!(window_length(&entries, true), 11);
        // A window is not halved for it.
        let long = list(&[Some((4, 0, 9)), Some((4, 1, 9)), Some((4, 2, 9))]);
        assert_eq!(window_length(&long, false), 3);
    }
}
