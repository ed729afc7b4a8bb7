//! A switch with machines in namespaces, and captures to replay there.

use core::sync::atomic::{AtomicU32, Ordering};
use core::time::Duration;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;

use plumb_wire::SplitMix64;
use plumb_wire::capture::Reader;
use plumb_wire::pcapng::{Direction, Interface, LinkType, Packet, Read, SECTION_LEN, emit_section};

use crate::{Done, Running, plumb, run};

/// Long enough for anything here.
pub const LIMIT: Duration = Duration::from_secs(60);

/// A switch with two machines behind ports `vm1` and `vm2` of `br0`, and a monitor behind `mon`.
/// Nothing in it speaks of itself.
#[derive(Debug)]
pub struct Lab {
    prefix: String,
}

/// Namespace of the switch.
pub const SWITCH: &str = "sw";
/// Namespace of the monitor, whose address is 192.0.2.9; the switch's is 192.0.2.1.
pub const MONITOR: &str = "mon";

impl Lab {
    /// Makes one.
    #[expect(clippy::new_without_default, reason = "it makes something")]
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let lab = Self {
            prefix: format!("plumb-tests-{}-tap{count}-", std::process::id()),
        };
        for name in [SWITCH, "vm1", "vm2", MONITOR] {
            ip(&format!("netns add {}", lab.name(name)));
            lab.run(
                name,
                "sysctl",
                "-qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1",
            );
        }
        lab.ip(SWITCH, "link add br0 type bridge mcast_snooping 0");
        lab.ip(SWITCH, "link set br0 up");
        lab.plug("vm1", 1);
        lab.plug("vm2", 2);
        let monitor = lab.name(MONITOR);
        lab.ip(
            SWITCH,
            &format!("link add mon type veth peer name mon netns {monitor}"),
        );
        for end in [SWITCH, MONITOR] {
            lab.ip(end, "link set mon mtu 9000 up");
        }
        lab.ip(SWITCH, "address add 192.0.2.1/24 dev mon");
        lab.ip(MONITOR, "address add 192.0.2.9/24 dev mon");
        lab
    }

    /// Name of one of its namespaces.
    pub fn name(&self, namespace: &str) -> String {
        format!("{}{namespace}", self.prefix)
    }

    /// Connects a machine to the switch.
    pub fn plug(&self, machine: &str, number: u8) {
        let namespace = self.name(machine);
        self.ip(
            SWITCH,
            &format!("link add {machine} type veth peer name eth0 netns {namespace}"),
        );
        self.ip(
            machine,
            &format!("link set eth0 address 02:00:00:00:00:0{number} up"),
        );
        self.ip(machine, &format!("address add 10.7.0.{number}/24 dev eth0"));
        self.ip(SWITCH, &format!("link set {machine} master br0 up"));
    }

    /// A program in one of its namespaces.
    pub fn command(&self, namespace: &str, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("ip");
        command
            .args(["netns", "exec", &self.name(namespace)])
            .arg(program);
        command
    }

    /// Runs a program in one of its namespaces, which has to succeed.
    pub fn run(&self, namespace: &str, program: &str, arguments: &str) -> Done {
        run(self.command(namespace, program).args(arguments.split(' '))).expect(0)
    }

    /// Runs ip(8) on one of its namespaces.
    pub fn ip(&self, namespace: &str, arguments: &str) {
        ip(&format!("-n {} {arguments}", self.name(namespace)));
    }

    /// A tap on the switch that has begun.
    pub fn tap(&self, arguments: &[&str]) -> Running {
        begin(self.command(SWITCH, plumb()), arguments)
    }

    /// What `plumb tap` does with a session.
    pub fn control(&self, arguments: &[&str]) -> Done {
        run(self.command(SWITCH, plumb()).arg("tap").args(arguments))
    }

    /// Ends a session once it has written all; returns its last status.
    pub fn end(&self, tap: Running) -> serde_json::Value {
        tap.signal("INT");
        let done = tap.finish(LIMIT);
        assert_eq!(done.code(), Some(130), "{done}");
        let line = done.stderr.lines().rfind(|line| line.starts_with('{'));
        serde_json::from_str(line.expect("a status")).expect("JSON")
    }

    /// Sends a capture out of a machine.
    pub fn replay(&self, machine: &str, capture: &Path) {
        let path = capture.display();
        self.run(
            machine,
            "tcpreplay",
            &format!("-q -i eth0 --pps=4000 {path}"),
        );
    }

    /// Sees to it that a connection between the machines is sent once: no timer of the sender is
    /// shorter than a busy machine may be late (RFC 6298 §2.4, RFC 8985 §7).
    pub fn without_retransmissions(&self) {
        for (machine, number) in [("vm1", 1), ("vm2", 2)] {
            self.run(machine, "sysctl", "-qw net.ipv4.tcp_early_retrans=0");
            let route = format!(
                "route replace 10.7.0.0/24 dev eth0 proto kernel scope link src 10.7.0.{number} \
                 rto_min 20s"
            );
            self.ip(machine, &route);
        }
    }

    /// Sends so many bytes from `vm1` to port 5201 of `vm2` over TCP, on one processor, so that
    /// nothing overtakes; none may be sent twice. Returns how many they were.
    pub fn transfer(&self, bytes: u64) -> u64 {
        let server = "import socket; s = socket.create_server(('10.7.0.2', 5201)); print('ready', flush=True)\n\
            c = s.accept()[0]; n = 0\n\
            while d := c.recv(1 << 20): n += len(d)\n\
            print(n)";
        // The 24th counter of `struct tcp_info` behind its first 8 bytes.
        let client = "import socket, sys; c = socket.create_connection(('10.7.0.2', 5201))\n\
            for _ in range(int(sys.argv[1]) >> 16): c.sendall(bytes(65536))\n\
            c.shutdown(1); c.recv(1)\n\
            print(int.from_bytes(c.getsockopt(6, 11, 104)[100:], 'little'))";
        let python = ["-c", "0", "python3", "-c"];
        let mut command = self.command("vm2", "taskset");
        let mut server = Running::start(command.args(python).arg(server));
        server.wait_until(|out, _| out.contains("ready"));
        let mut command = self.command("vm1", "taskset");
        let client = run(command.args(python).args([client, &bytes.to_string()])).expect(0);
        let received = server.finish(LIMIT).expect(0).stdout;
        let sent = bytes >> 16 << 16;
        assert_eq!(received, format!("ready\n{sent}\n"));
        assert_eq!(client.stdout, "0\n", "retransmissions");
        sent
    }

    /// Sees to it that the monitor answers nothing: it has no address, and the switch knows where it
    /// is until its interface goes down.
    pub fn silence_monitor(&self) {
        let _ = run(Command::new("ip").args([
            "-n",
            &self.name(MONITOR),
            "address",
            "delete",
            "192.0.2.9/24",
            "dev",
            "mon",
        ]));
        let mac = self
            .run(MONITOR, "cat", "/sys/class/net/mon/address")
            .stdout;
        let neighbour = format!(
            "neighbour replace 192.0.2.9 lladdr {} dev mon nud permanent",
            mac.trim()
        );
        self.ip(SWITCH, &neighbour);
    }

    /// Waits until the socket on this UDP port of the monitor is empty.
    pub fn drained(&self, port: u16) {
        let started = std::time::Instant::now();
        loop {
            let filter = format!("-u -a -n -H sport = :{port}");
            let sockets = self.run(MONITOR, "ss", &filter).stdout;
            let mut waiting = sockets.lines().filter_map(|l| l.split_whitespace().nth(1));
            if waiting.all(|bytes| bytes == "0") {
                return;
            }
            assert!(started.elapsed() < LIMIT, "{sockets}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// A capture of what comes to the monitor, once it has begun.
    pub fn dump(&self, interface: &str, file: &Path) -> Running {
        let mut command = self.command(MONITOR, "tcpdump");
        command
            .args([
                "-U",
                "--immediate-mode",
                // Room for all of a test, in KiB: what waits for a busy machine is not lost.
                "-B",
                "65536",
                "-Z",
                "root",
                "-i",
                interface,
                "-w",
            ])
            .arg(file);
        let mut dump = Running::start(&mut command);
        dump.wait_until(|_, err| err.contains("listening on"));
        dump
    }

    /// Ends a capture when so many packets are in it.
    pub fn collect(&self, dump: Running, file: &Path, packets: usize) -> Vec<Frame> {
        let started = std::time::Instant::now();
        while frames(file).len() < packets && started.elapsed() < Duration::from_secs(20) {
            std::thread::sleep(Duration::from_millis(20));
        }
        dump.signal("INT");
        dump.finish(LIMIT).expect(0);
        frames(file)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for name in [SWITCH, "vm1", "vm2", MONITOR] {
            let _ = Command::new("ip")
                .args(["netns", "delete", &self.name(name)])
                .status();
        }
    }
}

/// A tap of this program that has begun.
pub fn begin(mut program: Command, arguments: &[&str]) -> Running {
    program
        .args(["tap", "--counters", "--json"])
        .args(arguments);
    let mut tap = Running::start(&mut program);
    tap.wait_until(|_, err| err.contains(" -> "));
    tap
}

/// The eBPF programs that a process has loaded, by number.
pub fn programs(process: u32) -> BTreeSet<String> {
    let directory = std::fs::read_dir(format!("/proc/{process}/fdinfo")).expect("a process");
    let id = |entry: std::fs::DirEntry| {
        let info = std::fs::read_to_string(entry.path()).ok()?;
        let id = info
            .lines()
            .find_map(|line| line.strip_prefix("prog_id:"))?;
        Some(id.trim().to_owned())
    };
    directory.flatten().filter_map(id).collect()
}

/// Waits until none of these programs of a tap is there any more.
pub fn assert_gone(programs: &BTreeSet<String>) {
    assert!(programs.len() >= 5, "{programs:?}");
    // The kernel frees them when the last packet has left them.
    let started = std::time::Instant::now();
    for id in programs {
        let shown = || run(Command::new("bpftool").args(["prog", "show", "id", id]));
        while shown().code() == Some(0) {
            assert!(started.elapsed() < LIMIT, "program {id} is still there");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

fn ip(arguments: &str) {
    run(Command::new("ip").args(arguments.split(' '))).expect(0);
}

/// A packet of a capture.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Frame {
    /// From the Ethernet header on.
    pub bytes: Vec<u8>,
    /// Length of the packet, if that is more.
    pub original_len: u32,
    /// The machine receives it.
    pub inbound: bool,
}

/// The packets of a capture, as far as it is written.
pub fn frames(path: &Path) -> Vec<Frame> {
    let bytes = std::fs::read(path).unwrap_or_default();
    let mut input = &bytes[..];
    let mut reader = Reader::new();
    let mut frames = Vec::new();
    while let Ok(Read::Packet(packet)) = reader.read(&mut input) {
        frames.push(Frame {
            bytes: packet.data.to_vec(),
            original_len: packet.original_len,
            inbound: packet.direction == Direction::Inbound,
        });
    }
    frames
}

/// Writes packets into a capture, a millisecond from one to the next.
pub fn write_capture(path: &Path, packets: &[Vec<u8>]) {
    let interface = Interface {
        link_type: LinkType::ETHERNET,
        name: "source",
    };
    let mut out = vec![0; SECTION_LEN + interface.block_len()];
    let len = emit_section(&mut out);
    interface.emit(&mut out[len..]);
    for (n, data) in (0u64..).zip(packets) {
        let packet = Packet {
            at_ns: n * 1_000_000,
            data,
            original_len: u32::try_from(data.len()).expect("a short packet"),
            ..Packet::default()
        };
        let at = out.len();
        out.resize(at + packet.block_len(), 0);
        packet.emit(&mut out[at..]);
    }
    std::fs::write(path, out).expect("a file");
}

/// Packets of many flows of both IP versions, with tags, of all sizes up to the MTU.
pub fn traffic(count: u32) -> Vec<Vec<u8>> {
    let mut random = SplitMix64::new(11);
    (0..count)
        .map(|n| {
            let flow = u8::try_from(random.below(200)).expect("a byte");
            let mut p = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1];
            match random.below(6) {
                0 => p.extend([0x81, 0, 0, 100]),
                1 => p.extend([0x88, 0xa8, 0, 7, 0x81, 0, 0, 9]),
                _ => {}
            }
            let payload = usize::try_from(random.below(1300)).expect("a length");
            let udp_len = u16::try_from(payload + 8).expect("a length");
            let protocol = if flow % 2 == 0 { 17 } else { 6 };
            if flow % 3 == 0 {
                p.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
                p.extend(udp_len.to_be_bytes());
                p.extend([protocol, 64]);
                for host in [1, flow] {
                    p.extend([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, host]);
                }
            } else {
                p.extend([8, 0, 0x45, 0]);
                p.extend((udp_len + 20).to_be_bytes());
                p.extend(u16::try_from(n & 0xffff).expect("16 bits").to_be_bytes());
                p.extend([0, 0, 64, protocol, 0, 0, 10, 7, 0, 1, 10, 7, 1, flow]);
                let at = p.len() - 20;
                let sum = plumb_wire::checksum(&p[at..]);
                p[at + 10..at + 12].copy_from_slice(&sum.to_be_bytes());
            }
            p.extend([flow, 53, 0, 80]);
            p.extend(udp_len.to_be_bytes());
            p.extend([0, 0]);
            p.extend(n.to_be_bytes());
            p.resize(
                p.len() + payload.max(20),
                u8::try_from(n & 0xff).expect("a byte"),
            );
            p
        })
        .collect()
}

/// The bytes of each.
pub fn bytes_of(frames: &[Frame]) -> Vec<Vec<u8>> {
    frames.iter().map(|frame| frame.bytes.clone()).collect()
}
