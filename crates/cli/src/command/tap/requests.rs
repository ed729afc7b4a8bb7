//! The session's end of the socket that it is asked over. Each request is read, and what it asks for
//! is put together, in a thread of its own: a set of a million prefixes takes a second, in which the
//! ring has to be read on.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};

use plumb_ebpf::tap::Chooser;
use rustix::net::sockopt::socket_peercred;
use rustix::process::geteuid;

use super::control::{Answer, PATIENCE, PREFIX, Request};
use super::selection::{Change, Chosen, Selected};
use crate::args::Reduction;

/// Longest request in bytes: it may carry as many prefixes as a set has.
const MAX_REQUEST: u64 = 64 << 20;
/// Requests that are seen to at the same time.
const MAX_REQUESTS: usize = 16;

/// What the session is asked, ready to be done.
#[derive(Debug)]
pub(super) enum Asked {
    /// How it is.
    Status,
    /// To be different.
    Set {
        /// Another choice of packets.
        chosen: Option<Box<Chosen>>,
        /// Other reductions.
        reduction: Reduction,
    },
    /// To end.
    Stop,
}

/// What it answers, and what has chosen packets before.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) answer: Answer,
    pub(super) before: Option<Chooser>,
}

impl From<Answer> for Outcome {
    fn from(answer: Answer) -> Self {
        Self {
            answer,
            before: None,
        }
    }
}

/// A request on its way to the session's loop.
#[derive(Debug)]
struct Call {
    asked: Asked,
    reply: Sender<Outcome>,
}

/// Where sessions are asked.
#[derive(Debug)]
pub(super) struct Listener(UnixListener);

impl Listener {
    /// Listens under the number of a session, in the present network namespace.
    pub(super) fn open(id: u32) -> io::Result<Self> {
        let address = SocketAddr::from_abstract_name(format!("{PREFIX}{id}"))?;
        let listener = UnixListener::bind_addr(&address)?;
        listener.set_nonblocking(true)?;
        Ok(Self(listener))
    }

    /// Begins to take requests, for a session that chooses packets like this.
    pub(super) fn serve(self, selected: Selected) -> io::Result<Requests> {
        let (wake, woken) = UnixStream::pair()?;
        woken.set_nonblocking(true)?;
        let (calls, called) = channel();
        Ok(Requests {
            listener: self.0,
            desk: Arc::new(Desk {
                selected: Mutex::new(selected),
                calls,
                wake,
            }),
            called,
            woken,
        })
    }
}

/// Requests to a session.
#[derive(Debug)]
pub(super) struct Requests {
    listener: UnixListener,
    desk: Arc<Desk>,
    called: Receiver<Call>,
    woken: UnixStream,
}

impl Requests {
    /// What becomes readable when there is something to attend to.
    pub(super) fn fds(&self) -> [BorrowedFd<'_>; 2] {
        [self.listener.as_fd(), self.woken.as_fd()]
    }

    /// Lets `answer` do what is asked.
    pub(super) fn attend(&self, mut answer: impl FnMut(Asked) -> Outcome) {
        while let Ok((stream, _)) = self.listener.accept() {
            // Each thread has one, and so have we.
            if may_ask(&stream) && Arc::strong_count(&self.desk) <= MAX_REQUESTS {
                let desk = Arc::clone(&self.desk);
                let thread = std::thread::Builder::new().name("request".to_owned());
                // Whoever does not say or hear anything has had its chance.
                let _ = thread.spawn(move || desk.see_to(&stream));
            }
        }
        let mut bytes = [0; MAX_REQUESTS];
        while matches!((&self.woken).read(&mut bytes), Ok(1..)) {}
        while let Ok(call) = self.called.try_recv() {
            // The thread waits for it.
            let _ = call.reply.send(answer(call.asked));
        }
    }
}

/// Root, and whoever started the session.
fn may_ask(stream: &UnixStream) -> bool {
    socket_peercred(stream).is_ok_and(|peer| peer.uid.is_root() || peer.uid == geteuid())
}

/// What threads share that see to requests.
#[derive(Debug)]
struct Desk {
    /// Held while it is changed, so that one change follows the other.
    selected: Mutex<Selected>,
    calls: Sender<Call>,
    wake: UnixStream,
}

impl Desk {
    fn see_to(&self, stream: &UnixStream) -> io::Result<()> {
        stream.set_nonblocking(false)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let mut line = String::new();
        BufReader::new(stream.take(MAX_REQUEST)).read_line(&mut line)?;
        let answer = match serde_json::from_str(&line) {
            Ok(Request::Status) => self.call(Asked::Status).answer,
            Ok(Request::Stop) => self.call(Asked::Stop).answer,
            Ok(Request::Set { change, reduction }) => self.set(&change, reduction),
            Err(error) => Answer::Refused(format!("not a request: {error}")),
        };
        let mut bytes = serde_json::to_vec(&answer)?;
        bytes.push(b'\n');
        let mut stream = stream;
        stream.write_all(&bytes)
    }

    fn set(&self, change: &Change, reduction: Reduction) -> Answer {
        // A thread that panicked has changed nothing.
        let mut selected = self.selected.lock().unwrap_or_else(PoisonError::into_inner);
        let mut next = None;
        let mut chosen = None;
        if !change.is_empty() {
            match selected.change(change) {
                Ok((selected, ready)) => {
                    next = Some(selected);
                    chosen = Some(Box::new(ready));
                }
                Err(failure) => return Answer::Refused(failure.message),
            }
        }
        let outcome = self.call(Asked::Set { chosen, reduction });
        if let (Some(next), Answer::Done) = (next, &outcome.answer) {
            *selected = next;
        }
        if let Some(before) = outcome.before {
            before.retire();
        }
        outcome.answer
    }

    /// Has the session's loop do it.
    fn call(&self, asked: Asked) -> Outcome {
        let (reply, replied) = channel();
        let is_sent = self.calls.send(Call { asked, reply }).is_ok();
        if is_sent
            && (&self.wake).write_all(&[1]).is_ok()
            && let Ok(outcome) = replied.recv()
        {
            return outcome;
        }
        Answer::Refused("the session has ended".to_owned()).into()
    }
}
