//! As much of JSON Schema (draft 2020-12) as the schemas of the records use.

use serde_json::{Map, Value};

/// A JSON Schema.
#[derive(Clone, Debug)]
pub struct Schema(Value);

impl Schema {
    /// The schema that the repository has for the records of `plumb trace` or `plumb ping`.
    pub fn committed(name: &str) -> Self {
        let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/schema");
        let path = format!("{directory}/{name}.json");
        let text = std::fs::read_to_string(&path)
            .unwrap_or_else(|error| panic!("{path} cannot be read: {error}"));
        Self::parse(&text)
    }

    /// Reads a schema.
    pub fn parse(text: &str) -> Self {
        Self(serde_json::from_str(text).expect("a schema is JSON"))
    }

    /// Whether `value` is as the schema says.
    ///
    /// # Errors
    ///
    /// What is wrong, and where.
    pub fn check(&self, value: &Value) -> Result<(), String> {
        self.check_part(&self.0, value, "")
    }

    fn check_part(&self, schema: &Value, value: &Value, at: &str) -> Result<(), String> {
        if schema == &Value::Bool(true) {
            return Ok(());
        }
        let Some(rules) = schema.as_object() else {
            return Err(format!("{at}: the schema allows nothing here"));
        };
        for (keyword, rule) in rules {
            match keyword.as_str() {
                "$ref" => self.check_part(self.resolve(rule), value, at)?,
                "anyOf" => self.count_matches(rule, value, at, |matches| matches > 0)?,
                "oneOf" => self.count_matches(rule, value, at, |matches| matches == 1)?,
                "allOf" => {
                    for part in parts(rule) {
                        self.check_part(part, value, at)?;
                    }
                }
                "type" => check(has_type(rule, value), at, "type", rule, value)?,
                "const" => check(rule == value, at, "const", rule, value)?,
                "enum" => check(parts(rule).contains(value), at, "enum", rule, value)?,
                "minimum" => {
                    let fits = value.as_f64() >= rule.as_f64() || !value.is_number();
                    check(fits, at, "minimum", rule, value)?;
                }
                "maximum" => {
                    let fits = value.as_f64() <= rule.as_f64() || !value.is_number();
                    check(fits, at, "maximum", rule, value)?;
                }
                "format" => check(has_format(rule, value), at, "format", rule, value)?,
                "items" => {
                    for (n, item) in value.as_array().into_iter().flatten().enumerate() {
                        self.check_part(rule, item, &format!("{at}/{n}"))?;
                    }
                }
                "required" => {
                    for name in parts(rule).iter().filter_map(Value::as_str) {
                        if value.is_object() && value.get(name).is_none() {
                            return Err(format!("{at}: {name} is missing"));
                        }
                    }
                }
                "properties" => self.check_properties(rule, value, at)?,
                // A record may have more fields than its schema, but this one has none.
                "$schema" | "$defs" | "title" | "description" | "default" => {}
                unknown => panic!("the schema says {unknown}, which this test cannot check"),
            }
        }
        Ok(())
    }

    /// Checks the fields; one that the schema does not name is a fault of the schema.
    fn check_properties(&self, rule: &Value, value: &Value, at: &str) -> Result<(), String> {
        let none = Map::new();
        for (name, field) in value.as_object().unwrap_or(&none) {
            let at = format!("{at}/{name}");
            match rule.get(name) {
                Some(schema) => self.check_part(schema, field, &at)?,
                None => return Err(format!("{at}: not in the schema")),
            }
        }
        Ok(())
    }

    fn count_matches(
        &self,
        rule: &Value,
        value: &Value,
        at: &str,
        right: impl Fn(usize) -> bool,
    ) -> Result<(), String> {
        let faults: Vec<String> = parts(rule)
            .iter()
            .filter_map(|part| self.check_part(part, value, at).err())
            .collect();
        if right(parts(rule).len() - faults.len()) {
            Ok(())
        } else {
            Err(format!("{at}: no alternative fits: {}", faults.join("; ")))
        }
    }

    fn resolve(&self, reference: &Value) -> &Value {
        let pointer = reference.as_str().and_then(|text| text.strip_prefix('#'));
        pointer
            .and_then(|pointer| self.0.pointer(pointer))
            .unwrap_or_else(|| panic!("the schema has no {reference}"))
    }
}

fn check(fits: bool, at: &str, keyword: &str, rule: &Value, value: &Value) -> Result<(), String> {
    if fits {
        Ok(())
    } else {
        Err(format!("{at}: {value} is not of {keyword} {rule}"))
    }
}

fn parts(rule: &Value) -> &[Value] {
    rule.as_array().expect("a list in the schema")
}

fn has_type(rule: &Value, value: &Value) -> bool {
    if let Value::Array(types) = rule {
        return types.iter().any(|one| has_type(one, value));
    }
    match rule.as_str() {
        Some("null") => value.is_null(),
        Some("boolean") => value.is_boolean(),
        Some("integer") => value.is_i64() || value.is_u64(),
        Some("number") => value.is_number(),
        Some("string") => value.is_string(),
        Some("array") => value.is_array(),
        Some("object") => value.is_object(),
        _ => panic!("the schema says type {rule}"),
    }
}

fn has_format(rule: &Value, value: &Value) -> bool {
    let number = value.as_i64();
    match (rule.as_str(), value) {
        (_, Value::Null) => true,
        (Some("ip"), Value::String(text)) => text.parse::<core::net::IpAddr>().is_ok(),
        (Some("date-time"), Value::String(text)) => text.parse::<plumb_record::WallTime>().is_ok(),
        (Some("uint64" | "uint"), _) => value.is_u64(),
        (Some("uint32"), _) => number.is_some_and(|n| u32::try_from(n).is_ok()),
        (Some("uint16"), _) => number.is_some_and(|n| u16::try_from(n).is_ok()),
        (Some("uint8"), _) => number.is_some_and(|n| u8::try_from(n).is_ok()),
        (Some("int16"), _) => number.is_some_and(|n| i16::try_from(n).is_ok()),
        _ => panic!("the schema says format {rule} of {value}"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_keyword_refuses_what_it_should() {
        let schema = Schema::parse(
            r##"{"anyOf": [{"$ref": "#/$defs/A"}], "$defs": {"A": {
                "type": "object",
                "properties": {
                    "n": {"type": ["integer", "null"], "format": "uint8", "minimum": 1, "maximum": 9},
                    "s": {"oneOf": [{"const": "x"}, {"enum": ["y", "z"]}]},
                    "l": {"type": "array", "items": {"format": "ip"}}
                },
                "required": ["n"]
            }}}"##,
        );
        for right in [
            json!({"n": 1}),
            json!({"n": null, "s": "z"}),
            json!({"n": 9, "l": ["::1", "5.0.0.1"]}),
        ] {
            assert_eq!(schema.check(&right), Ok(()));
        }
        for wrong in [
            json!({}),
            json!({"n": 0}),
            json!({"n": 10}),
            json!({"n": 1.5}),
            json!({"n": "1"}),
            json!({"n": 1, "s": "w"}),
            json!({"n": 1, "l": ["5.0.0"]}),
            json!({"n": 1, "more": 1}),
            json!([]),
        ] {
            assert!(schema.check(&wrong).is_err(), "{wrong}");
        }
    }
}
