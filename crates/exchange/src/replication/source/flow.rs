//! The data phase of a transfer: windows out, answers in, parcels out, as far as credit and windows
//! allow.

use offsite_proto::bitmap::Run;
use offsite_proto::error::{ErrorCode, Refusal};
use offsite_proto::limits::{WINDOW_ENTRY_BYTES, WINDOW_HEADER_BYTES};
use offsite_proto::window::{ListEntry, Wanted};

use super::parcels::{Listed, pack, window_length};
use super::transfer::{RecordStream, Stage, Transfer, Window};
use super::words::{Effect, Failure, Given};

impl Transfer {
    pub(super) fn start_opening(&mut self, given: Given) {
        self.opening = self.opening.saturating_add(1);
        self.given = Some(given);
        self.next_ordinal = 0;
        self.is_reading = false;
        self.unsent.clear();
        self.next_window = 0;
        self.undecided.clear();
        self.keys_bytes = 0;
        self.keys_open = 0;
        self.are_keys_ended = false;
        self.queue.clear();
        self.queued_bytes = 0;
        self.streams.clear();
        self.in_hand.clear();
        self.spent = 0;
        self.credit = given.credit;
        self.progress.n_decided = 0;
    }

    /// Sends off whatever has become possible.
    pub(super) fn flow(&mut self, effects: &mut Vec<Effect>) {
        let Some(given) = self.given else { return };
        self.send_windows(&given, effects);
        self.send_parcels(&given, effects);
        self.read(&given, effects);
        self.close(effects);
    }

    fn read(&mut self, given: &Given, effects: &mut Vec<Effect>) {
        // One window is read ahead of the one that waits to be sent.
        if self.is_reading || self.unsent.len() > 1 || self.next_ordinal >= self.n_entries {
            return;
        }
        let n_left = self.n_entries.saturating_sub(self.next_ordinal);
        let n_grown = self.next_ordinal.max(self.rules.first_window_keys).max(1);
        let n_entries = n_left.min(n_grown).min(given.window_keys.max(1).into());
        self.is_reading = true;
        effects.push(Effect::Read {
            opening: self.opening,
            first_ordinal: self.next_ordinal,
            n_entries,
        });
    }

    pub(super) fn listed(&mut self, entries: Vec<Listed>) {
        if !self.is_reading {
            return;
        }
        self.is_reading = false;
        let first = self.next_ordinal;
        let is_last = first.saturating_add(entries.len() as u64) >= self.n_entries;
        let n_taken = window_length(&entries, is_last);
        self.next_ordinal = first.saturating_add(n_taken as u64);
        let mut window: Option<Window> = None;
        let mut n_known = 0_u64;
        for (ordinal, listed) in (first..).zip(entries.iter().take(n_taken)) {
            if self.is_known(&listed.entry) {
                n_known = n_known.saturating_add(1);
                self.progress.n_decided = self.progress.n_decided.saturating_add(1);
                if n_known > self.rules.gap_entries {
                    self.unsent.extend(window.take());
                }
                continue;
            }
            // Few known entries between two unknown ones are offered again: cheaper than another
            // window.
            match &mut window {
                Some(window) => {
                    let from = window.first_ordinal.saturating_add(window.entries.len() as u64);
                    let skipped = usize::try_from(from.saturating_sub(first)).unwrap_or(usize::MAX);
                    let through = usize::try_from(ordinal.saturating_sub(first)).unwrap_or(0);
                    window.entries.extend(entries.get(skipped..=through).unwrap_or_default());
                }
                None => window = Some(Window { first_ordinal: ordinal, entries: vec![*listed] }),
            }
            n_known = 0;
        }
        self.unsent.extend(window);
    }

    fn is_known(&self, entry: &ListEntry) -> bool {
        let start = entry.offset() / self.record_bytes;
        let end = entry.offset().saturating_add(entry.bytes().into()).div_ceil(self.record_bytes);
        self.known.covers(Run { start, count: end.saturating_sub(start) })
    }

    fn send_windows(&mut self, given: &Given, effects: &mut Vec<Effect>) {
        while self.undecided.len() < given.windows_in_flight.max(1) as usize
            && self.queued_bytes < self.rules.queued_bytes_max
        {
            let Some(window) = self.unsent.pop_front() else { return };
            let bytes = (window.entries.len() as u64)
                .saturating_mul(WINDOW_ENTRY_BYTES.into())
                .saturating_add(WINDOW_HEADER_BYTES.into());
            if self.keys_open > 0
                && self.keys_bytes.saturating_add(bytes) > self.rules.transfer_bytes_max / 2
            {
                effects.push(Effect::EndKeys { reopen: true });
                self.keys_bytes = 0;
                self.open_keys(effects);
            }
            if self.keys_open == 0 {
                self.open_keys(effects);
            }
            self.keys_bytes = self.keys_bytes.saturating_add(bytes);
            let number = self.next_window;
            self.next_window = self.next_window.wrapping_add(1);
            self.progress.n_offered =
                self.progress.n_offered.saturating_add(window.entries.len() as u64);
            effects.push(Effect::SendKeys {
                window: number,
                first_ordinal: window.first_ordinal,
                entries: window.entries.iter().map(|listed| listed.entry).collect(),
            });
            self.undecided.insert(number, window);
        }
    }

    fn open_keys(&mut self, effects: &mut Vec<Effect>) {
        self.keys_open = self.keys_open.saturating_add(1);
        effects.push(Effect::OpenKeys { opening: self.opening });
    }

    pub(super) fn wanted(&mut self, answer: &Wanted, effects: &mut Vec<Effect>) {
        let window = self.undecided.get(&answer.window).filter(|window| {
            window.first_ordinal == answer.first_ordinal
                && window.entries.len() == answer.n_keys() as usize
        });
        let asks_zeros = |window: &Window| {
            window.entries.iter().zip(answer.iter()).any(|(l, wanted)| wanted && l.entry.is_zeros())
        };
        if window.is_none_or(asks_zeros) {
            let message = "the target's answer fits no window that was offered";
            return self
                .failed(Failure::Refused(Refusal::new(ErrorCode::BadRequest, message)), effects);
        }
        let Some(window) = self.undecided.remove(&answer.window) else { return };
        self.n_failed = 0;
        let wanted: Vec<bool> = answer.iter().collect();
        let parcels = pack(
            window.first_ordinal,
            &window.entries,
            &wanted,
            &self.raw,
            self.rules.part_bytes,
            self.rules.part_records,
        );
        let n_wanted = wanted.iter().filter(|wanted| **wanted).count() as u64;
        self.progress.n_wanted = self.progress.n_wanted.saturating_add(n_wanted);
        self.progress.n_decided =
            self.progress.n_decided.saturating_add(window.entries.len() as u64);
        for parcel in parcels {
            self.queued_bytes = self.queued_bytes.saturating_add(parcel.bytes());
            self.queue.push_back(parcel);
        }
    }

    fn send_parcels(&mut self, given: &Given, effects: &mut Vec<Effect>) {
        while let Some(bytes) = self.queue.front().map(super::Parcel::bytes) {
            if self.spent.saturating_add(bytes) > self.credit {
                return;
            }
            let Some(stream) = self.stream_for(bytes, given, effects) else { return };
            let Some(parcel) = self.queue.pop_front() else { return };
            self.queued_bytes = self.queued_bytes.saturating_sub(bytes);
            self.spent = self.spent.saturating_add(bytes);
            self.in_hand.entry(stream).or_default().push_back(bytes);
            effects.push(Effect::Send { stream, parcel });
        }
    }

    /// The stream with the least before it; a new one while the link needs more.
    fn stream_for(&mut self, bytes: u64, given: &Given, effects: &mut Vec<Effect>) -> Option<u32> {
        let full: Vec<u32> = self
            .streams
            .iter()
            .filter(|(_, stream)| {
                !stream.is_ended
                    && stream.bytes.saturating_add(bytes) > self.rules.transfer_bytes_max / 2
            })
            .map(|(number, _)| *number)
            .collect();
        for stream in full {
            self.end_records(stream, effects);
        }
        let open = self.streams.iter().filter(|(_, stream)| !stream.is_ended);
        let idlest = open.min_by_key(|(_, stream)| stream.n_ahead).map(|(n, s)| (*n, s.n_ahead));
        let n_streams = self.streams.len() as u32;
        let n_allowed = self.n_streams_wished.min(given.streams_max.max(1));
        let stream = match idlest {
            Some((stream, 0)) => stream,
            _ if n_streams < n_allowed => {
                let stream = self.next_stream;
                self.next_stream = self.next_stream.wrapping_add(1);
                self.streams.insert(stream, RecordStream::default());
                effects.push(Effect::OpenRecords { opening: self.opening, stream });
                stream
            }
            Some((stream, n_ahead)) if n_ahead < self.rules.parcels_ahead => stream,
            _ => return None,
        };
        let state = self.streams.get_mut(&stream)?;
        state.n_ahead = state.n_ahead.saturating_add(1);
        state.bytes = state.bytes.saturating_add(bytes);
        Some(stream)
    }

    pub(super) fn sent(&mut self, stream: u32, bytes: u64) {
        let Some(most) =
            self.in_hand.get_mut(&stream).and_then(std::collections::VecDeque::pop_front)
        else {
            return;
        };
        // The bound was charged; what compression saved is given back.
        self.spent = self.spent.saturating_add(bytes).saturating_sub(most);
        self.progress.bytes_sent = self.progress.bytes_sent.saturating_add(bytes);
        if let Some(stream) = self.streams.get_mut(&stream) {
            stream.n_ahead = stream.n_ahead.saturating_sub(1);
        }
    }

    fn end_records(&mut self, number: u32, effects: &mut Vec<Effect>) {
        if let Some(stream) = self.streams.get_mut(&number)
            && !stream.is_ended
        {
            stream.is_ended = true;
            effects.push(Effect::EndRecords { stream: number });
        }
    }

    fn close(&mut self, effects: &mut Vec<Effect>) {
        let is_offered = self.next_ordinal >= self.n_entries
            && !self.is_reading
            && self.unsent.is_empty()
            && self.undecided.is_empty();
        if is_offered && !self.are_keys_ended {
            self.are_keys_ended = true;
            if self.keys_open > 0 {
                effects.push(Effect::EndKeys { reopen: false });
            }
        }
        let is_sent = self.queue.is_empty() && self.streams.values().all(|s| s.n_ahead == 0);
        if is_offered && is_sent {
            let open: Vec<u32> = self.streams.keys().copied().collect();
            for stream in open {
                self.end_records(stream, effects);
            }
            self.stage = Stage::Closing;
        }
    }
}
