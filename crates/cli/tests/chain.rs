//! Chains and mirrors on recordings: the same bytes each time, and those that single stages give.

#![expect(clippy::unwrap_used, reason = "a test that fails may panic")]

mod captures;

use assert_cmd::Command;
use captures::{capture, packets, plumb, through, udp};

/// Packets of some hosts to some others, one every 50 microseconds.
fn conversation(count: u32) -> Vec<u8> {
    let packets = (0..count).map(|n| {
        let byte = |shift: u32| u8::try_from(n.wrapping_mul(2_654_435_761) >> shift & 7).unwrap();
        let data = udp(
            [10, 0, 0, 2 + byte(3)],
            5000 + u16::from(byte(9)),
            [203, 0, 113, byte(15)],
            53,
        );
        (1_700_000_000_000_000_000 + u64::from(n) * 50_000, data)
    });
    capture(packets)
}

#[test]
fn a_chain_gives_what_its_stages_give_one_behind_the_other() {
    let input = conversation(4000);
    let nat = ["nat", "--outside", "198.51.100.1", "--seed", "5"];
    let late = [
        "impair",
        "--delay=3ms",
        "--jitter=2ms",
        "--loss=3%",
        "--duplicate=2%",
        "--seed",
        "9",
    ];
    let slow = [
        "impair",
        "--rate=2Mbit",
        "--limit=200",
        "--reorder=1%",
        "--delay=1ms",
    ];
    for stages in [
        &[&nat[..], &late[..]][..],
        &[&late, &nat],
        &[&late, &slow, &nat],
        &[&["count"], &nat, &late, &slow, &["count"]],
        &[&nat],
    ] {
        let line: Vec<_> = stages.iter().map(|words| words.join(" ")).collect();
        let line = line.join(" | ");
        let fused = through(&["chain", &line], &input);
        let apart = stages
            .iter()
            .fold(input.clone(), |bytes, words| through(words, &bytes));
        assert!(packets(&fused).len() > 100, "{line}");
        assert!(fused == apart, "{line}");
        assert!(fused == through(&["chain", &line], &input), "{line}");
    }
}

#[test]
fn programs_in_a_chain_see_the_recording_too() {
    let input = conversation(500);
    let line = "impair --delay 1s | cat | nat --outside 198.51.100.1";
    let expected = through(
        &["chain", "impair --delay 1s | nat --outside 198.51.100.1"],
        &input,
    );
    assert!(through(&["chain", line], &input) == expected);
}

#[test]
fn mistakes_end_a_chain_before_it_begins() {
    for (line, complaint) in [
        ("count | nat --outside x", "stage 2 (nat): "),
        (
            "count | plumb-no-such-program",
            "stage 2 (plumb-no-such-program): there is no such program",
        ),
        (
            "impair --reorder 5% | count",
            "--reorder lets packets overtake",
        ),
        (
            "if tap0 | count",
            "--offline is for a chain between two recordings",
        ),
        ("count |", "stage 2 is empty"),
    ] {
        let output = plumb(&["chain", line], &conversation(3));
        assert_eq!(output.status.code(), Some(2), "{line}");
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains(complaint), "{line}: {said}");
        assert!(output.stdout.is_empty(), "{line}");
    }
    for arguments in [
        &["chain"][..],
        &["chain", "count", "--file", "x"],
        &["chain", "--file", "/nonexistent"],
    ] {
        let output = Command::cargo_bin("plumb")
            .unwrap()
            .args(arguments)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
    }
}

/// A directory that goes with the test.
struct Directory(std::path::PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("plumb-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }

    fn packets(&self, name: &str) -> Vec<(u64, Vec<u8>)> {
        packets(&std::fs::read(self.0.join(name)).unwrap())
    }

    fn names(&self) -> Vec<String> {
        let names = std::fs::read_dir(&self.0).unwrap();
        let mut names: Vec<_> = names
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_mirror_passes_everything_on_and_copies_what_goes_the_chosen_way() {
    let directory = Directory::new("mirror");
    let input = conversation(2000);
    for (direction, count) in [("both", 2000), ("right", 2000), ("left", 0)] {
        let file = directory.file(direction);
        let arguments = ["mirror", "--to-file", &file, "--direction", direction];
        assert!(packets(&through(&arguments, &input)) == packets(&input));
        assert_eq!(directory.packets(direction), packets(&input)[..count]);
    }
    let short = directory.file("short");
    through(&["mirror", "--to-file", &short, "--snaplen", "20"], &input);
    let found = directory.packets("short");
    assert!(found.len() == 2000 && found.iter().all(|(_, data)| data.len() == 20));
}

#[test]
fn a_mirror_begins_another_file_by_size_or_time_and_keeps_some() {
    let directory = Directory::new("rotate");
    let input = conversation(2000);
    let by_size = [
        "mirror",
        "--to-file",
        &directory.file("s.pcapng"),
        "--rotate-size",
        "50k",
    ];
    through(&by_size, &input);
    let names = directory.names();
    assert_eq!(names[0], "s-00001.pcapng");
    let found: Vec<_> = names
        .iter()
        .flat_map(|name| directory.packets(name))
        .collect();
    assert!(found == packets(&input));
    for name in &names {
        let len = std::fs::metadata(directory.file(name)).unwrap().len();
        assert!(len <= 50_000, "{name} {len}");
        std::fs::remove_file(directory.file(name)).unwrap();
    }
    assert_eq!(names.len(), 4, "{names:?}");
    // 100 ms in all.
    let by_time = [
        "mirror",
        "--to-file",
        &directory.file("t"),
        "--rotate-time",
        "10ms",
        "--keep-files",
        "3",
    ];
    through(&by_time, &input);
    assert_eq!(directory.names(), ["t-00008", "t-00009", "t-00010"]);
    assert_eq!(directory.packets("t-00010").len(), 200);
}

#[test]
fn a_mirror_in_a_chain_sees_what_passes_there() {
    let directory = Directory::new("within");
    let input = conversation(300);
    let file = directory.file("seen");
    let line = format!("nat --outside 198.51.100.1 | mirror --to-file {file} | impair --loss 100%");
    assert!(packets(&through(&["chain", &line], &input)).is_empty());
    let translated = through(&["nat", "--outside", "198.51.100.1"], &input);
    assert!(directory.packets("seen") == packets(&translated));
}

#[test]
fn copies_go_to_another_pipe() {
    let directory = Directory::new("pipe");
    let input = conversation(3000);
    let (file, pipe) = (directory.file("in"), directory.file("pipe"));
    std::fs::write(&file, &input).unwrap();
    // Live, and as a recording whose copies have a reader that is late.
    for (options, reader, from) in [
        ("", "exec cat pipe", "(sleep 0.3; cat in)"),
        ("--offline", "sleep 0.3; exec cat pipe", "cat in"),
    ] {
        let script = format!(
            "cd {}; mkfifo pipe; ({reader} > copy) & \
             {from} | $P mirror {options} --to-pipe pipe > out; wait; rm pipe",
            directory.0.display()
        );
        let done = std::process::Command::new("bash")
            .args(["-c", &script])
            .env("P", assert_cmd::cargo::cargo_bin("plumb"))
            .status();
        assert!(done.unwrap().success());
        assert!(directory.packets("out") == packets(&input));
        assert!(directory.packets("copy") == packets(&input));
    }
    assert!(std::fs::metadata(pipe).is_err());
}
