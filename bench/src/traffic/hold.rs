//! Connections that stay.

use core::net::Ipv4Addr;
use std::io::{self, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

use anyhow::Context as _;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Makes so many connections, both ends of them, says so, and keeps them until its input ends.
pub(super) fn hold(connections: usize) -> anyhow::Result<()> {
    let most = getrlimit(Resource::Nofile).maximum;
    let all = Rlimit {
        current: most,
        maximum: most,
    };
    setrlimit(Resource::Nofile, all).context("cannot open as many files as allowed")?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let to = listener.local_addr()?;
    let mut ends = Vec::with_capacity(connections * 2);
    for _ in 0..connections {
        ends.push(TcpStream::connect(to).context("cannot connect")?);
        ends.push(listener.accept()?.0);
    }
    writeln!(io::stdout(), "held")?;
    let _ = io::stdin().read(&mut [0]);
    Ok(())
}
