//! Functions that have something to say to others than their neighbours.

use plumb_nf::impair::Impair;
use plumb_nf::{Chain, Count, Function};

/// A function with the I/O that belongs to it, such as a log.
pub(crate) trait Attended: Function {
    /// Does what the last frames have made necessary; called whenever some have passed.
    ///
    /// # Errors
    /// If it cannot be done, and the stage cannot go on without it.
    fn attend(&mut self) -> anyhow::Result<()> {
        Ok(())
    }
}

impl Attended for Count {}
impl Attended for Impair {}

impl<F: Attended + ?Sized> Attended for Box<F> {
    fn attend(&mut self) -> anyhow::Result<()> {
        (**self).attend()
    }
}

impl<F: Attended> Attended for Chain<F> {
    fn attend(&mut self) -> anyhow::Result<()> {
        self.functions_mut().try_for_each(F::attend)
    }
}
