//! The unikernel's drivers, with bytes in charge of a device that keeps no rule.

use plumb_unikernel::platform::{Nic, Stream};
use plumb_unikernel::virtio::fake::{FakeDevice, Kind};
use plumb_unikernel::virtio::{Console, Mmio, Net, Vsock};

use crate::bytes::Bytes;

/// A driver.
#[derive(Debug)]
enum Driver {
    Net(Box<Net>),
    Console(Box<Console>),
    Vsock(Box<Vsock>),
}

/// Registers, completions and indices of any value, beside honest ones.
///
/// # Panics
/// If a driver does.
pub fn virtio(data: &[u8]) {
    let mut bytes = Bytes(data);
    let ids = [1, 3, 19];
    let id = ids[usize::from(bytes.next() % 3)];
    let shape = bytes.next();
    let device = FakeDevice::new(Kind {
        version: u32::from(shape & 3),
        id,
        features: u32::from_be_bytes([bytes.next(), 0, 0, bytes.next()]),
        queue_sizes: match bytes.next() {
            0 => vec![256; 3],
            1 => vec![8; 3],
            size => vec![size.into(), bytes.word(), 64],
        },
        config: bytes.take(12).to_vec(),
        strict: shape & 4 != 0,
    });
    let Some((_, transport)) = Mmio::probe(device.clone()) else {
        return;
    };
    let transport = Box::new(transport);
    let driver = match id {
        1 => Net::new(transport, [2; 6], 1500).map(|net| Driver::Net(Box::new(net))),
        3 => Console::new(transport).map(|console| Driver::Console(Box::new(console))),
        _ => Vsock::new(transport, 52).map(|vsock| Driver::Vsock(Box::new(vsock))),
    };
    let Ok(mut driver) = driver else {
        return;
    };
    while !bytes.0.is_empty() {
        if bytes.next().is_multiple_of(2) {
            misbehave(&device, &mut bytes);
        } else {
            drive(&mut driver, &mut bytes);
        }
    }
}

/// Something that a device may do, or must not.
fn misbehave(device: &FakeDevice, bytes: &mut Bytes<'_>) {
    let queue = u16::from(bytes.next() % 3);
    match bytes.next() % 6 {
        0 => _ = device.drain(1),
        1 => {
            let len = bytes.next();
            let bytes = bytes.take(len.into());
            device.fill(queue & 2, bytes);
        }
        2 => {
            // The only right packet of a host's socket that matters: it accepts.
            let mut accept = [0; 44];
            accept[0] = 2;
            accept[8..12].copy_from_slice(
                &device
                    .state()
                    .kind
                    .config
                    .first_chunk()
                    .map_or([0; 4], |cid: &[u8; 4]| *cid),
            );
            accept[16] = 52;
            accept[21] = 4;
            accept[28] = 1;
            accept[30] = bytes.next();
            accept[36..40].copy_from_slice(&[bytes.next(), bytes.next(), 0, 0]);
            accept[40] = bytes.next();
            device.fill(0, &accept);
        }
        3 => {
            let (id, len) = (bytes.next(), bytes.word());
            device.queue(queue, |q| q.complete(id.into(), len.into()));
        }
        4 => {
            let (index, id) = (bytes.word(), bytes.word());
            let len = u32::from(bytes.word()) << (bytes.next() % 17);
            device.queue(queue, |q| q.put(index, id.into(), len));
        }
        _ => {
            let by = bytes.word();
            device.queue(queue, |q| q.set_used(q.used.wrapping_add(by)));
        }
    }
}

fn drive(driver: &mut Driver, bytes: &mut Bytes<'_>) {
    let what = bytes.next() % 4;
    let len = usize::from(bytes.word());
    match driver {
        Driver::Net(net) => match what {
            0 => _ = net.transmit(&vec![7; len % 1600]),
            1 => net.flush(),
            2 => net.set_interrupts(len.is_multiple_of(2)),
            _ => {
                // There cannot be more than there are buffers.
                let mut frames = 0;
                while net.receive(&mut |frame| assert!(frame.len() >= 14)) {
                    frames += 1;
                    assert!(frames <= 64, "frames without end");
                }
            }
        },
        Driver::Console(console) => drive_stream(console.as_mut(), what, len),
        Driver::Vsock(vsock) => drive_stream(vsock.as_mut(), what, len),
    }
}

fn drive_stream(stream: &mut dyn Stream, what: u8, len: usize) {
    match what {
        0 => assert!(stream.send(&vec![7; len]) <= len),
        1 => stream.flush(),
        2 => _ = stream.is_closed(),
        _ => assert!(stream.receive(&mut vec![0; len]) <= len),
    }
}
