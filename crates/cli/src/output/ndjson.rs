//! Records as lines of JSON (RFC 8259), as `serde_json` writes them, in half its time: it looks at
//! every byte of every name of a field for what must be escaped, and these are known.

use core::fmt::Display;
use std::io::{self, Write};

use serde::Serialize;
use serde::ser::{self, Error as _, Serializer};

use super::line::{Line, copy};

/// Writes a record as a line.
pub(crate) fn write_record(out: &mut impl Write, record: &impl Serialize) -> io::Result<()> {
    let mut line = Line::default();
    line_of(record, &mut line)?;
    out.write_all(line.as_bytes())
}

/// Appends a record and a line feed.
pub(crate) fn line_of(record: &impl Serialize, into: &mut Line) -> io::Result<()> {
    record.serialize(&mut Json(into)).map_err(io::Error::from)?;
    into.push(b'\n');
    Ok(())
}

/// Writes values where they belong.
struct Json<'a>(&'a mut Line);

type Error = serde_json::Error;

impl Json<'_> {
    fn raw(&mut self, text: &str) {
        self.0.push_all(text.as_bytes());
    }

    fn text(&mut self, text: &str) {
        let bytes = text.as_bytes();
        if !bytes.iter().fold(false, |any, byte| any | escapes(*byte)) {
            self.quoted(bytes);
            return;
        }
        self.0.push(b'"');
        let mut done = 0;
        for (at, &byte) in bytes.iter().enumerate() {
            if !escapes(byte) {
                continue;
            }
            self.0.push_all(&bytes[done..at]);
            done = at + 1;
            let short = match byte {
                b'"' | b'\\' => byte,
                0x08 => b'b',
                0x09 => b't',
                0x0a => b'n',
                0x0c => b'f',
                0x0d => b'r',
                _ => 0,
            };
            if short == 0 {
                let hex = |digit: u8| b"0123456789abcdef"[usize::from(digit & 15)];
                let escape = [b'\\', b'u', b'0', b'0', hex(byte >> 4), hex(byte)];
                self.0.push_all(&escape);
            } else {
                self.0.push_all(&[b'\\', short]);
            }
        }
        self.0.push_all(&bytes[done..]);
        self.0.push(b'"');
    }

    /// A name that this program chose: nothing in it is to be escaped.
    fn name(&mut self, name: &'static str) {
        debug_assert!(stands_for_itself(name), "{name}");
        self.quoted(name.as_bytes());
    }

    fn quoted(&mut self, text: &[u8]) {
        if let [begin, middle @ .., end] = self.0.room(text.len() + 2) {
            *begin = b'"';
            copy(middle, text);
            *end = b'"';
        }
    }

    fn integer(&mut self, number: impl itoa::Integer) {
        self.raw(itoa::Buffer::new().format(number));
    }
}

/// Whether nothing in a name is to be escaped.
fn stands_for_itself(name: &str) -> bool {
    name.bytes()
        .all(|b| b.is_ascii_graphic() && b != b'"' && b != b'\\')
}

/// Whether a byte of a text cannot stand for itself.
const fn escapes(byte: u8) -> bool {
    (byte < 0x20) | (byte == b'"') | (byte == b'\\')
}

/// An array or an object whose beginning is written.
struct Several<'a> {
    into: &'a mut Line,
    is_first: bool,
    /// What ends it.
    end: &'static str,
}

impl<'a> Several<'a> {
    fn of(json: Json<'a>, begin: &str, end: &'static str) -> Self {
        json.0.push_all(begin.as_bytes());
        Self {
            into: json.0,
            is_first: true,
            end,
        }
    }

    fn next(&mut self) -> Json<'_> {
        if !core::mem::take(&mut self.is_first) {
            self.into.push(b',');
        }
        Json(self.into)
    }

    fn field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Result<(), Error> {
        let bytes = name.as_bytes();
        if core::mem::take(&mut self.is_first) {
            Json(self.into).name(name);
            self.into.push(b':');
        } else if let [comma, begin, middle @ .., end, colon] = self.into.room(bytes.len() + 4) {
            debug_assert!(stands_for_itself(name), "{name}");
            (*comma, *begin, *end, *colon) = (b',', b'"', b'"', b':');
            copy(middle, bytes);
        }
        value.serialize(&mut Json(self.into))
    }

    fn finish(self) -> Result<(), Error> {
        self.into.push_all(self.end.as_bytes());
        Ok(())
    }
}

impl<'a> Serializer for &'a mut Json<'_> {
    type Ok = ();
    type Error = Error;
    type SerializeSeq = Several<'a>;
    type SerializeTuple = Several<'a>;
    type SerializeTupleStruct = Several<'a>;
    type SerializeTupleVariant = Several<'a>;
    type SerializeMap = Several<'a>;
    type SerializeStruct = Several<'a>;
    type SerializeStructVariant = Several<'a>;

    fn serialize_bool(self, v: bool) -> Result<(), Error> {
        self.raw(if v { "true" } else { "false" });
        Ok(())
    }

    fn serialize_i8(self, v: i8) -> Result<(), Error> {
        self.integer(v);
        Ok(())
    }

    fn serialize_i16(self, v: i16) -> Result<(), Error> {
        self.integer(v);
        Ok(())
    }

    fn serialize_i32(self, v: i32) -> Result<(), Error> {
        self.integer(v);
        Ok(())
    }

    fn serialize_i64(self, v: i64) -> Result<(), Error> {
        self.integer(v);
        Ok(())
    }

    fn serialize_i128(self, v: i128) -> Result<(), Error> {
        self.integer(v);
        Ok(())
    }

    fn serialize_u8(self, v: u8) -> Result<(), Error> {
        self.serialize_u64(v.into())
    }

    fn serialize_u16(self, v: u16) -> Result<(), Error> {
        self.serialize_u64(v.into())
    }

    fn serialize_u32(self, v: u32) -> Result<(), Error> {
        self.serialize_u64(v.into())
    }

    fn serialize_u64(self, v: u64) -> Result<(), Error> {
        match u8::try_from(v) {
            // Most that is counted did not happen, or once.
            Ok(digit @ 0..=9) => self.0.push(b'0' + digit),
            _ => self.integer(v),
        }
        Ok(())
    }

    fn serialize_u128(self, v: u128) -> Result<(), Error> {
        self.integer(v);
        Ok(())
    }

    fn serialize_f32(self, v: f32) -> Result<(), Error> {
        serde_json::to_writer(&mut *self.0, &v)
    }

    fn serialize_f64(self, v: f64) -> Result<(), Error> {
        serde_json::to_writer(&mut *self.0, &v)
    }

    fn serialize_char(self, v: char) -> Result<(), Error> {
        self.text(v.encode_utf8(&mut [0; 4]));
        Ok(())
    }

    fn serialize_str(self, v: &str) -> Result<(), Error> {
        self.text(v);
        Ok(())
    }

    fn serialize_bytes(self, v: &[u8]) -> Result<(), Error> {
        v.serialize(self)
    }

    fn serialize_none(self) -> Result<(), Error> {
        self.serialize_unit()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Error> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<(), Error> {
        self.raw("null");
        Ok(())
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<(), Error> {
        self.serialize_unit()
    }

    fn serialize_unit_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
    ) -> Result<(), Error> {
        self.name(variant);
        Ok(())
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<(), Error> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<(), Error> {
        let mut object = Several::of(Json(self.0), "{", "}");
        object.field(variant, value)?;
        object.finish()
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Several<'a>, Error> {
        Ok(Several::of(Json(self.0), "[", "]"))
    }

    fn serialize_tuple(self, _: usize) -> Result<Several<'a>, Error> {
        self.serialize_seq(None)
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Several<'a>, Error> {
        self.serialize_seq(None)
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Several<'a>, Error> {
        self.raw("{");
        self.name(variant);
        Ok(Several::of(Json(self.0), ":[", "]}"))
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Several<'a>, Error> {
        Ok(Several::of(Json(self.0), "{", "}"))
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Several<'a>, Error> {
        self.serialize_map(None)
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Several<'a>, Error> {
        self.raw("{");
        self.name(variant);
        Ok(Several::of(Json(self.0), ":{", "}}"))
    }

    fn collect_str<T: Display + ?Sized>(self, value: &T) -> Result<(), Error> {
        self.text(&value.to_string());
        Ok(())
    }
}

impl ser::SerializeSeq for Several<'_> {
    type Ok = ();
    type Error = Error;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        value.serialize(&mut self.next())
    }

    fn end(self) -> Result<(), Error> {
        self.finish()
    }
}

impl ser::SerializeTuple for Several<'_> {
    type Ok = ();
    type Error = Error;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        value.serialize(&mut self.next())
    }

    fn end(self) -> Result<(), Error> {
        self.finish()
    }
}

impl ser::SerializeTupleStruct for Several<'_> {
    type Ok = ();
    type Error = Error;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        value.serialize(&mut self.next())
    }

    fn end(self) -> Result<(), Error> {
        self.finish()
    }
}

impl ser::SerializeTupleVariant for Several<'_> {
    type Ok = ();
    type Error = Error;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        value.serialize(&mut self.next())
    }

    fn end(self) -> Result<(), Error> {
        self.finish()
    }
}

impl ser::SerializeMap for Several<'_> {
    type Ok = ();
    type Error = Error;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Error> {
        let json = self.next();
        let at = json.0.len();
        key.serialize(&mut Json(&mut *json.0))?;
        // What is no text in itself has no way to be a name here; no record has such maps.
        if json.0.as_bytes().get(at) == Some(&b'"') {
            Ok(())
        } else {
            Err(Error::custom("a name must be text"))
        }
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        self.into.push(b':');
        value.serialize(&mut Json(self.into))
    }

    fn end(self) -> Result<(), Error> {
        self.finish()
    }
}

impl ser::SerializeStruct for Several<'_> {
    type Ok = ();
    type Error = Error;

    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        name: &'static str,
        value: &T,
    ) -> Result<(), Error> {
        self.field(name, value)
    }

    fn end(self) -> Result<(), Error> {
        self.finish()
    }
}

impl ser::SerializeStructVariant for Several<'_> {
    type Ok = ();
    type Error = Error;

    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        name: &'static str,
        value: &T,
    ) -> Result<(), Error> {
        self.field(name, value)
    }

    fn end(self) -> Result<(), Error> {
        self.finish()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::super::fixtures;
    use super::*;

    fn written(record: &impl Serialize) -> String {
        let mut out = Vec::new();
        write_record(&mut out, record).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[track_caller]
    fn same(record: &impl Serialize) {
        let expected = serde_json::to_string(record).unwrap() + "\n";
        assert_eq!(written(record), expected);
    }

    #[derive(Serialize)]
    enum Kind {
        Unit,
        New(u8),
        Tuple(i64, Option<bool>),
        Struct { first: f64, second: char },
    }

    #[derive(Serialize)]
    struct Pair(u128, i128);

    #[test]
    fn every_kind_of_value_is_as_serde_json_writes_it() {
        same(&Kind::Unit);
        same(&Kind::New(3));
        same(&Kind::Tuple(i64::MIN, None));
        same(&Kind::Struct {
            first: -0.125,
            second: '"',
        });
        same(&(Pair(u128::MAX, i128::MIN), (), [0_u8; 0], Some(1_u64)));
        same(&[f64::NAN, 1e300, 1.0]);
        same(&BTreeMap::from([("a\"b", 1), ("c", 2)]));
        same(&BTreeMap::<&str, i8>::new());
        same(&[1.5_f32]);
        for (_, trace) in fixtures::all() {
            same(&trace);
        }
    }

    #[test]
    fn a_name_that_is_no_text_is_refused() {
        assert!(write_record(&mut Vec::new(), &BTreeMap::from([(1, 2)])).is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_as_serde_json_writes_it(text in any::<String>(), low in 0_u8..128) {
            same(&text);
            same(&format!("{text}{}{text}", char::from(low)));
        }
    }
}
