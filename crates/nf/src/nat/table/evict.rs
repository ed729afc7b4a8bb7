//! Room in a full table.

use super::Table;

/// Sessions that are looked at for one to give up.
const LOOKED_AT: usize = 16;
/// Timers that are set anew before.
const MOVED: usize = 1024;

impl Table {
    /// Gives up the session that would end soonest and is not assured, as Linux's early drop;
    /// false if none is found among the first few.
    pub(super) fn evict(&mut self) -> bool {
        self.evict_but(None)
    }

    /// The same, but not so that `keep` loses its last session.
    pub(super) fn evict_but(&mut self, keep: Option<u32>) -> bool {
        // Timers of what was used since they were set are set anew, so that they are not in the
        // way of the next search.
        for _ in 0..MOVED {
            let Some((at, id)) = self.timers.first().copied() else {
                break;
            };
            match self.sessions.get_mut(id) {
                Some(session) if session.expires > at => {
                    session.looked_at = session.expires;
                    self.timers.pop_first();
                    self.timers.insert((session.expires, id));
                }
                _ => break,
            }
        }
        let candidate = self
            .timers
            .iter()
            .take(LOOKED_AT)
            .map(|(_, id)| *id)
            .find(|id| {
                self.sessions
                    .get(*id)
                    .is_some_and(|s| !s.assured && Some(s.mapping) != keep)
            });
        let Some(id) = candidate else {
            return false;
        };
        if let Some(session) = self.sessions.get(id) {
            self.timers.remove(&(session.looked_at, id));
            let now = session.expires;
            self.evicted += 1;
            self.end_session(id, now);
        }
        true
    }
}
