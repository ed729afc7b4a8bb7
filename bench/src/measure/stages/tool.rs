//! Programs that send one TCP stream: how each is started, and what it says at its end.

use std::process::{Command, Stdio};

use serde_json::Value;

/// Who sends, and receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tool {
    /// Its receiver takes no more bytes at once than the sender writes, and waits by select(2) for
    /// each.
    Iperf3,
    /// Its receiver takes what there is, as most applications do. What the paper was measured with.
    Netperf,
    /// Its receiver takes no more bytes at once than the sender writes. What the goals for small
    /// writes come from.
    Nuttcp,
}

/// What a stream carried, by its receiver.
#[derive(Clone, Copy, Debug)]
pub(super) struct Carried {
    pub(super) bits_per_s: f64,
    pub(super) bytes: f64,
    pub(super) retransmits: f64,
}

impl Tool {
    /// Those whose writes can be measured, of those that are installed: iperf3 only in want of others.
    pub(super) fn for_writes() -> Vec<Self> {
        let mut tools: Vec<Self> = [Self::Netperf, Self::Nuttcp]
            .into_iter()
            .filter(|tool| tool.is_there())
            .collect();
        if tools.is_empty() && Self::Iperf3.is_there() {
            tools.push(Self::Iperf3);
        }
        tools
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Iperf3 => "iperf3",
            Self::Netperf => "netperf",
            Self::Nuttcp => "nuttcp",
        }
    }

    pub(super) fn is_there(self) -> bool {
        let there = |program: &str| {
            Command::new(program)
                .arg("-V")
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status()
                .is_ok()
        };
        there(self.name()) && (self != Self::Netperf || there("netserver"))
    }

    /// A shell's command that writes a result to `log` if the server was there; all use cubic.
    pub(super) fn client(
        self,
        server: &str,
        seconds: u32,
        write: Option<usize>,
        log: &str,
    ) -> String {
        let write = |option: &str| write.map_or_else(String::new, |len| format!("{option} {len}"));
        let (command, sign) = match self {
            Self::Iperf3 => (
                format!(
                    "timeout 30 iperf3 -c {server} -C cubic -t {seconds} {} -J --logfile {log}",
                    write("-l")
                ),
                // Without a server, JSON is a success, too.
                "sum_received",
            ),
            Self::Netperf => (
                format!(
                    "timeout 30 netperf -P 0 -H {server} -t TCP_STREAM -l {seconds} -- -P ,5201 -K cubic {} \
                     -o REMOTE_RECV_THROUGHPUT,REMOTE_BYTES_RECVD,LOCAL_TRANSPORT_RETRANS > {log}",
                    write("-m")
                ),
                "^[0-9.]*,",
            ),
            Self::Nuttcp => (
                // It has no option for the algorithm, but a route has, even for who is not root outside.
                format!(
                    "ip route replace $(ip route get {server} | sed 's/ uid .*//; q') congctl cubic; \
                     timeout 30 nuttcp -t -fparse -p5201 -T{seconds} {} {server} > {log}",
                    write("-l")
                ),
                "rate_Mbps",
            ),
        };
        format!(
            "for i in $(seq 100); do rm -f {log}; {command}; \
             grep -q '{sign}' {log} && exit 0; sleep 0.05; done; exit 1"
        )
    }

    /// A shell's command for the other end, which is over after one stream, at SIGHUP (which a stage's
    /// command gets at the end of the pipeline), or, where it is asked for, at the end of its input.
    pub(super) fn listener(self, until_input_ends: bool) -> &'static str {
        match self {
            Self::Iperf3 => "exec timeout 60 iperf3 -s -1",
            Self::Nuttcp => "exec timeout 60 nuttcp -S --nofork -1",
            // It would go on for ever.
            Self::Netperf if until_input_ends => {
                "timeout 60 netserver -D & cat > /dev/null; kill $!"
            }
            Self::Netperf => "exec timeout 60 netserver -D",
        }
    }

    /// Reads a result; nothing if there is none in it.
    pub(super) fn read(self, result: &str) -> Option<Carried> {
        match self {
            Self::Iperf3 => {
                let all = serde_json::from_str::<Value>(result).ok()?;
                let end = &all["end"];
                Some(Carried {
                    bits_per_s: end["sum_received"]["bits_per_second"].as_f64()?,
                    bytes: end["sum_received"]["bytes"].as_f64()?,
                    retransmits: end["sum_sent"]["retransmits"].as_f64().unwrap_or(0.0),
                })
            }
            Self::Netperf => {
                let mut fields = result.trim().split(',').map(|f| f.parse::<f64>().ok());
                Some(Carried {
                    bits_per_s: fields.next()?? * 1e6,
                    bytes: fields.next()??,
                    retransmits: fields.next()??,
                })
            }
            Self::Nuttcp => {
                let field = |name: &str| {
                    let mut words = result.split_whitespace();
                    words.find_map(|word| word.strip_prefix(name)?.strip_prefix('=')?.parse().ok())
                };
                let megabytes: f64 = field("megabytes")?;
                Some(Carried {
                    bits_per_s: field("rate_Mbps")? * 1e6,
                    // Of 1024 x 1024 bytes, though its rate is of 1000 x 1000 bits.
                    bytes: megabytes * f64::from(1u32 << 20),
                    retransmits: field("retrans").unwrap_or(0.0),
                })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Tool;

    #[test]
    fn results_are_read_in_each_tools_own_form() {
        let netperf = Tool::Netperf.read("9568.82,2392537088,3\n").unwrap();
        assert_eq!(
            (netperf.bits_per_s, netperf.bytes, netperf.retransmits),
            (9_568_820_000.0, 2_392_537_088.0, 3.0)
        );
        let said = "megabytes=81.0000 real_seconds=1.00 rate_Mbps=679.0312 tx_cpu=56 rx_cpu=51 retrans=2 rtt_ms=0.20\n";
        let nuttcp = Tool::Nuttcp.read(said).unwrap();
        assert_eq!(
            (nuttcp.bits_per_s, nuttcp.bytes, nuttcp.retransmits),
            (679_031_200.0, 84_934_656.0, 2.0)
        );
        let said = r#"{"end":{"sum_sent":{"retransmits":1},"sum_received":{"bits_per_second":5e9,"bytes":125}}}"#;
        let iperf3 = Tool::Iperf3.read(said).unwrap();
        assert_eq!(
            (iperf3.bits_per_s, iperf3.bytes, iperf3.retransmits),
            (5e9, 125.0, 1.0)
        );
    }

    #[test]
    fn what_says_no_result_is_none() {
        for tool in [Tool::Iperf3, Tool::Netperf, Tool::Nuttcp] {
            assert!(tool.read("").is_none());
            assert!(tool.read("nuttcp-t: Error: connect: refused").is_none());
        }
    }
}
