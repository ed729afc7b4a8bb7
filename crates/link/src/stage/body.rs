//! Bodies of long frames, which stay where they are: whoever needs only the beginning of a frame has the
//! rest carried from link to link without a look at it.

mod piped;

use super::LinkError;
use super::ring::Lent;

pub(super) use piped::{Holds, Piped};

/// The rest of a frame, behind the beginning that [`Link::receive`](super::Link::receive) gave. Given up,
/// it is gone.
#[derive(Debug)]
pub struct Body(pub(super) Kept);

#[derive(Debug)]
pub(super) enum Kept {
    Piped(Piped),
    Lent(Lent),
}

/// Where bodies are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the kernel, which moves them from pipe to pipe.
    Pipe,
    /// In the ring that they came by. Its writer finds no room there for others before they are gone.
    Ring,
}

impl Body {
    /// How many bytes it has, of those that are still here.
    pub const fn len(&self) -> usize {
        match &self.0 {
            Kept::Piped(piped) => piped.len(),
            Kept::Lent(lent) => lent.len(),
        }
    }

    /// Whether all of it is gone.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Where it is.
    pub const fn place(&self) -> Place {
        match &self.0 {
            Kept::Piped(_) => Place::Pipe,
            Kept::Lent(_) => Place::Ring,
        }
    }

    /// Copies it behind what is in `into`.
    ///
    /// # Errors
    /// If the kernel fails.
    pub fn append_to(self, into: &mut Vec<u8>) -> Result<(), LinkError> {
        match self.0 {
            Kept::Piped(piped) => piped.append_to(into),
            Kept::Lent(lent) => {
                lent.append_to(into);
                Ok(())
            }
        }
    }
}
