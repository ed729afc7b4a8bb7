//! As much of HTTP/1.1 (RFC 9112) as a scrape takes. Pure: bytes in, bytes out.

/// Longest head of a request.
pub(super) const MOST_LEN: usize = 8 << 10;

/// What a request is answered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// The metrics, or for HEAD only what is said of them.
    Metrics { head: bool },
    /// A line that says where they are.
    Index { head: bool },
    /// A refusal.
    Refusal(u16, &'static str),
}

/// What the beginning of a connection asks for; `None` as long as more has to come.
pub(super) fn read(bytes: &[u8]) -> Option<Answer> {
    const BAD: Answer = Answer::Refusal(400, "Bad Request");
    // RFC 9112 §2.2: empty lines before the request are ignored, and a lone LF may end a line.
    let start = bytes.iter().position(|b| !matches!(b, b'\r' | b'\n'));
    let bytes = bytes.get(start?..).unwrap_or_default();
    let Some(end) = end_of_head(bytes) else {
        let too_long = bytes.len() >= MOST_LEN;
        return too_long.then_some(Answer::Refusal(431, "Request Header Fields Too Large"));
    };
    let Ok(head) = core::str::from_utf8(bytes.get(..end).unwrap_or_default()) else {
        return Some(BAD);
    };
    let line = head.lines().next().unwrap_or_default();
    let mut words = line.split(' ');
    let (Some(method), Some(target), Some(version), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Some(BAD);
    };
    if !matches!(version, "HTTP/1.0" | "HTTP/1.1") {
        let other = version.starts_with("HTTP/");
        return Some(if other {
            Answer::Refusal(505, "HTTP Version Not Supported")
        } else {
            BAD
        });
    }
    let head = match method {
        "GET" => false,
        "HEAD" => true,
        _ => return Some(Answer::Refusal(405, "Method Not Allowed")),
    };
    // A proxy's form has the authority before the path.
    let path = match target.strip_prefix("http://") {
        Some(rest) => rest.find('/').and_then(|at| rest.get(at..)).unwrap_or("/"),
        None => target,
    };
    let path = path.split(['?', '#']).next().unwrap_or_default();
    Some(match path {
        "/metrics" => Answer::Metrics { head },
        "/" => Answer::Index { head },
        _ if path.starts_with('/') => Answer::Refusal(404, "Not Found"),
        _ => BAD,
    })
}

/// Where the empty line after the fields is.
fn end_of_head(bytes: &[u8]) -> Option<usize> {
    let mut lines = 0;
    for line in bytes.split_inclusive(|b| *b == b'\n') {
        if matches!(line, b"\n" | b"\r\n") {
            return Some(lines);
        }
        lines += line.len();
    }
    None
}

/// A whole response, after which the connection is closed.
pub(super) fn respond(answer: Answer, media_type: &str, page: impl FnOnce() -> String) -> Vec<u8> {
    let (code, reason, media_type, body, head) = match answer {
        Answer::Metrics { head } => (200, "OK", media_type, page(), head),
        Answer::Index { head } => {
            let line = "The metrics are at /metrics.\n".to_owned();
            (200, "OK", "text/plain; charset=utf-8", line, head)
        }
        Answer::Refusal(code, reason) => {
            let line = format!("{reason}\n");
            (code, reason, "text/plain; charset=utf-8", line, false)
        }
    };
    let allow = if code == 405 {
        "Allow: GET, HEAD\r\n"
    } else {
        ""
    };
    let len = body.len();
    let mut response = format!(
        "HTTP/1.1 {code} {reason}\r\nContent-Type: {media_type}\r\nContent-Length: {len}\r\n\
         {allow}Connection: close\r\n\r\n"
    );
    if !head {
        response.push_str(&body);
    }
    response.into_bytes()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn answer(text: &str) -> Option<Answer> {
        read(text.as_bytes())
    }

    #[test]
    fn a_scrape_gets_the_metrics() {
        let metrics = Some(Answer::Metrics { head: false });
        for request in [
            "GET /metrics HTTP/1.1\r\nHost: a\r\nAccept: */*\r\n\r\n",
            "GET /metrics HTTP/1.0\r\n\r\n",
            "\r\nGET /metrics?a=b HTTP/1.1\nHost: a\n\n",
            "GET http://127.0.0.1:9/metrics HTTP/1.1\r\n\r\n",
        ] {
            assert_eq!(answer(request), metrics, "{request:?}");
        }
        let head = "HEAD /metrics HTTP/1.1\r\n\r\n";
        assert_eq!(answer(head), Some(Answer::Metrics { head: true }));
        assert_eq!(
            answer("GET / HTTP/1.1\r\n\r\n"),
            Some(Answer::Index { head: false })
        );
    }

    #[test]
    fn what_is_not_whole_waits_and_what_is_too_long_does_not() {
        let whole = "GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n";
        for len in 0..whole.len() {
            assert_eq!(answer(&whole[..len]), None, "{len}");
        }
        let long = format!("GET /metrics HTTP/1.1\r\nA: {}", "x".repeat(MOST_LEN));
        assert_eq!(
            answer(&long),
            Some(Answer::Refusal(431, "Request Header Fields Too Large"))
        );
    }

    #[test]
    fn everything_else_is_refused() {
        for (request, code) in [
            ("POST /metrics HTTP/1.1\r\n\r\n", 405),
            ("GET /metrics/ HTTP/1.1\r\n\r\n", 404),
            ("GET /../etc/passwd HTTP/1.1\r\n\r\n", 404),
            ("GET metrics HTTP/1.1\r\n\r\n", 400),
            ("GET  /metrics HTTP/1.1\r\n\r\n", 400),
            ("GET /metrics\r\n\r\n", 400),
            ("GET /metrics HTTP/2.0\r\n\r\n", 505),
            ("\x16\x03\x01\r\n\r\n", 400),
        ] {
            let Some(Answer::Refusal(given, _)) = answer(request) else {
                panic!("{request:?}");
            };
            assert_eq!(given, code, "{request:?}");
        }
        assert_eq!(
            read(b"GET /\xff HTTP/1.1\r\n\r\n"),
            Some(Answer::Refusal(400, "Bad Request"))
        );
    }

    #[test]
    fn a_response_says_how_long_it_is_and_a_head_has_no_body() {
        let of = |answer| {
            let bytes = respond(answer, "text/x", || "page\n".to_owned());
            String::from_utf8(bytes).unwrap()
        };
        let whole = of(Answer::Metrics { head: false });
        assert!(
            whole.starts_with("HTTP/1.1 200 OK\r\nContent-Type: text/x\r\nContent-Length: 5\r\n")
        );
        assert!(whole.ends_with("\r\n\r\npage\n"));
        let head = of(Answer::Metrics { head: true });
        assert!(head.contains("Content-Length: 5\r\n") && head.ends_with("\r\n\r\n"));
        let refusal = of(Answer::Refusal(405, "Method Not Allowed"));
        assert!(refusal.contains("Allow: GET, HEAD\r\n"), "{refusal}");
    }

    proptest! {
        #[test]
        fn nothing_that_is_sent_makes_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&bytes);
            let text = [b"GET ".as_slice(), &bytes, b" HTTP/1.1\r\n\r\n"].concat();
            let _ = read(&text);
        }
    }
}
