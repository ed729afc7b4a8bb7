//! A line that is put together from many short pieces.

use std::io;

/// Bytes that are appended to. Unlike with a `Vec`, room for all of a piece is made at once, and short pieces
/// are copied where they are appended, without a call: a record of NDJSON is some hundred of them.
#[derive(Debug, Default)]
pub(crate) struct Line {
    /// What is written, and room for more.
    bytes: Vec<u8>,
    len: usize,
}

impl Line {
    pub(crate) const fn clear(&mut self) {
        self.len = 0;
    }

    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// The next `len` bytes, to be written over.
    #[inline]
    pub(crate) fn room(&mut self, len: usize) -> &mut [u8] {
        let end = self.len + len;
        if end > self.bytes.len() {
            self.grow(end);
        }
        let room = &mut self.bytes[self.len..end];
        self.len = end;
        room
    }

    #[cold]
    fn grow(&mut self, to: usize) {
        self.bytes.resize(to.next_power_of_two().max(2048), 0);
    }

    #[inline]
    pub(crate) fn push(&mut self, byte: u8) {
        self.room(1)[0] = byte;
    }

    #[inline]
    pub(crate) fn push_all(&mut self, piece: &[u8]) {
        copy(self.room(piece.len()), piece);
    }
}

impl io::Write for Line {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        self.push_all(piece);
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Copies as much as there is of both, which are of the same length.
#[inline]
pub(crate) fn copy(into: &mut [u8], from: &[u8]) {
    match from.len() {
        len if len > 32 => into.copy_from_slice(from),
        16.. => ends::<16>(into, from),
        8.. => ends::<8>(into, from),
        4.. => ends::<4>(into, from),
        _ => {
            for (to, byte) in into.iter_mut().zip(from) {
                *to = *byte;
            }
        }
    }
}

/// The first and the last bytes, which are all where there are not more than twice as many.
#[inline]
fn ends<const N: usize>(into: &mut [u8], from: &[u8]) {
    if let (Some(to), Some(begin)) = (into.first_chunk_mut::<N>(), from.first_chunk()) {
        *to = *begin;
    }
    if let (Some(to), Some(end)) = (into.last_chunk_mut::<N>(), from.last_chunk()) {
        *to = *end;
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn pieces_of_every_length_are_copied_whole() {
        for len in 0..200_u8 {
            let piece: Vec<u8> = (0..len).collect();
            let mut into = vec![255; piece.len()];
            copy(&mut into, &piece);
            assert_eq!(into, piece);
        }
    }

    proptest! {
        #[test]
        fn a_line_is_its_pieces_one_behind_the_other(
            before in proptest::collection::vec(any::<u8>(), 0..50),
            pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..900), 0..9),
        ) {
            let mut line = Line::default();
            line.write_all(&before).unwrap();
            line.clear();
            for piece in &pieces {
                line.push_all(piece);
                line.push(b',');
            }
            let expected = pieces.iter().flat_map(|piece| piece.iter().chain(b","));
            prop_assert_eq!(line.as_bytes(), expected.copied().collect::<Vec<_>>());
            prop_assert_eq!(line.len(), line.as_bytes().len());
        }
    }
}
