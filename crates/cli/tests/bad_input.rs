//! What a user can get wrong: one clear line each, the documented exit status, nothing sent.

#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test fails by panicking"
)]

use std::io::Write;
use std::path::PathBuf;

use assert_cmd::Command;

/// Runs plumb without any settings of this machine's and gives its exit status and standard
/// error.
fn plumb(arguments: &[&str]) -> (i32, String) {
    run(Command::cargo_bin("plumb").unwrap().args(arguments))
}

fn run(command: &mut Command) -> (i32, String) {
    let output = command
        .env("XDG_CONFIG_HOME", "/nonexistent")
        .timeout(core::time::Duration::from_secs(30))
        .output()
        .unwrap();
    assert!(
        output.stdout.is_empty(),
        "{}",
        String::from_utf8_lossy(&output.stdout)
    );
    (
        output.status.code().unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

/// A file that is removed at the end.
struct File(PathBuf);

impl File {
    fn new(name: &str, content: &[u8]) -> Self {
        let path = std::env::temp_dir().join(format!("plumb-{}-{name}", std::process::id()));
        let mut file = std::fs::File::create(&path).unwrap();
        file.write_all(content).unwrap();
        Self(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[test]
fn a_wrong_target_is_named_in_one_line() {
    for (arguments, said) in [
        (&["trace", "300.1.1.1"][..], "'300.1.1.1' is neither"),
        (&["trace", "no such host"], "'no such host' is neither"),
        (
            &["trace", "no-such-host.invalid"],
            "cannot resolve no-such-host.invalid",
        ),
        (
            &["trace", "-6", "5.0.0.1"],
            "5.0.0.1 is an IPv4 address, but IPv6",
        ),
        (
            &["trace", "-4", "2a00::1"],
            "2a00::1 is an IPv6 address, but IPv4",
        ),
        (
            &["trace", "-4", "--source", "::1", "5.0.0.1"],
            "--source is an address of the other",
        ),
        (&["ping", "1.2.3"], "'1.2.3' is neither"),
        (
            &["ping", "-6", "5.0.0.1"],
            "5.0.0.1 is an IPv4 address, but IPv6",
        ),
        (
            &["trace", "-", "5.0.0.1"],
            "`-` reads all targets from standard input",
        ),
    ] {
        let (status, error) = plumb(arguments);
        assert_eq!(status, 2, "{arguments:?}: {error}");
        assert!(error.contains(said), "{arguments:?}: {error}");
        assert_eq!(error.lines().count(), 1, "{arguments:?}: {error}");
    }
}

#[test]
fn an_absurd_number_is_refused_with_the_range_that_makes_sense() {
    for (option, value, said) in [
        ("--first", "0", "1..=255"),
        ("--max-hops", "300", "1..=255"),
        ("--attempts", "16", "1..=15"),
        ("--gap-limit", "-1", "unexpected argument"),
        ("--wait", "1e9", "expected a duration"),
        ("--wait", "0", "more than 0"),
        ("--wait", "1h", "at most 60s"),
        ("--rate", "0", "at least 1"),
        ("--rate", "99999999999", "at least 1"),
        ("--parallel", "0", "1..=255"),
        ("--window", "0", "1..=4000000"),
        ("--port", "65536", "65535"),
        ("--size", "9000", "0..=1500"),
        ("--dscp", "64", "0..64"),
        ("--flow", "65535", "1..=65534"),
        ("--frpla", "0", "1..=255"),
        ("--opaque-ttl", "255", "2..=254"),
        ("--method", "smtp", "icmp-paris, udp-paris, tcp-paris"),
        ("--format", "xml", "table, json, tnt, scamper-json"),
        ("--cache-lifetime", "soon", "expected a duration"),
    ] {
        let (status, error) = plumb(&["trace", option, value, "5.0.0.1"]);
        assert_eq!(status, 2, "{option} {value}: {error}");
        assert!(error.contains(said), "{option} {value}: {error}");
    }
    let (status, error) = plumb(&["trace", "-f", "9", "-m", "8", "5.0.0.1"]);
    assert_eq!(status, 2);
    assert!(
        error.contains("--first 9 is beyond --max-hops 8"),
        "{error}"
    );
    let (status, error) = plumb(&["ping", "-c", "-3", "5.0.0.1"]);
    assert_eq!(status, 2, "{error}");
}

#[test]
fn a_list_that_is_none_is_refused_before_anything_is_sent() {
    let empty = File::new("empty", b"");
    let binary = File::new("binary", b"\x7fELF\x02\x01\0\0\0");
    let latin1 = File::new("latin1", b"5.0.0.1\n\xe4\xf6\xfc\n");
    for (path, said) in [
        (empty.path(), "has no targets: it is empty"),
        (binary.path(), "is not a list of targets: it is not text"),
        (latin1.path(), "is not a list of targets: it is not text"),
        ("/nonexistent/list", "cannot read /nonexistent/list"),
        ("/", "cannot read /"),
    ] {
        for command in ["trace", "ping"] {
            let (status, error) = plumb(&[command, "--targets", path]);
            assert_eq!(status, 2, "{path}: {error}");
            assert!(error.contains(said), "{path}: {error}");
            assert_eq!(error.lines().count(), 1, "{path}: {error}");
        }
    }
    let (status, error) = run(Command::cargo_bin("plumb")
        .unwrap()
        .args(["trace", "-"])
        .write_stdin(""));
    assert_eq!(status, 2);
    assert!(error.contains("standard input has no targets"), "{error}");
}

#[test]
fn a_setting_that_is_none_is_named_with_its_place_and_the_nearest_key() {
    let dir = std::env::temp_dir().join(format!("plumb-settings-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    for (content, said) in [
        (
            "[trace]\n\nmax-hop = 3\n",
            "plumb.toml:3: unknown setting 'max-hop'; did you mean 'max-hops'?",
        ),
        (
            "[trase]\n",
            "plumb.toml:1: unknown setting 'trase'; did you mean 'trace'?",
        ),
        (
            "[trace]\nrate = \"fast\"\n",
            "plumb.toml:2: invalid value 'fast' for '--rate <PPS>'",
        ),
        (
            "[trace]\nmethod = \"smtp\"\n",
            "[possible values: icmp-paris, udp-paris, tcp-paris]",
        ),
        (
            "[trace]\nnames = \"maybe\"\n",
            "names must be true or false",
        ),
        (
            "[trace]\nrate = [1]\n",
            "rate must be a string, a number or a boolean",
        ),
        ("[trace\n", "plumb.toml:1: "),
        ("trace = 1\n", "trace must be a section"),
    ] {
        std::fs::write(dir.join("plumb.toml"), content).unwrap();
        let (status, error) = run(Command::cargo_bin("plumb")
            .unwrap()
            .current_dir(&dir)
            .args(["trace", "300.1.1.1"]));
        assert_eq!(status, 2, "{content}: {error}");
        assert!(error.contains(said), "{content}: {error}");
        assert_eq!(error.lines().count(), 1, "{content}: {error}");
    }
    std::fs::remove_dir_all(&dir).unwrap();
    for (name, value, said) in [
        ("PLUMB_TRACE_RTE", "1", "did you mean 'PLUMB_TRACE_RATE'?"),
        ("PLUMB_RATE", "1", "did you mean 'PLUMB_PING_RATE'?"),
        (
            "PLUMB_TRACE_RATE",
            "0",
            "PLUMB_TRACE_RATE: invalid value '0'",
        ),
    ] {
        let (status, error) = run(Command::cargo_bin("plumb")
            .unwrap()
            .env(name, value)
            .args(["trace", "300.1.1.1"]));
        assert_eq!(status, 2, "{name}: {error}");
        assert!(error.contains(said), "{name}: {error}");
    }
}

#[test]
fn the_command_line_wins_over_the_environment_and_that_over_files() {
    let dir = std::env::temp_dir().join(format!("plumb-layers-{}", std::process::id()));
    std::fs::create_dir_all(dir.join("plumb")).unwrap();
    std::fs::write(
        dir.join("plumb.toml"),
        "[trace]\nwait = \"2s\"\nmax-hops = 20\nnames = true\n",
    )
    .unwrap();
    std::fs::write(
        dir.join("plumb/plumb.toml"),
        "[trace]\nwait = \"3s\"\nrate = 50\n[ping]\ncount = 7\n",
    )
    .unwrap();
    let output = Command::cargo_bin("plumb")
        .unwrap()
        .current_dir(&dir)
        .env("XDG_CONFIG_HOME", &dir)
        .env("PLUMB_TRACE_MAX_HOPS", "9")
        .args(["config", "show", "--json"])
        .output()
        .unwrap();
    let shown = String::from_utf8(output.stdout).unwrap();
    let user = dir.join("plumb/plumb.toml").display().to_string();
    for (section, key, value, origin) in [
        ("trace", "max-hops", "9", "PLUMB_TRACE_MAX_HOPS"),
        ("trace", "wait", "2s", "plumb.toml:2"),
        ("trace", "names", "true", "plumb.toml:4"),
        ("trace", "rate", "50", &format!("{user}:3")),
        ("ping", "count", "7", &format!("{user}:5")),
        ("ping", "interval", "1s", "default"),
    ] {
        let line = format!(
            r#"{{"section":"{section}","key":"{key}","value":"{value}","origin":"{origin}"}}"#
        );
        assert!(shown.lines().any(|l| l == line), "{line} not in {shown}");
    }
    // A first TTL beyond the highest shows which highest holds.
    for (argument, holds) in [("--verbose", 9), ("--max-hops=4", 4)] {
        let (status, error) = run(Command::cargo_bin("plumb")
            .unwrap()
            .current_dir(&dir)
            .env("XDG_CONFIG_HOME", &dir)
            .env("PLUMB_TRACE_MAX_HOPS", "9")
            .args(["trace", "--first=30", argument, "5.0.0.1"]));
        assert_eq!(status, 2);
        assert!(error.contains(&format!("--max-hops {holds}")), "{error}");
    }
    std::fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn root_a_missing_capability_is_named_with_the_command_that_grants_it() {
    if !is_root() {
        return;
    }
    // Nobody may enter a home directory.
    let copy = std::env::temp_dir().join(format!("plumb-copy-{}", std::process::id()));
    std::fs::copy(assert_cmd::cargo::cargo_bin!("plumb"), &copy).unwrap();
    for command in ["trace", "ping"] {
        let (status, error) = run(Command::new("setpriv")
            .args(["--reuid", "65534", "--regid", "65534", "--clear-groups"])
            .arg(&copy)
            .args([command, "--mode", "raw", "127.0.0.1"]));
        assert_eq!(status, 3, "{error}");
        assert_eq!(error.lines().count(), 1, "{error}");
        let fix = format!("sudo setcap cap_net_raw+ep {}", copy.display());
        assert!(
            error.contains("CAP_NET_RAW") && error.contains(&fix),
            "{error}"
        );
    }
    std::fs::remove_file(&copy).unwrap();
}

#[test]
fn root_what_the_network_lacks_is_said_in_one_line() {
    if !is_root() {
        return;
    }
    for (setup, arguments, expected, said) in [
        ("true", "trace 5.0.9.9", 1, "no route to 5.0.9.9"),
        ("true", "ping 5.0.9.9", 1, "no route to 5.0.9.9"),
        ("true", "trace 2a00::9", 1, "2a00::9"),
        (
            "true",
            "trace -i nope0 5.0.9.9",
            2,
            "no network interface \"nope0\"",
        ),
        (
            "ip link add d0 type veth peer name d1",
            "trace -i d0 5.0.9.9",
            1,
            "\"d0\" is down",
        ),
        (
            "ip link set lo up",
            "trace -s 5.0.0.1 5.0.9.9",
            2,
            "no interface of this system has",
        ),
        (
            "ip link set lo up",
            "trace 224.0.0.1",
            2,
            "not an address that can be probed",
        ),
    ] {
        let script = format!("{setup} && exec \"$0\" {arguments}");
        let (status, error) = run(Command::new("unshare")
            .args(["--net", "sh", "-c", &script])
            .arg(assert_cmd::cargo::cargo_bin!("plumb")));
        assert_eq!(status, expected, "{arguments}: {error}");
        assert!(error.contains(said), "{arguments}: {error}");
        assert_eq!(error.lines().count(), 1, "{arguments}: {error}");
    }
}

fn is_root() -> bool {
    let output = std::process::Command::new("id").arg("-u").output().unwrap();
    let root = output.stdout == b"0\n";
    if !root {
        eprintln!("skipped: this test needs root");
    }
    root
}
