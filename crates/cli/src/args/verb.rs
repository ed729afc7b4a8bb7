//! A verb of the command line.

use core::ops::Deref;

use clap::builder::Resettable;
use clap::{ArgMatches, Args, Command, Error, FromArgMatches};

/// What a verb takes. Its summary is that of the verb, whenever the rest is added to it.
#[derive(Clone, Debug)]
pub struct Verb<T>(pub Box<T>);

impl<T> Deref for Verb<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: FromArgMatches> FromArgMatches for Verb<T> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        T::from_arg_matches(matches).map(|args| Self(Box::new(args)))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        self.0.update_from_arg_matches(matches)
    }
}

impl<T: Args> Args for Verb<T> {
    fn augment_args(verb: Command) -> Command {
        with_its_summary(verb, T::augment_args)
    }

    fn augment_args_for_update(verb: Command) -> Command {
        with_its_summary(verb, T::augment_args_for_update)
    }
}

/// Adds arguments to a command, and not the description of the type that they are fields of.
fn with_its_summary(verb: Command, add: fn(Command) -> Command) -> Command {
    let (short, long) = (verb.get_about().cloned(), verb.get_long_about().cloned());
    add(verb)
        .about(Resettable::from(short))
        .long_about(Resettable::from(long))
}
