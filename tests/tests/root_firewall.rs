//! `plumb firewall` beside the kernel's nftables, and between real programs.

#![forbid(unsafe_code)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use plumb_tests::{Directory, Done, plumb, require, run};

fn rules() -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("oracles/firewall");
    let mut rules: Vec<_> = fs::read_dir(directory)
        .expect("the rules")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    rules.sort();
    rules
}

fn path() -> String {
    let path = std::env::var("PATH").unwrap_or_default();
    format!("{path}:/usr/sbin:/sbin")
}

/// Runs a script with plumb as $P.
fn sh(script: &str) -> Done {
    run(Command::new("bash")
        .args(["-c", script])
        .env("P", plumb())
        .env("PATH", path()))
}

#[test]
fn root_a_firewall_makes_of_packets_what_nft_makes_of_them() {
    require!(
        "unshare",
        "ip",
        "ethtool",
        "sysctl",
        "nft",
        "conntrack",
        "python3"
    );
    let rules = rules();
    assert!(rules.len() >= 6, "{rules:?}");
    let oracle = Path::new(env!("CARGO_MANIFEST_DIR")).join("oracles/firewall.py");
    let done = run(Command::new("unshare")
        .args(["--net", "python3"])
        .arg(oracle)
        .arg(plumb())
        .args(["1", "1500"])
        .args(&rules)
        .env("PATH", path()))
    .expect(0);
    assert_eq!(done.stdout.lines().last(), Some("same"), "{done}");
    // Something passes and something is dropped by each, or they would show nothing.
    for line in done.stdout.lines().filter(|line| line.contains(": ")) {
        let mut words = line.split([' ', ',']).filter(|word| !word.is_empty());
        let passed: Option<u32> = words
            .by_ref()
            .skip_while(|word| *word != "passed")
            .nth(1)
            .and_then(|number| number.parse().ok());
        assert!(matches!(passed, Some(50..=1450)), "{line}");
    }
}

#[test]
fn root_nft_takes_every_ruleset_of_these_tests() {
    require!("unshare", "nft");
    let all = rules()
        .into_iter()
        .chain([Path::new(env!("CARGO_MANIFEST_DIR")).join("oracles/firewall_bridge.nft")]);
    for rules in all {
        run(Command::new("unshare")
            .args(["--net", "nft", "--check", "--file"])
            .arg(&rules)
            .env("PATH", path()))
        .expect(0);
        run(Command::new(plumb())
            .args(["firewall", "--check"])
            .arg(&rules))
        .expect(0);
    }
}

#[test]
fn root_curl_and_ping_pass_as_the_rules_say_and_behind_a_nat_too() {
    require!("curl", "python3", "ping", "bash");
    let directory = Directory::new();
    let rules = directory.file("rules.nft");
    let text = "table inet filter {
    chain forward {
        type filter hook forward priority 0; policy drop;
        ct state established,related accept
        iifname \"left\" tcp dport 8000 accept
        tcp dport 8001 reject with tcp reset
        icmp type echo-request limit rate 1/day burst 1 packets accept
    }
}
";
    fs::write(&rules, text).expect("the rules are written");
    let script = format!(
        "$P exec --addr 10.0.0.2/8 -- bash -c '\
             for i in $(seq 100); do curl -sf -m 2 -o /dev/null http://10.0.1.2:8000/ && break; done; \
             echo first $?; \
             curl -s -m 5 http://10.0.1.2:8001/; echo refused $?; \
             curl -s -m 1 http://10.0.1.2:8002/; echo dropped $?; \
             ping -c 4 -i 0.2 -W 1 10.0.1.2 | grep -o \"[0-9] received\"' \
         | $P nat --outside 10.0.1.1 | $P firewall --counters {} \
         | $P exec --side left --addr 10.0.1.2/24 -- python3 -m http.server; \
         echo ${{PIPESTATUS[@]}}",
        rules.display()
    );
    let done = sh(&script);
    for expected in ["first 0\n", "refused 7\n", "dropped 28\n", "4 received\n"] {
        let all = format!("{}{}", done.stdout, done.stderr);
        assert!(all.contains(expected), "{expected}: {done}");
    }
    assert!(
        done.stderr
            .contains("rules.nft:6 table inet filter chain forward: tcp dport 8001 reject"),
        "{done}"
    );
}

#[test]
fn root_a_reload_keeps_a_connection_that_the_new_rules_allow_only_as_established() {
    reload(
        "$P exec --addr 10.0.0.2/24 -- python3 client.py \
         | bash -c 'echo $$ > ready; exec $P firewall rules.nft 2> log' \
         | $P exec --side left --addr 10.0.0.1/24 -- python3 server.py",
    );
}

#[test]
fn root_a_hangup_reloads_the_firewall_of_a_chain_and_ends_nothing() {
    // In one process, and in several with a program that would end of it.
    for between in [
        "count | firewall rules.nft",
        "firewall rules.nft | cat | count",
    ] {
        reload(&format!(
            "bash -c 'echo $$ > ready; exec $P chain \"\
                 exec --addr 10.0.0.2/24 -- python3 client.py | {between} | \
                 exec --addr 10.0.0.1/24 -- python3 server.py\" 2> log'"
        ));
    }
}

/// Runs a pipeline with a client and a server, of which the process in the file `ready` has the rules
/// in `rules.nft`, and changes them.
fn reload(pipeline: &str) {
    require!("bash", "python3");
    let directory = Directory::new();
    let rules = directory.file("rules.nft");
    let text = |port: &str| {
        format!(
            "table inet f {{\n chain c {{\n  type filter hook forward priority 0; policy drop;\n  \
             ct state established accept\n  {port}\n }}\n}}\n"
        )
    };
    fs::write(&rules, text("tcp dport 7 accept")).expect("the rules are written");
    fs::write(directory.file("new.nft"), text("tcp dport 9 accept")).expect("written");
    fs::write(directory.file("bad.nft"), text("tcp dprt 9 accept")).expect("written");
    // The client changes the rules while it is connected, and waits until they are in force.
    let client = directory.file("client.py");
    let program = format!(
        "import os, socket, time\n\
         d = {:?}\n\
         def connect(port, timeout=10):\n    \
             until = time.monotonic() + timeout\n    \
             while True:\n        \
                 try:\n            \
                     return socket.create_connection(('10.0.0.1', port), timeout=2)\n        \
                 except OSError:\n            \
                     if time.monotonic() > until: return None\n\
         def talk(s):\n    \
             s.sendall(b'x')\n    \
             return s.recv(1)\n\
         def load(name, word):\n    \
             os.replace(d + '/' + name, d + '/rules.nft')\n    \
             open(d + '/kick', 'w').close()\n    \
             while word not in open(d + '/log').read(): time.sleep(0.01)\n\
         one = connect(7)\n\
         print('before', talk(one))\n\
         load('new.nft', 'are in force now')\n\
         print('after', talk(one))\n\
         print('closed', connect(7, 0))\n\
         print('open', talk(connect(9)))\n\
         load('bad.nft', 'the old rules stay')\n\
         print('bad', talk(one), talk(connect(9)))\n",
        directory
            .file("")
            .display()
            .to_string()
            .trim_end_matches('/')
    );
    fs::write(&client, program).expect("the client is written");
    let server = directory.file("server.py");
    let program = "import socket, threading\n\
         def echo(s):\n    \
             while d := s.recv(1): s.sendall(d)\n\
         def serve(port):\n    \
             l = socket.create_server(('10.0.0.1', port))\n    \
             while True: threading.Thread(target=echo, args=(l.accept()[0],), daemon=True).start()\n\
         threading.Thread(target=serve, args=(7,), daemon=True).start()\n\
         serve(9)\n";
    fs::write(&server, program).expect("the server is written");
    let done = sh(&format!(
        // A command has processes of its own, so somebody else sends the signal for it.
        "cd {}; for i in $(seq 600); do \
             [ -e kick ] && rm kick && kill -HUP $(cat ready); [ -e end ] && break; sleep 0.05; \
         done & \
         {pipeline}; touch end; wait; cat log",
        directory.file("").display(),
    ));
    let all = format!("{}{}", done.stdout, done.stderr);
    for expected in [
        "before b'x'",
        "after b'x'",
        "closed None",
        "open b'x'",
        "bad b'x' b'x'",
        "rules.nft: the old rules stay: rules.nft:5:7: unknown field of tcp \"dprt\"",
    ] {
        assert!(all.contains(expected), "{expected}: {all}");
    }
}

#[test]
fn root_tshark_shows_the_verdict_of_every_packet_and_none_is_lost() {
    require!("tshark", "bash", "ping");
    let directory = Directory::new();
    let rules = directory.file("rules.nft");
    let text = "table inet filter {
    chain forward {
        type filter hook forward priority 0; policy accept;
        icmp type echo-request icmp sequence 2 drop
    }
}
";
    fs::write(&rules, text).expect("the rules are written");
    let done = sh(&format!(
        "cd {}; $P exec --addr 10.0.0.2/24 -- ping -c 3 -i 0.2 10.0.0.1 | tee seen.pcapng \
         | $P exec --side left --addr 10.0.0.1/24 -- sleep 30; \
         $P firewall --explain rules.nft < seen.pcapng \
         | tshark -r - -Y icmp.type==8 -T fields -e icmp.seq -e frame.comment",
        directory.file("").display()
    ));
    let shown: Vec<_> = done
        .stdout
        .lines()
        .filter(|line| line.contains('\t'))
        .collect();
    assert_eq!(shown.len(), 3, "{done}");
    let drop = "drop: rules.nft:4 table inet filter chain forward: icmp type echo-request icmp \
                sequence 2 drop; ct state new";
    let accept = "accept: rules.nft:3 table inet filter chain forward: policy; ct state new";
    for (line, verdict) in shown.iter().zip([accept, drop, accept]) {
        assert!(line.ends_with(verdict), "{line}, not {verdict}");
    }
}

#[test]
fn root_dns_and_iperf3_pass_a_nat_and_a_firewall_and_every_segment_is_in_its_window() {
    require!("bash", "dnsmasq", "dig", "iperf3");
    let directory = Directory::new();
    let rules = directory.file("rules.nft");
    let text = "table inet filter {
    chain forward {
        type filter hook forward priority 0; policy drop;
        ct state established accept
        ct state invalid drop
        iifname \"left\" udp dport 53 accept
        iifname \"left\" tcp dport 5201 accept
    }
}
";
    fs::write(&rules, text).expect("the rules are written");
    let between = format!(
        "$P nat --outside 10.0.1.1 | $P firewall --counters {} | $P exec --side left --addr 10.0.1.2/24",
        rules.display()
    );
    let done = sh(&format!(
        "$P exec --addr 10.0.0.2/8 -- bash -c 'for i in $(seq 50); do \
             dig +time=1 +tries=1 +short @10.0.1.2 a.test && break; done' \
         | {between} -- dnsmasq -k -C /dev/null --address=/a.test/192.0.2.5 --no-resolv --no-hosts \
             -u root --pid-file"
    ));
    assert!(done.stderr.contains("192.0.2.5\n"), "{done}");
    // The server ends with its only test, and tells what it has received.
    let done = sh(&format!(
        "$P exec --addr 10.0.0.2/8 -- bash -c 'for i in $(seq 50); do \
             iperf3 -c 10.0.1.2 -n 50M && break; sleep 0.1; done' \
         | {between} -- iperf3 -s -1; echo ${{PIPESTATUS[@]}}"
    ));
    // Whichever end goes first, both programs say that all went well.
    let last = done.stdout.lines().last().unwrap_or_default();
    assert!(last.starts_with("0 ") && last.ends_with(" 0"), "{done}");
    let all = format!("{}{}", done.stdout, done.stderr);
    // It may have written some more when it sees that this is enough.
    let is_whole = ["50.0 MBytes", "50.1 MBytes"].map(|sent| all.contains(sent));
    assert!(is_whole.contains(&true), "{done}");
    assert!(all.contains(" 0 tracked invalid frames\n"), "{done}");
}
