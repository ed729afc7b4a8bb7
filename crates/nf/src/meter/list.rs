//! Flows in the order in which they last had a packet.

use super::Entry;
use crate::slab::Slab;

/// The neighbours of a flow in its list.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Links {
    before: Option<u32>,
    behind: Option<u32>,
}

/// A list of flows, linked through them.
#[derive(Debug, Default)]
pub(super) struct List {
    first: Option<u32>,
    last: Option<u32>,
}

impl List {
    pub(super) const fn first(&self) -> Option<u32> {
        self.first
    }

    /// Puts a flow that is in no list at the end.
    pub(super) fn push(&mut self, id: u32, flows: &mut Slab<Entry>) {
        let before = self.last.replace(id);
        match before.and_then(|id| flows.get_mut(id)) {
            Some(entry) => entry.links.behind = Some(id),
            None => self.first = Some(id),
        }
        if let Some(entry) = flows.get_mut(id) {
            entry.links = Links {
                before,
                behind: None,
            };
        }
    }

    /// Takes a flow of this list out.
    pub(super) fn remove(&mut self, id: u32, flows: &mut Slab<Entry>) {
        let Some(Links { before, behind }) = flows.get(id).map(|entry| entry.links) else {
            return;
        };
        match before.and_then(|id| flows.get_mut(id)) {
            Some(entry) => entry.links.behind = behind,
            None => self.first = behind,
        }
        match behind.and_then(|id| flows.get_mut(id)) {
            Some(entry) => entry.links.before = before,
            None => self.last = before,
        }
    }
}
