//! Words, numbers, addresses and signs of an expression.

use core::net::Ipv6Addr;

use super::Error;

/// A piece of an expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token {
    /// A keyword or a name; behind a backslash it is no keyword.
    Word { text: String, escaped: bool },
    /// A number, decimal or hexadecimal.
    Number(u32),
    /// One to four numbers with dots between: the beginning of an IPv4 address.
    Dotted(Vec<u8>),
    /// An IPv6 address.
    V6(Ipv6Addr),
    /// An Ethernet address.
    Mac([u8; 6]),
    /// An operator or a parenthesis.
    Sign(&'static str),
}

/// A piece and where it begins, from 1 on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Placed {
    pub(super) token: Token,
    pub(super) at: usize,
}

/// Longer ones first.
const SIGNS: [&str; 26] = [
    "&&", "||", ">=", "<=", "==", "!=", "<<", ">>", "(", ")", "[", "]", "!", "<", ">", "=", "+",
    "-", "*", "/", "%", "&", "|", "^", ":", ",",
];

/// Takes a text apart.
pub(super) fn tokens(text: &str) -> Result<Vec<Placed>, Error> {
    let mut found = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start();
        let at = text.len() - rest.len() + 1;
        let Some(first) = rest.chars().next() else {
            return Ok(found);
        };
        let (token, len) = if first.is_ascii_alphanumeric() || first == ':' || first == '\\' {
            word(rest, at)?
        } else {
            sign(rest, at)?
        };
        found.push(Placed { token, at });
        rest = &rest[len..];
    }
}

fn sign(rest: &str, at: usize) -> Result<(Token, usize), Error> {
    let sign = SIGNS.iter().find(|sign| rest.starts_with(**sign));
    let sign = sign.ok_or_else(|| Error::Syntax {
        what: format!("{:?} means nothing", rest.chars().next().unwrap_or(' ')),
        at,
    })?;
    Ok((Token::Sign(sign), sign.len()))
}

fn word(rest: &str, at: usize) -> Result<(Token, usize), Error> {
    let end = |is_part: fn(char) -> bool| rest.find(|c: char| !is_part(c)).unwrap_or(rest.len());
    // An address of Ethernet or IPv6 has at least two colons; a single one is a sign.
    let len = end(|c| c.is_ascii_hexdigit() || matches!(c, ':' | '.'));
    let candidate = &rest[..len];
    if candidate.matches(':').count() >= 2 {
        let token = mac(candidate).map(Token::Mac);
        let token = token.or_else(|| candidate.parse().ok().map(Token::V6));
        let token = token.ok_or_else(|| Error::Syntax {
            what: format!("{candidate:?} is no address"),
            at,
        })?;
        return Ok((token, len));
    }
    if rest.starts_with(':') {
        return sign(rest, at);
    }
    let escaped = rest.starts_with('\\');
    let body = rest.strip_prefix('\\').unwrap_or(rest);
    let len = body
        .find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')))
        .unwrap_or(body.len());
    // A word does not end with a hyphen: that is a minus.
    let word = body[..len].trim_end_matches(['-', '_']);
    if word.is_empty() {
        return Err(Error::Syntax {
            what: "a name was expected behind the backslash".to_owned(),
            at,
        });
    }
    let token = if escaped { None } else { number(word, at)? };
    let token = token.unwrap_or_else(|| Token::Word {
        text: word.to_owned(),
        escaped,
    });
    Ok((token, word.len() + usize::from(escaped)))
}

/// What begins with a digit and is no name.
fn number(word: &str, at: usize) -> Result<Option<Token>, Error> {
    let too_large = || Error::Syntax {
        what: format!("{word} is too large"),
        at,
    };
    if let Some(hex) = word.strip_prefix("0x").or(word.strip_prefix("0X")) {
        if hex.bytes().all(|byte| byte.is_ascii_hexdigit()) && !hex.is_empty() {
            let number = u32::from_str_radix(hex, 16).map_err(|_| too_large())?;
            return Ok(Some(Token::Number(number)));
        }
        return Ok(None);
    }
    if word.bytes().all(|byte| byte.is_ascii_digit()) {
        let radix = if word.len() > 1 && word.starts_with('0') {
            8
        } else {
            10
        };
        let number = u32::from_str_radix(word, radix).map_err(|_| Error::Syntax {
            what: format!("{word} is no number of 32 bits"),
            at,
        })?;
        return Ok(Some(Token::Number(number)));
    }
    if word
        .bytes()
        .all(|byte| byte.is_ascii_digit() || byte == b'.')
    {
        let parts: Option<Vec<u8>> = word.split('.').map(|part| part.parse().ok()).collect();
        let parts = parts.filter(|parts| parts.len() <= 4);
        let parts = parts.ok_or_else(|| Error::Syntax {
            what: format!("{word:?} is no IPv4 address"),
            at,
        })?;
        return Ok(Some(Token::Dotted(parts)));
    }
    Ok(None)
}

fn mac(text: &str) -> Option<[u8; 6]> {
    let mut mac = [0; 6];
    let mut parts = text.split(':');
    for byte in &mut mac {
        let part = parts.next().filter(|part| (1..=2).contains(&part.len()))?;
        *byte = u8::from_str_radix(part, 16).ok()?;
    }
    parts.next().is_none().then_some(mac)
}
