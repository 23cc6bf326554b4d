//! A list cut into windows: entries without a gap that are read together.

use std::iter::Peekable;

use offsite_model::Key;
use offsite_store::{ListEntry, StoreError};

/// Bytes of a window at most.
const WINDOW_BYTES: usize = 4 << 20;

/// A piece of work: entries without a gap that fill a buffer.
pub(crate) struct Window {
    pub(crate) offset: u64,
    pub(crate) bytes: usize,
    pub(crate) entries: Vec<ListEntry>,
}

/// What comes next of a volume.
pub(crate) enum Step {
    Zeros(u64),
    Window(Window),
}

/// The steps of a list, in order.
pub(crate) struct Steps<I: Iterator<Item = Result<ListEntry, StoreError>>> {
    list: Peekable<I>,
}

impl<I: Iterator<Item = Result<ListEntry, StoreError>>> Steps<I> {
    pub(crate) fn new(list: I) -> Self {
        Self { list: list.peekable() }
    }
}

impl<I: Iterator<Item = Result<ListEntry, StoreError>>> Iterator for Steps<I> {
    type Item = Result<Step, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        let first = match self.list.next()? {
            Ok(first) => first,
            Err(error) => return Some(Err(error)),
        };
        if first.key == Key::ZERO {
            return Some(Ok(Step::Zeros(u64::from(first.length))));
        }
        let mut window =
            Window { offset: first.offset, bytes: first.length as usize, entries: vec![first] };
        let fits = |window: &Window, next: &Result<ListEntry, StoreError>| {
            next.as_ref().is_ok_and(|next| {
                next.key != Key::ZERO
                    && window.bytes.saturating_add(next.length as usize) <= WINDOW_BYTES
            })
        };
        while let Some(Ok(next)) = self.list.next_if(|next| fits(&window, next)) {
            window.bytes = window.bytes.saturating_add(next.length as usize);
            window.entries.push(next);
        }
        Some(Ok(Step::Window(window)))
    }
}
