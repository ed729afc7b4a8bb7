//! Answers scrapes: a few sockets that are looked at when the rest of the program comes by.

use core::net::SocketAddr;
use core::time::Duration;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};

use plumb_wire::Instant;
use rustix::event::PollFlags;

use super::http::{self, MOST_LEN};
use super::text::MEDIA_TYPE;

/// Connections at once. More wait in the kernel's queue.
const MOST: usize = 16;
/// What a connection may take from its beginning to its end.
const PATIENCE: Duration = Duration::from_secs(5);
/// Connections that are taken in one turn.
const MOST_AT_ONCE: usize = 16;

/// A listener and those who ask.
#[derive(Debug)]
pub(super) struct Server {
    listener: TcpListener,
    clients: Vec<Client>,
}

#[derive(Debug)]
struct Client {
    stream: TcpStream,
    until: Instant,
    state: State,
}

#[derive(Debug)]
enum State {
    /// The request comes.
    Reading(Vec<u8>),
    /// The rest of the response leaves.
    Writing(Vec<u8>, usize),
    /// All is sent, and the other end has not closed yet: to close first would make the kernel
    /// reset the connection if anything unread is left, and the response be lost.
    Lingering,
}

/// What became of a client in a turn.
enum Turn {
    Waits,
    Goes,
}

impl Server {
    /// Listens.
    pub(super) fn bind(address: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        Ok(Self {
            listener,
            clients: Vec::new(),
        })
    }

    /// Where it listens.
    pub(super) fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// What is waited for.
    pub(super) fn interests(&self) -> impl Iterator<Item = (BorrowedFd<'_>, PollFlags)> {
        let listens = self.clients.len() < MOST;
        let listener = listens.then(|| (self.listener.as_fd(), PollFlags::IN));
        let clients = self.clients.iter().map(|client| {
            let flags = match client.state {
                State::Reading(_) | State::Lingering => PollFlags::IN,
                State::Writing(..) => PollFlags::OUT,
            };
            (client.stream.as_fd(), flags)
        });
        listener.into_iter().chain(clients)
    }

    /// Does what can be done without waiting.
    pub(super) fn turn(&mut self, now: Instant, mut page: impl FnMut() -> String) {
        for _ in 0..MOST_AT_ONCE {
            if self.clients.len() >= MOST {
                break;
            }
            // Whoever left before it was taken, or too many open files: the next turn tries again.
            let Ok((stream, _)) = self.listener.accept() else {
                break;
            };
            if stream.set_nonblocking(true).is_ok() {
                self.clients.push(Client {
                    stream,
                    until: now + PATIENCE,
                    state: State::Reading(Vec::new()),
                });
            }
        }
        self.clients.retain_mut(|client| {
            now < client.until && matches!(client.turn(&mut page), Ok(Turn::Waits))
        });
    }
}

impl Client {
    fn turn(&mut self, page: &mut impl FnMut() -> String) -> io::Result<Turn> {
        let mut buffer = [0; 4096];
        if let State::Reading(request) = &mut self.state {
            let answer = loop {
                if let Some(answer) = http::read(request) {
                    break answer;
                }
                // Empty lines alone are no request, however many.
                if request.len() > MOST_LEN {
                    return Ok(Turn::Goes);
                }
                match self.stream.read(&mut buffer) {
                    Ok(0) => return Ok(Turn::Goes),
                    Ok(len) => request.extend_from_slice(buffer.get(..len).unwrap_or_default()),
                    Err(error) => return waits(error),
                }
            };
            let response = http::respond(answer, MEDIA_TYPE, page);
            self.state = State::Writing(response, 0);
        }
        if let State::Writing(response, sent) = &mut self.state {
            while let Some(rest) = response.get(*sent..).filter(|rest| !rest.is_empty()) {
                match self.stream.write(rest) {
                    Ok(0) => return Ok(Turn::Goes),
                    Ok(len) => *sent += len,
                    Err(error) => return waits(error),
                }
            }
            self.stream.shutdown(Shutdown::Write)?;
            self.state = State::Lingering;
        }
        // What comes after a request is nobody's; who sends without end is cut off by the time.
        for _ in 0..4 {
            match self.stream.read(&mut buffer) {
                Ok(0) => return Ok(Turn::Goes),
                Ok(_) => {}
                Err(error) => return waits(error),
            }
        }
        Ok(Turn::Waits)
    }
}

fn waits(error: io::Error) -> io::Result<Turn> {
    let later = [ErrorKind::WouldBlock, ErrorKind::Interrupted];
    if later.contains(&error.kind()) {
        Ok(Turn::Waits)
    } else {
        Err(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server() -> Server {
        Server::bind("127.0.0.1:0".parse().unwrap()).unwrap()
    }

    fn at(seconds: u64) -> Instant {
        Instant::from_millis(seconds * 1000)
    }

    /// Waits until something is there for the server, as the loop does.
    fn wait(server: &Server) {
        let mut fds: Vec<_> = server
            .interests()
            .map(|(fd, flags)| rustix::event::PollFd::from_borrowed_fd(fd, flags))
            .collect();
        rustix::event::poll(&mut fds, None).unwrap();
    }

    fn get(server: &mut Server, request: &[u8], page: &str) -> String {
        let mut client = TcpStream::connect(server.address().unwrap()).unwrap();
        client.write_all(request).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let reader = std::thread::spawn(move || {
            let mut response = String::new();
            // Who sends no request is cut off.
            let _ = client.read_to_string(&mut response);
            response
        });
        while !reader.is_finished() {
            wait(server);
            server.turn(at(0), || page.to_owned());
            if server.clients.is_empty() {
                break;
            }
        }
        reader.join().unwrap()
    }

    #[test]
    fn a_page_that_is_longer_than_a_socket_holds_arrives_whole() {
        let mut server = server();
        let page = "x".repeat(8 << 20);
        let response = get(&mut server, b"GET /metrics HTTP/1.1\r\n\r\n", &page);
        assert_eq!(response.split_once("\r\n\r\n").unwrap().1.len(), page.len());
        assert!(server.clients.is_empty());
    }

    #[test]
    fn a_refusal_reaches_who_has_sent_more_than_was_read() {
        let mut server = server();
        let request = [
            b"POST /metrics HTTP/1.1\r\n\r\n".as_slice(),
            &[b'x'; 10_000],
        ]
        .concat();
        let response = get(&mut server, &request, "");
        assert!(response.starts_with("HTTP/1.1 405 "), "{response}");
    }

    #[test]
    fn who_says_nothing_is_forgotten_and_keeps_no_more_than_its_place() {
        let mut server = server();
        let address = server.address().unwrap();
        let silent: Vec<_> = (0..MOST + 4)
            .map(|_| TcpStream::connect(address).unwrap())
            .collect();
        while server.clients.len() < MOST {
            wait(&server);
            server.turn(at(0), String::new);
        }
        assert!(server.interests().all(|(fd, _)| {
            use std::os::fd::AsRawFd;
            fd.as_raw_fd() != server.listener.as_fd().as_raw_fd()
        }));
        server.turn(at(4), String::new);
        assert_eq!(server.clients.len(), MOST);
        // Their time is over, and those who waited are next.
        server.turn(at(5), String::new);
        assert!(server.clients.is_empty());
        server.turn(at(5), String::new);
        assert_eq!(server.clients.len(), 4);
        drop(silent);
    }

    #[test]
    fn empty_lines_without_end_are_no_request() {
        let mut server = server();
        let response = get(&mut server, &b"\r\n".repeat(MOST_LEN), "");
        assert_eq!(response, "");
    }
}
