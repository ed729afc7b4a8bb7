//! What stages of a pipeline have in common.

use core::net::IpAddr;
use core::str::FromStr;
use std::path::PathBuf;

use clap::Args;

use super::Seconds;

/// How a stage is joined to its neighbours.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
#[command(next_help_heading = "Links")]
pub struct LinkArgs {
    /// Named pipes to the left neighbour: in=PATH,out=PATH; /dev/stdin is standard input.
    #[arg(long, value_name = "in=PATH,out=PATH")]
    pub left: Option<PathPair>,
    /// Named pipes to the right neighbour: in=PATH,out=PATH; /dev/stdout is standard output.
    #[arg(long, value_name = "in=PATH,out=PATH")]
    pub right: Option<PathPair>,
    /// Stay with the pipe: no shared memory with the neighbours, and so no way back.
    #[arg(long)]
    pub no_upgrade: bool,
    /// Drop frames that a neighbour does not take in time, instead of waiting for it.
    #[arg(long, overrides_with = "block")]
    pub drop: bool,
    /// Wait for a neighbour that takes nothing (the default).
    #[arg(long)]
    pub block: bool,
    /// Write large frames whole into a pipe, with their unfinished checksums, as only another plumb
    /// reads them.
    #[arg(long)]
    pub gso: bool,
    /// Go on looking for frames so long after the last one, before sleeping: nobody has to wake the
    /// stage then, at the price of a processor (50us).
    #[arg(long, value_name = "DURATION")]
    pub busy_poll: Option<Seconds>,
    /// Write what passed and what was dropped to standard error at the end, as SIGUSR1 does at any
    /// time.
    #[arg(long)]
    pub counters: bool,
    /// The counters are one JSON object.
    #[arg(long)]
    pub json: bool,
}

/// How a function is joined to its neighbours.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
pub struct FunctionArgs {
    /// Take standard input for a recording even if it is a pipe: time is that of the packets'
    /// stamps, as with a file.
    #[arg(long)]
    pub offline: bool,
    /// The pipes.
    #[command(flatten)]
    pub links: LinkArgs,
}

/// Where frames come from and where they go: `in=PATH,out=PATH`, either alone too.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PathPair {
    /// What is read.
    pub input: Option<PathBuf>,
    /// What is written.
    pub output: Option<PathBuf>,
}

impl FromStr for PathPair {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut pair = Self::default();
        for part in text.split(',') {
            let place = match part.split_once('=') {
                Some(("in", _)) => &mut pair.input,
                Some(("out", _)) => &mut pair.output,
                _ => return Err("expected in=PATH,out=PATH".to_owned()),
            };
            let path = &part[part.find('=').map_or(0, |at| at + 1)..];
            if path.is_empty() || place.is_some() {
                return Err("expected in=PATH,out=PATH, each once".to_owned());
            }
            *place = Some(path.into());
        }
        Ok(pair)
    }
}

/// An address with the length of its prefix: `10.0.0.1/24`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addressed(pub IpAddr, pub u8);

impl FromStr for Addressed {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const EXAMPLE: &str = "expected an address with a prefix length, such as 10.0.0.1/24";
        let (address, len) = text.split_once('/').ok_or(EXAMPLE)?;
        let address: IpAddr = address.parse().map_err(|_| EXAMPLE)?;
        let len: u8 = len.parse().map_err(|_| EXAMPLE)?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        if len > most {
            return Err(format!("the prefix has {most} bits at most"));
        }
        Ok(Self(address, len))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_of_pipes_names_each_end_once() {
        let pair: PathPair = "in=/dev/stdin,out=/tmp/p1".parse().unwrap();
        assert_eq!(pair.input, Some("/dev/stdin".into()));
        assert_eq!(pair.output, Some("/tmp/p1".into()));
        assert_eq!(
            "out=a=b".parse::<PathPair>().unwrap().output,
            Some("a=b".into())
        );
        for wrong in ["", "in=", "/tmp/p", "in=a,in=b", "up=a"] {
            assert!(wrong.parse::<PathPair>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_address_needs_a_prefix_that_fits() {
        assert_eq!(
            "10.0.0.1/24".parse(),
            Ok(Addressed([10, 0, 0, 1].into(), 24))
        );
        assert!("fd00::1/64".parse::<Addressed>().is_ok());
        for wrong in ["10.0.0.1", "10.0.0.1/33", "fd00::1/129", "x/8", "/8"] {
            assert!(wrong.parse::<Addressed>().is_err(), "{wrong}");
        }
    }
}
