//! Firecracker's API: HTTP/1.1 with JSON over a Unix socket, as far as it is needed.

use core::time::Duration;
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;

use crate::Error;

/// A connection to the API.
#[derive(Debug)]
pub(super) struct Api {
    stream: UnixStream,
}

/// Longest answer that is read.
const MOST_ANSWER: usize = 16 * 1024;

impl Api {
    /// Takes a connection on which no answer may take longer than `patience`.
    pub(super) fn new(stream: UnixStream, patience: Duration) -> Result<Self, Error> {
        let failed = |e| Error::system("speak with firecracker", e);
        stream.set_read_timeout(Some(patience)).map_err(failed)?;
        stream.set_write_timeout(Some(patience)).map_err(failed)?;
        Ok(Self { stream })
    }

    /// Gives an order.
    pub(super) fn put(&mut self, path: &str, body: &str) -> Result<(), Error> {
        let failed = |e| Error::system(format!("give firecracker its {path}"), e);
        let request = format!(
            "PUT {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        self.stream.write_all(request.as_bytes()).map_err(failed)?;
        let (status, said) = self.answer().map_err(failed)?;
        if (200..300).contains(&status) {
            return Ok(());
        }
        Err(failed(io::Error::other(format!("{status} {said}"))))
    }

    /// Status and body of the answer.
    fn answer(&mut self) -> io::Result<(u16, String)> {
        let mut bytes = Vec::new();
        let mut chunk = [0; 1024];
        loop {
            if let Some(answer) = parse(&bytes) {
                return Ok(answer);
            }
            match self.stream.read(&mut chunk)? {
                0 => return Err(ErrorKind::UnexpectedEof.into()),
                _ if bytes.len() > MOST_ANSWER => return Err(ErrorKind::InvalidData.into()),
                len => bytes.extend_from_slice(&chunk[..len]),
            }
        }
    }
}

/// Status and body of an answer; `None` as long as it is not whole.
fn parse(bytes: &[u8]) -> Option<(u16, String)> {
    let end = bytes.windows(4).position(|w| w == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&bytes[..end]);
    let mut lines = head.lines();
    let status = lines.next()?.split(' ').nth(1)?.parse().unwrap_or(0);
    let len = lines
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .and_then(|(_, value)| value.trim().parse::<usize>().ok())
        .unwrap_or(0);
    let body = bytes.get(end + 4..)?.get(..len)?;
    Some((status, String::from_utf8_lossy(body).into_owned()))
}

/// A JSON string (RFC 8259 §7).
pub(super) fn text(of: &str) -> String {
    let mut json = String::from("\"");
    for char in of.chars() {
        match char {
            '"' | '\\' => json.extend(['\\', char]),
            char if u32::from(char) < 0x20 => json += &format!("\\u{:04x}", u32::from(char)),
            char => json.push(char),
        }
    }
    json.push('"');
    json
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_when_they_are_whole_and_not_before() {
        let answer = b"HTTP/1.1 400 \r\nServer: x\r\nContent-Length: 5\r\n\r\nfault";
        for len in 0..answer.len() {
            assert_eq!(parse(&answer[..len]), None, "{len}");
        }
        assert_eq!(parse(answer), Some((400, "fault".to_owned())));
        let done = b"HTTP/1.1 204 \r\nConnection: keep-alive\r\n\r\n";
        assert_eq!(parse(done), Some((204, String::new())));
    }

    #[test]
    fn strings_are_escaped() {
        assert_eq!(text("a\"b\\c\n"), r#""a\"b\\c\u000a""#);
    }

    #[test]
    fn a_refusal_is_an_error_with_what_was_said() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        theirs
            .write_all(b"HTTP/1.1 400 \r\nContent-Length: 2\r\n\r\nno")
            .unwrap();
        let mut api = Api::new(ours, Duration::from_secs(9)).unwrap();
        let error = api.put("/x", "{}").unwrap_err().to_string();
        assert_eq!(error, "cannot give firecracker its /x: 400 no");
        let mut request = [0; 12];
        theirs.read_exact(&mut request).unwrap();
        assert_eq!(&request, b"PUT /x HTTP/");
    }
}
