//! Stages that a shell joins by pipes: nothing is lost or overtakes on the way from the pipe to the
//! ring, and every way for a neighbour to end, stop or share is survived.

#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test that fails may panic")]

use core::time::Duration;
use std::path::Path;

use plumb_tests::{Directory, Done, Running, require, shell};
use plumb_wire::capture::Reader;
use plumb_wire::frame::{Offload, PartialChecksum};
use plumb_wire::pcapng::{
    Interface, LinkType, MAX_BLOCK_LEN, Packet, Read, SECTION_LEN, emit_section,
};

const LIMIT: Duration = Duration::from_secs(60);

/// A place with recordings and a shell in which $P is plumb and the pipe's sockets are private.
struct Place(Directory);

impl Place {
    fn new() -> Self {
        let place = Self(Directory::new());
        std::fs::create_dir(place.0.file("run")).unwrap();
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        std::fs::set_permissions(place.0.file("run"), private).unwrap();
        place
    }

    /// Writes a recording of `count` frames, all different, as a file.
    fn record(&self, name: &str, seed: u32, count: u32) -> Vec<Frame> {
        let frames: Vec<_> = (0..count).map(|n| frame(seed, n)).collect();
        self.0.write(name, capture(LinkType::ETHERNET, &frames));
        frames
    }

    /// Runs a script in the place.
    fn sh(&self, script: &str) -> Done {
        let mut command = shell(script, &self.0);
        Running::start(command.env("XDG_RUNTIME_DIR", self.0.file("run"))).finish(LIMIT)
    }

    /// The frames in a file.
    fn frames(&self, name: &str) -> Vec<Frame> {
        frames(&self.0.file(name))
    }

    /// Sockets that are left.
    fn sockets(&self) -> usize {
        std::fs::read_dir(self.0.file("run/plumb")).map_or(0, Iterator::count)
    }
}

/// A time stamp and bytes.
type Frame = (u64, Vec<u8>);

/// The `n`-th frame of a recording: sizes of all kinds, and bytes that no other has.
fn frame(seed: u32, n: u32) -> Frame {
    let mut state = u64::from(seed) << 32 | u64::from(n);
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        state >> 33
    };
    let len = match next() % 50 {
        0 => 60_000,
        1..=5 => 9000,
        6..=20 => 1514,
        _ => 60 + next() % 400,
    };
    let mut bytes = vec![0; usize::try_from(len).unwrap()];
    for chunk in bytes.chunks_exact_mut(4) {
        chunk.copy_from_slice(&u32::try_from(next()).unwrap().to_le_bytes());
    }
    bytes[..8].copy_from_slice(&(u64::from(seed) << 32 | u64::from(n)).to_be_bytes());
    (1_700_000_000_000_000_000 + u64::from(n) * 1000, bytes)
}

fn capture(link_type: LinkType, frames: &[Frame]) -> Vec<u8> {
    capture_of(link_type, Offload::NONE, frames)
}

/// A recording of frames with which so much is left to do.
fn capture_of(link_type: LinkType, offload: Offload, frames: &[Frame]) -> Vec<u8> {
    let interface = Interface {
        link_type,
        name: "eth0",
    };
    let mut out = vec![0; SECTION_LEN + interface.block_len()];
    let at = emit_section(&mut out);
    interface.emit(&mut out[at..]);
    for (at_ns, data) in frames {
        let packet = Packet {
            at_ns: *at_ns,
            data,
            offload,
            ..Packet::default()
        };
        let at = out.len();
        out.resize(at + packet.block_len(), 0);
        packet.emit(&mut out[at..]);
    }
    out
}

fn frames(path: &Path) -> Vec<Frame> {
    let bytes = std::fs::read(path).unwrap();
    assert!(bytes.len() > 28, "{} is empty", path.display());
    let mut reader = Reader::new();
    let mut rest = &bytes[..];
    let mut found = Vec::new();
    while let Read::Packet(packet) = reader.read(&mut rest).unwrap() {
        found.push((packet.at_ns, packet.data.to_vec()));
    }
    reader.finish(rest).unwrap();
    found
}

/// Says where two lists of frames differ, without printing them.
#[track_caller]
fn assert_same(found: &[Frame], expected: &[Frame], done: &Done) {
    let at = found.iter().zip(expected).position(|(f, e)| f != e);
    assert!(
        at.is_none() && found.len() == expected.len(),
        "{} of {} frames, the first that differs is {at:?}: {done}",
        found.len(),
        expected.len()
    );
}

#[test]
fn a_chain_of_rings_loses_nothing_and_keeps_the_order() {
    let place = Place::new();
    let sent = place.record("in", 1, 20_000);
    let done = place.sh(
        "cat in | $P count --counters | $P count | $P count | $P count > out; echo ${PIPESTATUS[@]}",
    );
    assert_eq!(done.stdout, "0 0 0 0 0\n", "{done}");
    assert_same(&place.frames("out"), &sent, &done);
    assert_eq!(done.stderr.matches("[ring]").count(), 3, "{done}");
    assert_eq!(place.sockets(), 0);
}

#[test]
fn frames_before_the_upgrade_and_after_it_stay_in_order() {
    // The second stage is late, so that the first one's pipe is full when it comes; or it is early,
    // and frames trickle in while the two agree.
    let place = Place::new();
    let sent = place.record("in", 2, 3000);
    for script in [
        "cat in | $P count --counters | (sleep 0.3; exec $P count > out)",
        "(head -c 100000 in; sleep 0.2; tail -c +100001 in) | $P count --counters | $P count > out",
        "(for i in 1 2 3 4 5 6 7 8 9; do head -c 3000; sleep 0.01; done; cat) < in | \
         $P count --counters | $P count > out",
    ] {
        let done = place.sh(script).expect(0);
        assert_same(&place.frames("out"), &sent, &done);
        assert!(done.stderr.contains("[ring]"), "{done}");
    }
}

#[test]
fn foreign_programs_between_two_stages_keep_them_in_the_pipe() {
    let place = Place::new();
    let sent = place.record("in", 3, 3000);
    for between in ["tee copy", "cat", "dd bs=999 status=none"] {
        let done = place.sh(&format!(
            "cat in | $P count --counters | {between} | $P count > out; echo ${{PIPESTATUS[@]}}"
        ));
        assert_eq!(done.stdout, "0 0 0 0\n", "{done}");
        assert_same(&place.frames("out"), &sent, &done);
        assert!(
            done.stderr.contains("count: right: received 0 frames"),
            "{done}"
        );
        assert!(!done.stderr.contains("[ring]"), "{done}");
    }
    assert_same(&place.frames("copy"), &sent, &place.sh("true"));
}

#[test]
fn one_socket_for_both_streams_of_a_function_is_its_two_neighbours() {
    require!("socat");
    let place = Place::new();
    let sent = place.record("in", 17, 3000);
    // As behind ssh: what is read comes from the left, and what is written goes to the right.
    let done = place.sh(
        "$P count < in | socat -t 60 - EXEC:\"$P count --counters\" | $P count > out; \
         echo ${PIPESTATUS[@]}",
    );
    assert_eq!(done.stdout, "0 0 0\n", "{done}");
    assert_same(&place.frames("out"), &sent, &done);
    assert!(
        done.stderr.contains("count: right: received 0 frames"),
        "{done}"
    );
}

#[test]
fn without_upgrade_everything_goes_through_the_pipe() {
    let place = Place::new();
    let sent = place.record("in", 4, 3000);
    for (left, right) in [("--no-upgrade", ""), ("", "--no-upgrade")] {
        let script = format!("cat in | $P count {left} | $P count {right} > out");
        let done = place.sh(&script).expect(0);
        assert_same(&place.frames("out"), &sent, &done);
        assert!(!done.stderr.contains("[ring]"), "{done}");
    }
    assert_eq!(place.sockets(), 0);
}

/// What follows the headers of frames that a kernel has left work with stays in the kernel between pipes.
#[test]
fn large_frames_of_a_kernel_pass_pipes_whole_whoever_reads_and_writes_them() {
    let place = Place::new();
    let sent: Vec<_> = (0..400)
        .map(|n| {
            let (at_ns, mut bytes) = frame(18, n);
            bytes.resize([60, 65_000, 30_001, 9000, 64_998][n as usize % 5], 7);
            (at_ns, bytes)
        })
        .collect();
    let checksum = PartialChecksum {
        start: 34,
        offset: 16,
    };
    let offload = Offload {
        checksum: Some(checksum),
        ..Offload::NONE
    };
    let large = capture_of(LinkType::ETHERNET, offload, &sent);
    place.0.write("in", large);
    let count = "$P count --gso --no-upgrade --counters";
    for (script, stages) in [
        (format!("cat in | {count} | cat > out"), 1),
        (
            format!("cat in | {count} | {count} | {count} | cat > out"),
            3,
        ),
        (
            format!("dd if=in bs=777 status=none | {count} | cat > out"),
            1,
        ),
        // Pipes are full, and become free bit by bit.
        (
            format!("cat in | {count} | {count} | (sleep 0.3; dd bs=999 status=none) > out"),
            2,
        ),
        // What waits behind such a frame is a ring.
        (
            format!("cat in | {count} | $P count --gso --counters | $P count --gso > out"),
            2,
        ),
        // Nobody may read the file but as a whole.
        (format!("cat in | {count} > out"), 1),
        (
            "cat in | $P chain 'count | count' --gso --counters | cat > out".to_owned(),
            0,
        ),
    ] {
        let done = place.sh(&script).expect(0);
        assert_same(&place.frames("out"), &sent, &done);
        let bytes: usize = sent.iter().map(|(_, bytes)| bytes.len()).sum();
        let passed = format!("received 400 frames {bytes} bytes");
        assert!(done.stderr.matches(&passed).count() >= stages, "{done}");
    }
    // Nothing is left to do with what leaves for others.
    let done = place
        .sh("cat in | $P count --no-upgrade | cat > out")
        .expect(0);
    assert_eq!(place.frames("out").len(), sent.len(), "{done}");
}

#[test]
fn a_reader_that_is_killed_ends_its_writer_as_a_closed_pipe_does() {
    let place = Place::new();
    place.record("in", 5, 200);
    // Whether packets flow or not.
    for more in ["exec sleep 5", "while cat in; do true; done"] {
        let done = place.sh(&format!(
            "mkfifo ab; $P count < <(cat in; {more}) > ab & A=$!; \
             $P count < ab > out & B=$!; sleep 0.5; kill -9 $B; wait $A; echo $?; rm ab"
        ));
        assert_eq!(done.stdout, "141\n", "{done}");
    }
}

#[test]
fn a_writer_that_is_killed_is_the_end_of_input_and_what_it_sent_arrives() {
    let place = Place::new();
    let sent = place.record("in", 6, 500);
    let done = place.sh("mkfifo ab in1; (cat in; sleep 30) > in1 & \
         $P count < in1 > ab & A=$!; $P count < ab > out & B=$!; \
         sleep 0.7; kill -9 $A; wait $B; echo $?; kill %1");
    assert_eq!(done.stdout, "0\n", "{done}");
    assert_same(&place.frames("out"), &sent, &done);
}

#[test]
fn a_stage_in_the_middle_that_is_killed_ends_both_neighbours() {
    let place = Place::new();
    let sent = place.record("in", 7, 500);
    let done = place.sh(
        "mkfifo ab bc in1; (cat in; sleep 30) > in1 & $P count < in1 > ab & A=$!; \
         $P count < ab > bc & B=$!; $P count < bc > out & C=$!; \
         sleep 0.7; kill -9 $B; wait $A; echo $?; wait $C; echo $?; kill %1",
    );
    assert_eq!(done.stdout, "141\n0\n", "{done}");
    assert_same(&place.frames("out"), &sent, &done);
}

#[test]
fn a_stage_that_is_stopped_goes_on_where_it_was() {
    let place = Place::new();
    let sent = place.record("in", 8, 8000);
    // Either one, before the upgrade and after it.
    for stopped in ["A", "B"] {
        for before in ["0", "0.3"] {
            let done = place.sh(&format!(
                "rm -f ab in1; mkfifo ab in1; (head -c 200000 in; sleep 0.5; tail -c +200001 in) > in1 & \
                 $P count < in1 > ab & A=$!; $P count < ab > out & B=$!; \
                 sleep {before}; kill -STOP ${stopped}; sleep 0.6; kill -CONT ${stopped}; \
                 wait $A; echo $?; wait $B; echo $?"
            ));
            assert_eq!(done.stdout, "0\n0\n", "{done}");
            assert_same(&place.frames("out"), &sent, &done);
        }
    }
}

#[test]
fn a_signal_to_end_lets_out_what_came_in_but_not_what_is_held_back() {
    let place = Place::new();
    let sent = place.record("in", 18, 3000);
    // The one of the keyboard is ignored by what a script runs in the background.
    for signal in ["TERM", "HUP"] {
        for (function, left) in [("count", &sent[..]), ("impair --delay 60s", &[])] {
            let done = place.sh(&format!(
                "rm -f ab in1; mkfifo ab in1; $P {function} < in1 > ab & A=$!; \
                 $P count < ab > out & B=$!; exec 3> in1; cat in >&3; sleep 1; \
                 kill -{signal} $A; wait $A; echo $?; wait $B; echo $?"
            ));
            assert_eq!(done.stdout, "130\n0\n", "{signal} {function}: {done}");
            assert_same(&place.frames("out"), left, &done);
        }
    }
}

#[test]
fn writers_one_after_the_other_are_read_one_after_the_other() {
    let place = Place::new();
    let mut sent = place.record("in1", 9, 3000);
    sent.extend(place.record("in2", 10, 2000));
    let done = place.sh(
        "(cat in1 | $P count --counters; cat in2 | $P count --counters; cat in1) | \
         $P count > out; echo ${PIPESTATUS[@]}",
    );
    sent.extend_from_within(..3000);
    assert_eq!(done.stdout, "0 0\n", "{done}");
    assert_same(&place.frames("out"), &sent, &done);
    assert_eq!(done.stderr.matches("[ring]").count(), 2, "{done}");
}

#[test]
fn readers_one_after_the_other_get_what_their_predecessor_left() {
    let place = Place::new();
    let mut sent = place.record("in1", 11, 2000);
    sent.extend(place.record("in2", 12, 2000));
    let done = place.sh("(cat in1; sleep 3; cat in2) | $P count --counters | \
         (timeout -s INT 2 $P count > out1; echo $? > status; $P count > out2)");
    assert_eq!(
        std::fs::read_to_string(place.0.file("status")).unwrap(),
        "124\n"
    );
    let mut found = place.frames("out1");
    assert_eq!(found.len(), 2000, "{done}");
    found.extend(place.frames("out2"));
    assert_same(&found, &sent, &done);
}

#[test]
fn of_several_readers_one_gets_everything_and_the_other_says_that_it_got_nothing() {
    let place = Place::new();
    let sent = place.record("in", 13, 3000);
    let done = place.sh("(sleep 0.4; cat in) | $P count | \
         ($P count <&0 > out1 & A=$!; $P count <&0 > out2; echo $? > s2; wait $A; echo $? > s1)");
    let status = |name| std::fs::read_to_string(place.0.file(name)).unwrap();
    let winner = match (&status("s1")[..], &status("s2")[..]) {
        ("0\n", "2\n") => "out1",
        ("2\n", "0\n") => "out2",
        other => panic!("{other:?} {done}"),
    };
    assert_same(&place.frames(winner), &sent, &done);
    assert!(done.stderr.contains("plumb: "), "{done}");
}

#[test]
fn a_packet_is_not_kept_until_others_come() {
    let place = Place::new();
    let sent = place.record("in", 14, 1);
    for options in ["", "--no-upgrade"] {
        let done = place.sh(&format!(
            "(cat in; sleep 3) | $P count {options} | $P count {options} > out & \
             for i in $(seq 100); do sleep 0.05; test $(stat -c %s out) -gt 200 && break; done; \
             cp out seen; echo $i; kill $(jobs -p)"
        ));
        assert_same(&place.frames("seen"), &sent, &done);
    }
}

#[test]
fn a_stage_that_polls_stays_awake_after_a_frame_and_ends_as_any_other() {
    let place = Place::new();
    let sent = place.record("in", 19, 3);
    for (options, state) in [("--busy-poll 60s", "RRRRR"), ("", "SSSSS")] {
        let done = place.sh(&format!(
            "rm -f ab in1; mkfifo ab in1; $P count {options} < in1 > ab & A=$!; \
             $P count < ab > out & B=$!; exec 3> in1; cat in >&3; sleep 1; \
             for i in 1 2 3 4 5; do sleep 0.02; read _ _ state _ < /proc/$A/stat; \
             echo -n $state; done; exec 3>&-; wait $A; echo \" $?\"; wait $B; echo $?"
        ));
        assert_eq!(done.stdout, format!("{state} 0\n0\n"), "{options}: {done}");
        assert_same(&place.frames("out"), &sent, &done);
    }
}

#[test]
fn a_stage_that_polls_notices_that_a_neighbour_was_killed() {
    let place = Place::new();
    let sent = place.record("in", 20, 500);
    for (killed, status) in [("A", 0), ("C", 141)] {
        let done = place.sh(&format!(
            "rm -f ab bc in1; mkfifo ab bc in1; (cat in; sleep 50) > in1 & \
             $P count < in1 > ab & A=$!; $P count --busy-poll 600s < ab > bc & B=$!; \
             $P count < bc > out & C=$!; sleep 1; kill -9 ${killed}; wait $B; echo $?; \
             kill %1; wait $C"
        ));
        assert_eq!(done.stdout, format!("{status}\n"), "{killed}: {done}");
        if killed == "A" {
            assert_same(&place.frames("out"), &sent, &done);
        }
    }
}

#[test]
fn a_reader_that_has_seen_enough_ends_the_pipeline_quietly() {
    let place = Place::new();
    place.record("in", 15, 5000);
    let done = place.sh(
        "(cat in; cat in) | $P count | $P impair --delay 1ms | head -c 100 > /dev/null; \
         echo ${PIPESTATUS[@]}",
    );
    assert_eq!(done.stdout, "141 141 141 0\n", "{done}");
    assert!(!done.stderr.contains("plumb:"), "{done}");
}

#[test]
fn classic_captures_from_a_program_in_the_middle_are_read() {
    if plumb_tests::requirements(&["tcpdump"]).is_err() {
        plumb_tests::skip!("it needs tcpdump");
    }
    let place = Place::new();
    let sent = place.record("in", 16, 2000);
    let done = place.sh("cat in | $P count | tcpdump -U -r - -w - 2>/dev/null | $P count > out");
    let bytes = |frames: &[Frame]| -> Vec<Vec<u8>> { frames.iter().map(|f| f.1.clone()).collect() };
    assert!(bytes(&place.frames("out")) == bytes(&sent), "{done}");
}

#[test]
fn packets_of_another_link_type_and_other_bytes_are_refused_in_one_line() {
    let place = Place::new();
    let wrong = capture(LinkType::RAW, &[(1, vec![0x45; 40])]);
    place.0.write("raw", wrong);
    place.0.write("text", "GET / HTTP/1.1\r\n\r\n".repeat(10));
    let whole = capture(LinkType::ETHERNET, &[(1, vec![1; 400])]);
    place.0.write("cut", &whole[..whole.len() - 100]);
    place.0.write("empty", "");
    let mut long = whole;
    // A block that says it is longer than any may be.
    let at = SECTION_LEN + 4;
    long[at..at + 4].copy_from_slice(&u32::try_from(MAX_BLOCK_LEN + 4).unwrap().to_le_bytes());
    place.0.write("long", long);
    for (file, complaint) in [
        ("raw", "link type 101"),
        ("text", "pcapng or pcap"),
        ("cut", "ends within a packet"),
        ("empty", "is empty"),
        ("long", "block length"),
    ] {
        let done = place.sh(&format!(
            "cat {file} | $P impair > out; exit ${{PIPESTATUS[1]}}"
        ));
        let done = done.expect(2);
        assert!(done.stderr.contains(complaint), "{done}");
        assert_eq!(done.stderr.lines().count(), 1, "{done}");
    }
}

#[test]
fn a_stopped_reader_costs_packets_only_where_that_was_asked_for() {
    let place = Place::new();
    let sent = place.record("in", 17, 20_000);
    for options in ["--drop", "--block"] {
        let done = place.sh(&format!(
            "rm -f ab; mkfifo ab; cat in | $P count {options} > ab & $P count < ab > out & B=$!; \
             sleep 0.05; kill -STOP $B; sleep 1; kill -CONT $B; wait",
        ));
        let found = place.frames("out");
        let lost = sent.len() - found.len();
        let counted = done.stderr.contains(&format!("no room {lost}, "));
        assert!(
            counted && (lost > 0) == (options == "--drop"),
            "{lost} {done}"
        );
    }
}

#[test]
fn sockets_of_stages_that_were_killed_are_removed_later() {
    let place = Place::new();
    let sockets = |script: &str| {
        place.sh(script);
        place.sockets()
    };
    let kill = "sleep 3 | $P count | sleep 3 & sleep 0.3; kill -9 $(pgrep -P $$ plumb)";
    assert_eq!(sockets(kill), 1);
    let age = "touch -d '5 minutes ago' run/plumb/* run/plumb; true | $P count | cat > /dev/null";
    assert_eq!(sockets(age), 0);
}
