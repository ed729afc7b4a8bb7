//! How two stages that a shell has joined by a pipe find each other, and get to share memory.
//!
//! The stage that writes the pipe listens on a socket before it writes anything, and names it, with
//! a secret, in the header of its section. The stage that reads the header calls there, shows the
//! secret and says which pipe it reads. If that is the very pipe, nobody stands between the two:
//! they get rings for both directions, and the pipe becomes silent. If it is another (`tee` or `cat`
//! copies the stream), packets go on through the pipe and the caller gets a ring for the way back.
//!
//! Nobody waits for anybody: until all is agreed, packets travel in the pipe.

mod directory;

use core::mem::MaybeUninit;
use std::fs;
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind,
    connect, listen, recvmsg, sendmsg, socket_with, sockopt,
};

use super::pipe::Identity;
use super::ring::{Consumer, Memory, Producer, Way};

/// What proves that a caller has read the header.
pub(crate) type Token = [u8; 16];

/// Begins every message, and changes with the layout of messages or memory.
const MAGIC: [u8; 8] = *b"plumbR\x01\n";
const BOTH_WAYS: u8 = 2;
const WAY_BACK: u8 = 1;
const HELLO_LEN: usize = MAGIC.len() + 16 + 16;
const OFFER_LEN: usize = MAGIC.len() + 1;

/// Memory that is shared with a neighbour, as one side sees it.
#[derive(Debug)]
pub(crate) struct Joined {
    pub(crate) producer: Producer,
    pub(crate) consumer: Consumer,
    /// Becomes readable when the neighbour has done something that this side waits for.
    pub(crate) wakes_me: OwnedFd,
    wakes_peer: OwnedFd,
    /// Tells when the neighbour is gone.
    pub(crate) connection: OwnedFd,
    /// The pipe's direction has a ring too.
    pub(crate) both_ways: bool,
}

impl Joined {
    pub(crate) fn wake_peer(&self) {
        let _ = rustix::io::write(&self.wakes_peer, &1u64.to_ne_bytes());
    }

    /// Makes `wakes_me` unreadable until the next time.
    pub(crate) fn awake(&self) {
        let mut count = [0; 8];
        let _ = rustix::io::read(&self.wakes_me, &mut count);
    }

    /// Says whether the neighbour is gone. It never sends anything.
    pub(crate) fn is_alone(&self) -> bool {
        !matches!(
            receive(self.connection.as_fd(), &mut [0; 1]),
            Err(Errno::AGAIN | Errno::INTR)
        )
    }
}

/// The offer of the stage that writes the pipe.
#[derive(Debug)]
pub(crate) struct Host {
    socket: OwnedFd,
    path: PathBuf,
    token: Token,
    pipe: Identity,
    callers: Vec<Caller>,
}

#[derive(Debug)]
struct Caller {
    connection: OwnedFd,
    /// What it was sent, if its greeting was good.
    offered: Option<Offered>,
}

#[derive(Debug)]
struct Offered {
    memory: Rc<Memory>,
    wakes_me: OwnedFd,
    wakes_peer: OwnedFd,
    both_ways: bool,
}

impl Host {
    /// Begins to listen for the reader of this pipe.
    pub(crate) fn open(pipe: Identity) -> io::Result<Self> {
        let directory = directory::open()?;
        let mut token = [0; 16];
        rustix::rand::getrandom(&mut token, rustix::rand::GetRandomFlags::empty())?;
        let name: String = token[..8]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let path = directory.join(&name);
        let socket = seqpacket()?;
        // It appears under its name when it can be called, so that nobody takes it for an orphan.
        let unfinished = directory.join(format!("{name}.new"));
        bind(&socket, &SocketAddrUnix::new(&unfinished)?)?;
        listen(&socket, 8)?;
        fs::rename(&unfinished, &path)?;
        // The name that callers learn says nothing of the rest.
        rustix::rand::getrandom(&mut token, rustix::rand::GetRandomFlags::empty())?;
        Ok(Self {
            socket,
            path,
            token,
            pipe,
            callers: Vec::new(),
        })
    }

    pub(crate) fn token(&self) -> &Token {
        &self.token
    }

    pub(crate) fn path(&self) -> &[u8] {
        self.path.as_os_str().as_bytes()
    }

    /// What becomes readable when somebody calls or answers.
    pub(crate) fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        core::iter::once(self.socket.as_fd())
            .chain(self.callers.iter().map(|caller| caller.connection.as_fd()))
    }

    /// Listens to callers; the first that has mapped the memory is joined.
    pub(crate) fn attend(&mut self) -> io::Result<Option<Joined>> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        while let Ok(connection) = accept_with(&self.socket, flags) {
            // Somebody who calls over and over is not the reader.
            if self.callers.len() < MAX_CALLERS {
                self.callers.push(Caller {
                    connection,
                    offered: None,
                });
            }
        }
        let mut index = 0;
        while let Some(caller) = self.callers.get_mut(index) {
            let mut message = [0; HELLO_LEN + 1];
            match receive(caller.connection.as_fd(), &mut message) {
                Err(Errno::AGAIN | Errno::INTR) => {
                    index += 1;
                    continue;
                }
                Ok(len) if len > 0 => {
                    let message = &message[..len];
                    if let Some(offered) = caller.offered.take_if(|_| *message == MAGIC) {
                        let caller = self.callers.swap_remove(index);
                        return Ok(Some(offered.joined(caller.connection)));
                    }
                    if caller.offered.is_none()
                        && let Some(pipe) = parse_hello(message, &self.token)
                        && same_user(&caller.connection)
                    {
                        let offered = Offered::send(&caller.connection, pipe == self.pipe);
                        if let Ok(offered) = offered {
                            caller.offered = Some(offered);
                            index += 1;
                            continue;
                        }
                    }
                }
                Ok(_) | Err(_) => {}
            }
            self.callers.swap_remove(index);
        }
        Ok(None)
    }
}

/// Connections that may wait for their turn.
const MAX_CALLERS: usize = 8;

impl Drop for Host {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

impl Offered {
    fn send(connection: &OwnedFd, both_ways: bool) -> io::Result<Self> {
        let (memory, fd) = Memory::create()?;
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        let (wakes_me, wakes_peer) = (eventfd(0, flags)?, eventfd(0, flags)?);
        let fds = [fd.as_fd(), wakes_peer.as_fd(), wakes_me.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        control.push(SendAncillaryMessage::ScmRights(&fds));
        let mut message = [0; OFFER_LEN];
        message[..MAGIC.len()].copy_from_slice(&MAGIC);
        message[MAGIC.len()] = if both_ways { BOTH_WAYS } else { WAY_BACK };
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        sendmsg(connection, &[IoSlice::new(&message)], &mut control, flags)?;
        Ok(Self {
            memory,
            wakes_me,
            wakes_peer,
            both_ways,
        })
    }

    fn joined(self, connection: OwnedFd) -> Joined {
        Joined {
            producer: Producer::new(&self.memory, Way::Forward),
            consumer: Consumer::new(&self.memory, Way::Reverse),
            wakes_me: self.wakes_me,
            wakes_peer: self.wakes_peer,
            connection,
            both_ways: self.both_ways,
        }
    }
}

/// The call of the stage that reads the pipe.
#[derive(Debug)]
pub(crate) struct Visit {
    connection: OwnedFd,
}

impl Visit {
    /// Calls the writer of the section whose header says this. Fails where it is on another
    /// machine, does not listen any more, or has been reached by somebody else.
    pub(crate) fn begin(path: &[u8], token: &[u8], pipe: Option<Identity>) -> io::Result<Self> {
        let path = Path::new(std::ffi::OsStr::from_bytes(path));
        let token: &Token = token.try_into().map_err(|_| io::ErrorKind::InvalidInput)?;
        // Whoever wrote the header may have named anything: only what we would have made ourselves
        // is spoken to.
        if !path.is_absolute() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let connection = seqpacket()?;
        connect(&connection, &SocketAddrUnix::new(path)?)?;
        let mut hello = [0; HELLO_LEN];
        hello[..8].copy_from_slice(&MAGIC);
        hello[8..24].copy_from_slice(token);
        if let Some(pipe) = pipe {
            hello[24..32].copy_from_slice(&pipe.device.to_le_bytes());
            hello[32..].copy_from_slice(&pipe.inode.to_le_bytes());
        }
        send(&connection, &hello)?;
        Ok(Self { connection })
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.connection.as_fd()
    }

    /// Looks for the answer. Fails if there will be none, or one that is no good.
    pub(crate) fn attend(&mut self) -> io::Result<Option<Joined>> {
        let mut message = [0; OFFER_LEN + 1];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
        let received = recvmsg(
            &self.connection,
            &mut [IoSliceMut::new(&mut message)],
            &mut control,
            flags,
        );
        let len = match received {
            Ok(received) => received.bytes,
            Err(Errno::AGAIN | Errno::INTR) => return Ok(None),
            Err(e) => return Err(e.into()),
        };
        let mut fds = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                fds.extend(rights);
            }
        }
        let refused = || io::Error::from(io::ErrorKind::InvalidData);
        let both_ways = match message[..len].strip_prefix(&MAGIC) {
            Some([BOTH_WAYS]) => true,
            Some([WAY_BACK]) => false,
            _ => return Err(refused()),
        };
        let [memory, wakes_me, wakes_peer] =
            <[OwnedFd; 3]>::try_from(fds).map_err(|_| refused())?;
        let memory = Memory::open(memory.as_fd())?;
        send(&self.connection, &MAGIC)?;
        Ok(Some(Joined {
            producer: Producer::new(&memory, Way::Reverse),
            consumer: Consumer::new(&memory, Way::Forward),
            wakes_me,
            wakes_peer,
            connection: self.connection.try_clone()?,
            both_ways,
        }))
    }
}

fn seqpacket() -> rustix::io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
}

fn send(connection: &OwnedFd, message: &[u8]) -> io::Result<()> {
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    rustix::net::send(connection, message, flags)?;
    Ok(())
}

fn receive(connection: BorrowedFd<'_>, message: &mut [u8]) -> rustix::io::Result<usize> {
    rustix::net::recv(connection, message, RecvFlags::DONTWAIT).map(|(len, _)| len)
}

/// The pipe that a caller says it reads, if it knows the secret.
fn parse_hello(message: &[u8], token: &Token) -> Option<Identity> {
    let rest = message.strip_prefix(&MAGIC)?.strip_prefix(token)?;
    let (device, inode) = rest.split_first_chunk()?;
    Some(Identity {
        device: u64::from_le_bytes(*device),
        inode: u64::from_le_bytes(inode.try_into().ok()?),
    })
}

/// A caller of another user is turned away, unless it is root, who can do everything anyway.
fn same_user(connection: &OwnedFd) -> bool {
    sockopt::socket_peercred(connection)
        .is_ok_and(|peer| peer.uid.is_root() || peer.uid == rustix::process::geteuid())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PIPE: Identity = Identity {
        device: 1,
        inode: 2,
    };

    /// Sends a message as the first one; says whether the host hangs up.
    fn is_turned_away(host: &mut Host, message: &[u8]) -> bool {
        let connection = seqpacket().unwrap();
        connect(&connection, &SocketAddrUnix::new(&host.path).unwrap()).unwrap();
        send(&connection, message).unwrap();
        assert!(host.attend().unwrap().is_none());
        receive(connection.as_fd(), &mut [0; 64]) == Ok(0)
    }

    #[test]
    fn the_reader_of_the_pipe_gets_both_ways_and_any_other_with_the_secret_the_way_back() {
        for (pipe, both_ways) in [
            (Some(PIPE), true),
            (Some(Identity { inode: 3, ..PIPE }), false),
            (None, false),
        ] {
            let mut host = Host::open(PIPE).unwrap();
            let mut visit = Visit::begin(host.path(), host.token(), pipe).unwrap();
            assert!(visit.attend().unwrap().is_none());
            assert!(host.attend().unwrap().is_none());
            let mut guest = visit.attend().unwrap().unwrap();
            let mut joined = host.attend().unwrap().unwrap();
            assert_eq!((joined.both_ways, guest.both_ways), (both_ways, both_ways));
            // What one writes, the other reads.
            let (mut bytes, mut wake) = (Vec::new(), false);
            let mut meta = super::super::Meta::default();
            guest
                .producer
                .push(&meta, b"back", None, &mut wake)
                .unwrap();
            guest.producer.publish();
            assert!(
                joined
                    .consumer
                    .pop(&mut meta, &mut bytes, &mut wake)
                    .unwrap()
            );
            assert_eq!(bytes, b"back");
            joined
                .producer
                .push(&meta, b"forth", None, &mut wake)
                .unwrap();
            joined.producer.publish();
            assert!(
                guest
                    .consumer
                    .pop(&mut meta, &mut bytes, &mut wake)
                    .unwrap()
            );
            assert_eq!(bytes, b"forth");
            assert!(!joined.is_alone());
            drop((guest, visit));
            assert!(joined.is_alone());
        }
    }

    #[test]
    fn whoever_does_not_know_the_secret_is_turned_away_and_takes_nobodys_place() {
        let mut host = Host::open(PIPE).unwrap();
        let mut hello = [MAGIC.as_slice(), host.token(), &[0; 16]].concat();
        for message in [
            b"".as_slice(),
            b"x",
            &MAGIC,
            &hello[..39],
            &[&hello[..], b"x"].concat(),
        ] {
            // An empty message looks like the end of a connection.
            assert!(is_turned_away(&mut host, message), "{message:?}");
        }
        hello[8] ^= 1;
        assert!(is_turned_away(&mut host, &hello));
        let waiting: Vec<_> = (0..20)
            .filter_map(|_| {
                let connection = seqpacket().ok()?;
                connect(&connection, &SocketAddrUnix::new(&host.path).ok()?).ok()?;
                Some(connection)
            })
            .collect();
        assert!(host.attend().unwrap().is_none() && !waiting.is_empty());
        drop(waiting);
        assert!(host.attend().unwrap().is_none());
        let mut visit = Visit::begin(host.path(), host.token(), Some(PIPE)).unwrap();
        assert!(host.attend().unwrap().is_none());
        assert!(visit.attend().unwrap().is_some());
        assert!(host.attend().unwrap().is_some());
    }

    #[test]
    fn a_host_that_answers_nonsense_is_left() {
        let host = Host::open(PIPE).unwrap();
        for answer in [&b"plumb"[..], &[&MAGIC[..], &[BOTH_WAYS]].concat()] {
            let mut visit = Visit::begin(host.path(), host.token(), Some(PIPE)).unwrap();
            let connection = accept_with(&host.socket, SocketFlags::empty()).unwrap();
            send(&connection, answer).unwrap();
            // The second one lacks its descriptors.
            assert!(visit.attend().is_err());
        }
        let path = host.path().to_vec();
        drop(host);
        assert!(Visit::begin(&path, &[0; 16], None).is_err());
        assert!(Visit::begin(b"relative", &[0; 16], None).is_err());
    }
}
