//! Stages whose streams are sockets, as those of a program behind ssh, socat or inetd are: one socket
//! carries packets both ways.

#![forbid(unsafe_code)]

use core::time::Duration;

use plumb_tests::{Directory, Done, Running, require, shell};

const LIMIT: Duration = Duration::from_secs(60);

/// Runs commands as a shell runs a pipeline, but with sockets in place of pipes, and prints their
/// statuses.
const JOIN: &str = "\
import socket, subprocess, sys
left, running = subprocess.DEVNULL, []
for command in sys.argv[1:]:
    right, next = socket.socketpair()
    running.append(subprocess.Popen(['sh', '-c', 'exec ' + command], stdin=left, stdout=right))
    if running[1:]: left.close()
    right.close()
    left = next
left.close()
print(*[one.wait() for one in running])
";

/// A directory for a script in which $P is plumb.
fn run(directory: &Directory, script: &str) -> Done {
    Running::start(&mut shell(script, directory)).finish(LIMIT)
}

#[test]
fn root_sockets_in_place_of_pipes_carry_packets_both_ways() {
    require!("ping", "bash", "python3");
    let directory = Directory::new();
    directory.write("join.py", JOIN);
    let done = run(
        &directory,
        "python3 join.py '$P exec --counters --addr 10.0.0.2/8 -- ping -c 3 -i 0.2 10.0.1.2' \
             '$P nat --counters --outside 10.0.1.1' \
             '$P exec --side left --addr 10.0.1.2/24 -- sleep 60'",
    );
    assert_eq!(done.stdout, "0 0 0\n", "{done}");
    assert!(done.stderr.contains("3 received, 0% packet loss"), "{done}");
    let line = |side: &str| done.stderr.lines().find(|l| l.starts_with(side));
    for side in ["exec: right: ", "nat: left: ", "nat: right: "] {
        let line = line(side).expect("counters");
        assert!(
            line.contains("no way 0,") && line.ends_with("[socket]"),
            "{done}"
        );
    }
}

#[test]
fn root_ends_that_socat_joins_reach_each_other() {
    require!("ping", "bash", "socat");
    for (options, left, right) in [
        // One socket for both streams of each.
        ("", "--side right", "--side left"),
        // A pipe each.
        (
            ",pipes",
            "--right in=/dev/stdin,out=/dev/stdout",
            "--left in=/dev/stdin,out=/dev/stdout",
        ),
    ] {
        let directory = Directory::new();
        let ping = "--addr 10.0.0.2/24 -- ping -c 3 -i 0.2 10.0.0.1";
        directory.write("left", format!("exec $P exec {left} {ping}\n"));
        // A command that reads its standard input must not get packets there.
        let cat = "--addr 10.0.0.1/24 -- sh -c 'cat > got; exec sleep 60'";
        directory.write("right", format!("exec $P exec {right} {cat}\n"));
        let script = format!("socat -t 2 EXEC:'bash left'{options} EXEC:'bash right'{options}");
        let done = run(&directory, &script);
        assert!(done.stderr.contains("3 received, 0% packet loss"), "{done}");
        let got = std::fs::read(directory.file("got")).expect("what the command has read");
        assert!(got.is_empty(), "{done}");
    }
}

#[test]
fn root_nothing_is_written_back_to_who_does_not_read() {
    require!("ping", "bash", "python3");
    let directory = Directory::new();
    directory.write("join.py", JOIN);
    // Nobody has said in the recording that he would read what comes back.
    let done = run(
        &directory,
        "$P exec --addr 10.0.0.2/24 -- ping -c 1 -W 1 10.0.0.1 > sent; \
         python3 join.py 'cat sent' \
             '$P exec --side left --counters --addr 10.0.0.1/24 -- sleep 60'",
    );
    assert_eq!(done.stdout, "0 0\n", "{done}");
    let line = done.stderr.lines().find(|l| l.starts_with("exec: left: "));
    let line = line.expect("counters");
    assert!(!line.contains("received 0 frames"), "{done}");
    assert!(line.contains("sent 0 frames"), "{done}");
}
