//! The kernel's own chain: four namespaces in a row, the second one with a masquerade, the third one
//! with a stateful filter.

use core::fmt::Write as _;
use std::path::Path;

use crate::chain::{command, ip};

/// The rules of the third namespace, and of the stage that does the same.
pub(super) const FILTER: &str = "\
table inet filter {
  chain forward {
    type filter hook forward priority filter; policy drop;
    ct state established,related accept
    ip protocol icmp accept
    tcp dport 5201 accept
    udp dport 9 accept
    tcp dport { 5000, 12865 } accept
  }
}
";

/// The rules of the second one.
pub(super) const MASQUERADE: &str = "\
table ip nat {
  chain postrouting {
    type nat hook postrouting priority srcnat; policy accept;
    oifname \"right\" masquerade
  }
}
";

/// The generator's packets are nobody's where they arrive: an answer to each would be measured too.
const DISCARD: &str = "\
table inet discard {
  chain prerouting {
    type filter hook prerouting priority raw; policy accept;
    iifname \"left\" udp dport 9 drop
  }
}
";

/// Namespaces of a chain, by name.
#[derive(Debug)]
pub(super) struct Kernel {
    names: Vec<String>,
}

impl Kernel {
    /// Builds a chain with this MTU; between the ends are two routers, or none.
    pub(super) fn build(
        name: &str,
        mtu: u32,
        routers: bool,
        folder: &Path,
    ) -> anyhow::Result<Self> {
        let count = if routers { 4 } else { 2 };
        let names: Vec<String> = (0..count).map(|i| format!("{name}{i}")).collect();
        let mut batch = String::new();
        for name in &names {
            let _ = writeln!(batch, "netns add {name}");
        }
        for (link, pair) in names.windows(2).enumerate() {
            let _ = writeln!(
                batch,
                "link add right netns {} mtu {mtu} address {} type veth peer name left netns {} mtu {mtu} address {}",
                pair[0],
                mac(link, 1),
                pair[1],
                mac(link, 2)
            );
        }
        ip(&["-batch", "-"], &batch)?;
        for (index, name) in names.iter().enumerate() {
            let mut batch = String::from("link set lo up\n");
            if index > 0 {
                let link = index - 1;
                let _ = writeln!(
                    batch,
                    "address add {} dev left\nlink set left up\n\
                     neighbour replace {} lladdr {} nud permanent dev left",
                    address(link, 2, true),
                    address(link, 1, false),
                    mac(link, 1)
                );
                if index > 1 {
                    let _ = writeln!(
                        batch,
                        "route add 10.0.0.0/16 via {}",
                        address(link, 1, false)
                    );
                }
            }
            if index + 1 < names.len() {
                let _ = writeln!(
                    batch,
                    "address add {} dev right\nlink set right up\n\
                     neighbour replace {} lladdr {} nud permanent dev right\n\
                     route add default via {}",
                    address(index, 1, true),
                    address(index, 2, false),
                    mac(index, 2),
                    address(index, 2, false)
                );
            }
            ip(&["-netns", name, "-batch", "-"], &batch)?;
            inside(
                name,
                "sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.disable_ipv6=1",
            )?;
        }
        let kernel = Self { names };
        if routers {
            for (node, rules) in [(1, MASQUERADE), (2, FILTER), (3, DISCARD)] {
                let file = folder.join(format!("kernel{node}.nft"));
                std::fs::write(&file, rules)?;
                inside(&kernel.names[node], &format!("nft -f {}", file.display()))?;
            }
        }
        Ok(kernel)
    }

    /// Where a command has to run that is the client, or the server.
    pub(super) fn place(&self, server: bool) -> Vec<String> {
        let name = if server {
            self.names.last()
        } else {
            self.names.first()
        };
        ["ip", "netns", "exec", name.map_or("", String::as_str)]
            .map(str::to_owned)
            .to_vec()
    }

    /// The server's address.
    pub(super) fn server(&self) -> String {
        address(self.names.len() - 2, 2, false)
    }
}

impl Drop for Kernel {
    fn drop(&mut self) {
        for name in &self.names {
            let _ = ip(&["netns", "del", name], "");
        }
    }
}

fn inside(name: &str, script: &str) -> anyhow::Result<()> {
    command("ip", &["netns", "exec", name, "sh", "-c", script], None)
}

/// The near end of a link is .2, as that of the stages' client is.
fn address(link: usize, end: u8, with_len: bool) -> String {
    let end = 3 - end;
    let len = if with_len { "/24" } else { "" };
    format!("10.0.{link}.{end}{len}")
}

fn mac(link: usize, end: u8) -> String {
    format!("02:00:00:00:{link:02x}:{end:02x}")
}
