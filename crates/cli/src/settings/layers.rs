//! What the environment and the files say, and where each value came from.

use core::fmt;
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use clap::{Arg, ArgAction};
use toml::de::{DeTable, DeValue};

use super::nearest::nearest;
use crate::exit::Failure;

/// The commands whose options can be set in files and in the environment.
pub const SECTIONS: [&str; 2] = ["trace", "ping"];

/// Where settings are looked for.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// Names and values of `PLUMB_*`.
    pub environment: Vec<(String, String)>,
    /// Files, the strongest first; those that do not exist are skipped.
    pub files: Vec<PathBuf>,
}

impl Sources {
    /// Those of this process.
    pub fn of_process() -> Self {
        let user = std::env::var_os("XDG_CONFIG_HOME")
            .filter(|d| Path::new(d).is_absolute())
            .map(PathBuf::from)
            .or_else(|| std::env::home_dir().map(|home| home.join(".config")));
        let mut files = vec![PathBuf::from("plumb.toml")];
        files.extend(user.map(|dir| dir.join("plumb/plumb.toml")));
        files.push(PathBuf::from("/etc/plumb/plumb.toml"));
        Self {
            environment: std::env::vars_os()
                .filter_map(|(name, value)| {
                    let name = name.into_string().ok()?;
                    name.starts_with(PREFIX)
                        .then(|| (name, value.to_string_lossy().into_owned()))
                })
                .collect(),
            files,
        }
    }
}

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Built in.
    Default,
    /// An environment variable.
    Environment(String),
    /// A line of a file.
    File(PathBuf, usize),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Environment(name) => f.write_str(name),
            Self::File(path, line) => write!(f, "{}:{line}", path.display()),
        }
    }
}

/// A value and where it came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// The value as it would be written on the command line; `None` if it is chosen at run time.
    pub value: Option<String>,
    /// Where it came from.
    pub origin: Origin,
}

/// The settings of all sections from all sources, each checked.
#[derive(Clone, Debug, Default)]
pub struct Layers {
    values: BTreeMap<(String, String), Setting>,
}

impl Layers {
    /// Reads `sources`.
    ///
    /// # Errors
    ///
    /// When a file cannot be read, or holds a key or a value that plumb does not know.
    pub fn load(sources: &Sources) -> Result<Self, Failure> {
        let mut layers = Self::default();
        for (name, value) in &sources.environment {
            layers.add_variable(name, value)?;
        }
        for path in &sources.files {
            match std::fs::read_to_string(path) {
                Ok(text) => layers.add_file(path, &text)?,
                // The home of another user, as with `sudo -u`, is as good as none.
                Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::PermissionDenied) => {
                }
                Err(e) => return Err(Failure::usage(format!("{}: {e}", path.display()))),
            }
        }
        Ok(layers)
    }

    /// The arguments that say the same as the layers do about `section`.
    pub fn arguments(&self, section: &str) -> Vec<String> {
        self.values
            .iter()
            .filter(|((of, _), _)| of == section)
            .filter_map(|((_, key), setting)| argument(section, key, setting.value.as_deref()?))
            .collect()
    }

    /// Every setting of `section` in the order of the help: key and value.
    pub fn all(&self, section: &str) -> Vec<(String, Setting)> {
        options(section)
            .map(|arg| {
                let key = key_of(&arg);
                let set = self.values.get(&(section.to_owned(), key.clone()));
                let setting = set.cloned().unwrap_or_else(|| Setting {
                    value: default_of(&arg),
                    origin: Origin::Default,
                });
                (key, setting)
            })
            .collect()
    }

    fn add_variable(&mut self, name: &str, value: &str) -> Result<(), Failure> {
        let origin = Origin::Environment(name.to_owned());
        let known: Vec<(&str, String, String)> = SECTIONS
            .iter()
            .flat_map(|&section| {
                options(section).map(move |arg| {
                    let key = key_of(&arg);
                    let variable = format!("{PREFIX}{section}_{key}")
                        .to_uppercase()
                        .replace('-', "_");
                    (section, key, variable)
                })
            })
            .collect();
        if let Some((section, key, _)) = known.iter().find(|(_, _, v)| v == name) {
            return self.add(section, key, value.to_owned(), origin);
        }
        if NOT_SETTINGS.contains(&name) {
            return Ok(());
        }
        Err(unknown(
            "environment",
            name,
            known.iter().map(|(_, _, v)| v.as_str()),
        ))
    }

    fn add_file(&mut self, path: &Path, text: &str) -> Result<(), Failure> {
        let at = |offset: usize| {
            let line = text[..offset.min(text.len())].matches('\n').count() + 1;
            Origin::File(path.to_owned(), line)
        };
        let table = DeTable::parse(text).map_err(|e| {
            let origin = at(e.span().map_or(0, |s| s.start));
            Failure::usage(format!("{origin}: {}", e.message().replace('\n', ", ")))
        })?;
        for (section, content) in table.get_ref() {
            let origin = at(section.span().start);
            let Some(&known) = SECTIONS.iter().find(|s| **s == section.get_ref()) else {
                return Err(unknown(&origin.to_string(), section.get_ref(), SECTIONS));
            };
            let DeValue::Table(keys) = content.get_ref() else {
                return Err(Failure::usage(format!(
                    "{origin}: {known} must be a section: [{known}]"
                )));
            };
            for (key, value) in keys {
                let origin = at(key.span().start);
                let name: &str = key.get_ref();
                if options(known).all(|arg| key_of(&arg) != name) {
                    let keys: Vec<String> = options(known).map(|arg| key_of(&arg)).collect();
                    let keys = keys.iter().map(String::as_str);
                    return Err(unknown(&origin.to_string(), name, keys));
                }
                let value = scalar(value.get_ref()).ok_or_else(|| {
                    Failure::usage(format!(
                        "{origin}: {name} must be a string, a number or a boolean"
                    ))
                })?;
                self.add(known, name, value, origin)?;
            }
        }
        Ok(())
    }

    /// Adds a value unless a stronger layer has set the key, after checking it in any case.
    fn add(
        &mut self,
        section: &str,
        key: &str,
        value: String,
        origin: Origin,
    ) -> Result<(), Failure> {
        check(section, key, &value).map_err(|e| Failure::usage(format!("{origin}: {e}")))?;
        let value = if is_flag(section, key) {
            (boolean(&value) == Some(true)).to_string()
        } else {
            value
        };
        self.values
            .entry((section.to_owned(), key.to_owned()))
            .or_insert(Setting {
                value: Some(value),
                origin,
            });
        Ok(())
    }
}

const PREFIX: &str = "PLUMB_";

/// Variables that plumb exports to the commands it runs, and those that say where things are.
const NOT_SETTINGS: [&str; 7] = [
    "PLUMB_LAB",
    "PLUMB_LAB_TARGETS",
    "PLUMB_LAB_BRIDGE",
    "PLUMB_LAB_ADDRESS",
    "PLUMB_LAB_GATEWAY",
    "PLUMB_STATE",
    "PLUMB_FIRECRACKER",
];

/// Options that make sense for one run only.
const PER_RUN: [&str; 10] = [
    "help", "targets", "icmp", "udp", "tcp", "dry-run", "output", "pcap", "live", "report",
];

/// The options of a command that can be set.
fn options(section: &str) -> impl Iterator<Item = Arg> + use<> {
    let command = crate::verb(section);
    let arguments: Vec<Arg> = command
        .iter()
        .flat_map(clap::Command::get_arguments)
        .filter(|arg| arg.get_long().is_some_and(|long| !PER_RUN.contains(&long)))
        .cloned()
        .collect();
    arguments.into_iter()
}

fn key_of(arg: &Arg) -> String {
    arg.get_long().unwrap_or_default().to_owned()
}

fn default_of(arg: &Arg) -> Option<String> {
    if matches!(arg.get_action(), ArgAction::SetTrue) {
        return Some("false".into());
    }
    arg.get_default_values()
        .first()
        .map(|v| v.to_string_lossy().into_owned())
}

fn is_flag(section: &str, key: &str) -> bool {
    options(section)
        .any(|arg| key_of(&arg) == key && matches!(arg.get_action(), ArgAction::SetTrue))
}

/// Checks a value with the parser of its option.
fn check(section: &str, key: &str, value: &str) -> Result<(), String> {
    if is_flag(section, key) {
        return match boolean(value) {
            Some(_) => Ok(()),
            None => Err(format!("{key} must be true or false, not '{value}'")),
        };
    }
    let argument = format!("--{key}={value}");
    match crate::command().try_get_matches_from(["plumb", section, &argument, "target"]) {
        Ok(_) => Ok(()),
        Err(e) => {
            let text = e.to_string();
            let mut lines = text.lines();
            let what = lines.next().unwrap_or_default();
            let what = what.strip_prefix("error: ").unwrap_or(what);
            let values = lines.next().unwrap_or_default().trim();
            Err(format!("{what} {values}").trim_end().to_owned())
        }
    }
}

fn boolean(value: &str) -> Option<bool> {
    match value {
        "true" | "1" | "yes" | "on" => Some(true),
        "false" | "0" | "no" | "off" | "" => Some(false),
        _ => None,
    }
}

fn argument(section: &str, key: &str, value: &str) -> Option<String> {
    if is_flag(section, key) {
        (boolean(value) == Some(true)).then(|| format!("--{key}"))
    } else {
        Some(format!("--{key}={value}"))
    }
}

fn scalar(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) => Some(number.to_string()),
        DeValue::Float(number) => Some(number.to_string()),
        DeValue::Boolean(yes) => Some(yes.to_string()),
        DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => None,
    }
}

fn unknown<'a>(place: &str, key: &str, known: impl IntoIterator<Item = &'a str>) -> Failure {
    Failure::usage(match nearest(key, known) {
        Some(near) => format!("{place}: unknown setting '{key}'; did you mean '{near}'?"),
        None => format!("{place}: unknown setting '{key}'"),
    })
}
