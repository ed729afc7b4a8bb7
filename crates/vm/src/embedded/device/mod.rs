//! The devices of the machine, as state machines without file descriptors and without KVM.
//!
//! What a device reads comes from a hostile guest: register writes of any kind in any order, rings
//! and descriptors that change while they are read. Guest memory is only reached through
//! `vm-memory`, which checks every access; a ring that makes no sense stops its device until the
//! driver resets it ([`Transport::fail`]), and nothing else.

mod console;
mod net;
mod serial;
#[cfg(test)]
mod tests;
mod transport;

pub use console::{Console, Peer};
pub use net::{Frames, Net};
pub use serial::Serial;
pub use transport::{Access, Transport};

use std::io;

use virtio_queue::{DescriptorChain, Error, Queue, QueueOwnedT, QueueT};
use vm_memory::{Bytes, GuestMemoryMmap};

/// Memory of the machine.
pub type Memory = GuestMemoryMmap<()>;

/// What a device wants after it has moved what there was to move.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wants {
    /// The driver has to be interrupted.
    pub interrupt: bool,
    /// The other side is to be watched for input: the driver has room for it.
    pub input: bool,
    /// The other side is to be watched for room: output waits.
    pub room: bool,
    /// The other side has closed, or is broken.
    pub closed: bool,
    /// There is more to move: call again when others have had their turn.
    pub again: bool,
}

/// Chains of a queue that are served before others have their turn.
const TURN: usize = 64;

/// The next chain; if there is none, the driver is asked to say when there is.
fn next<'m>(
    queue: &mut Queue,
    memory: &'m Memory,
) -> Result<Option<DescriptorChain<&'m Memory>>, Error> {
    if let Some(chain) = queue.iter(memory)?.next() {
        return Ok(Some(chain));
    }
    if queue.enable_notification(memory)? {
        return Ok(queue.iter(memory)?.next());
    }
    Ok(None)
}

/// Writable bytes of a chain, no more than `most`.
fn room(chain: DescriptorChain<&Memory>, most: usize) -> usize {
    let mut room = 0_usize;
    for descriptor in chain.writable() {
        room = room.saturating_add(descriptor.len() as usize);
        if room >= most {
            return most;
        }
    }
    room
}

/// Copies `bytes` into the writable part of a chain. Fails if it is too short or leads out of the
/// memory.
fn fill(memory: &Memory, chain: DescriptorChain<&Memory>, mut bytes: &[u8]) -> io::Result<()> {
    for descriptor in chain.writable() {
        if bytes.is_empty() {
            break;
        }
        let (now, rest) = bytes.split_at(bytes.len().min(descriptor.len() as usize));
        memory
            .write_slice(now, descriptor.addr())
            .map_err(io::Error::other)?;
        bytes = rest;
    }
    if bytes.is_empty() {
        Ok(())
    } else {
        Err(io::ErrorKind::WriteZero.into())
    }
}

/// Copies readable bytes of a chain, from the `skip`th on, and returns how many fit. Fails if a
/// descriptor leads out of the memory.
fn gather(
    memory: &Memory,
    chain: DescriptorChain<&Memory>,
    mut skip: usize,
    into: &mut [u8],
) -> io::Result<usize> {
    let mut have = 0;
    for descriptor in chain.readable() {
        let len = descriptor.len() as usize;
        let skipped = skip.min(len);
        skip -= skipped;
        let now = (len - skipped).min(into.len() - have);
        if now == 0 {
            if have == into.len() {
                break;
            }
            continue;
        }
        let at = descriptor.addr().0.checked_add(skipped as u64);
        let at = vm_memory::GuestAddress(at.ok_or(io::ErrorKind::InvalidInput)?);
        memory
            .read_slice(&mut into[have..have + now], at)
            .map_err(io::Error::other)?;
        have += now;
    }
    Ok(have)
}
