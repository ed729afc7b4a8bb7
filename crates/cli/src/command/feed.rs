//! Where the targets of a run come from.

use std::io;

use super::network::Needs;
use super::status::Status;
use crate::exit::Failure;
use crate::settings::{Family, Input};
use crate::targets::{List, Next, Target, list_name};

/// Where targets come from: the arguments, then the list.
pub(super) struct Feed {
    arguments: std::vec::IntoIter<Target>,
    pub(super) list: Option<List>,
    /// What the list is called.
    path: String,
}

impl Feed {
    /// Resolves the arguments and begins to read the list.
    pub(super) fn open(input: &Input, family: Family, status: &mut Status) -> anyhow::Result<Self> {
        let mut targets = Vec::new();
        for text in &input.arguments {
            match Target::resolve(text, family) {
                Ok(target) => targets.push(target),
                // The only target is the only error; among several, it is one of the results.
                Err(why) if input.arguments.len() == 1 && input.list.is_none() => {
                    return Err(Failure::usage(why).into());
                }
                Err(why) => status.complain(&why),
            }
        }
        let list = match &input.list {
            Some(path) => Some(List::open(path, family)?),
            None => None,
        };
        let path = input.list.as_deref().map_or_else(String::new, list_name);
        if targets.is_empty() && list.is_none() {
            return Err(Failure::usage("none of the targets can be used").into());
        }
        Ok(Self {
            arguments: targets.into_iter(),
            list,
            path,
        })
    }

    /// Begins to read the list, if there is one, in a thread of its own.
    pub(super) fn start(&mut self) {
        if let Some(list) = &mut self.list {
            list.start();
        }
    }

    pub(super) fn next(&mut self) -> Next {
        match (self.arguments.next(), &mut self.list) {
            (Some(target), _) => Next::Target(target),
            (None, Some(list)) => list.poll(),
            (None, None) => Next::End,
        }
    }

    /// The IP versions of the targets, as far as they are known.
    pub(super) fn needs(&self, family: Family) -> Needs {
        let unknown = match self.list {
            Some(_) => Needs::of(family),
            None => Needs::default(),
        };
        let arguments = self.arguments.as_slice().iter();
        arguments.fold(unknown, |needs, target| needs.with(target.addr))
    }

    pub(super) fn place(&self, line: u64) -> String {
        format!("{}:{line}", self.path)
    }

    pub(super) fn fraction(&self) -> Option<f64> {
        self.list.as_ref().and_then(List::fraction)
    }

    /// What becomes readable when the list has more.
    pub(super) fn bell(&self) -> io::Result<Option<std::os::fd::OwnedFd>> {
        self.list
            .as_ref()
            .map(|list| list.fd().try_clone_to_owned())
            .transpose()
    }
}
