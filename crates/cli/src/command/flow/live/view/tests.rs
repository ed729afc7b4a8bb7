use plumb_record::{FlowEnd, FlowPhase};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::Buffer;

use super::*;
use crate::command::flow::live::keys::Prompt;
use crate::command::flow::live::testing::profile;
use crate::live::testing::text;
use crate::output::style::Look;

const PLAIN: Look = Look {
    colour: false,
    unicode: true,
};
const SECOND: u64 = 1_000_000_000;

fn ui() -> Ui {
    Ui::new(Field::Rate, PLAIN)
}

/// Two looks a second apart: one connection that loads, one that idles, one that loses, one that
/// opens, one that has ended.
fn model() -> (Model, Instant) {
    let start = Instant::from_millis(1_000_000);
    let mut model = Model::default();
    let mut download = profile(1);
    (download.process, download.pid) = (Some("curl".into()), Some(4711));
    download.open = Some(FlowOpen::Active);
    download.rtt_ns = Some(12_345_678);
    download.rtt_min_ns = Some(11_000_000);
    (download.packets_retransmitted, download.data_packets_sent) = (Some(0), Some(10));
    (download.start.0, download.end.0) = (0, 5 * SECOND);
    let mut idle = profile(2);
    (idle.process, idle.pid) = (Some("a-long-name-of-a".into()), Some(1_234_567));
    idle.open = Some(FlowOpen::Passive);
    idle.local_addr = "2001:db8:1234:5678::1".parse().unwrap();
    idle.remote_addr = "2001:db8::2".parse().unwrap();
    let mut lossy = profile(3);
    lossy.phase = FlowPhase::Lossy;
    (lossy.packets_retransmitted, lossy.data_packets_sent) = (Some(30), Some(400));
    lossy.rtos = Some(2);
    let mut opening = profile(4);
    opening.phase = FlowPhase::Establishing;
    (opening.process, opening.pid) = (Some("ssh".into()), Some(8));
    let mut gone = profile(5);
    gone.end_reason = Some(FlowEnd::ResetReceived);
    (gone.process, gone.pid) = (Some("ev\x1b[2Jil".into()), Some(9));
    for (bytes, at) in [
        (1_000_000, start),
        (6_500_000, start + Duration::from_secs(1)),
    ] {
        model.begin_look();
        download.bytes_received = bytes;
        lossy.bytes_sent = bytes / 100;
        for profile in [&download, &idle, &lossy, &opening] {
            model.handle_look(profile.clone(), at);
        }
        model.end_look(at);
    }
    let now = start + Duration::from_millis(1400);
    model.handle_end(gone, now);
    (model, now)
}

fn drawn(ui: &Ui, size: (u16, u16)) -> Buffer {
    let (model, now) = model();
    let mut terminal = Terminal::new(TestBackend::new(size.0, size.1)).unwrap();
    let screen = Screen {
        model: &model,
        ui,
        totals: Totals {
            connections: 812,
            profiles: 1620,
            lost: 0,
        },
        interval: Duration::from_secs(1),
        started: Instant::from_millis(1_000_000 - 61_000),
        now,
    };
    terminal.draw(|frame| draw(frame, &screen)).unwrap();
    terminal.backend().buffer().clone()
}

fn of(ui: &Ui, size: (u16, u16)) -> String {
    text(&drawn(ui, size))
}

#[test]
fn the_busiest_connection_is_first() {
    insta::assert_snapshot!(of(&ui(), (160, 12)));
}

#[test]
fn the_smallest_terminal_shows_what_it_is_sorted_by() {
    let mut ui = ui();
    ui.sort = Field::named("rtt_ns").unwrap();
    insta::assert_snapshot!(of(&ui, (80, 8)));
}

#[test]
fn any_field_gets_a_column() {
    let mut ui = ui();
    ui.sort = Field::named("spurious_retransmissions").unwrap();
    ui.reverse = true;
    let shown = of(&ui, (120, 10));
    assert!(shown.contains("spurious_retransmissions  "), "{shown}");
    assert!(
        shown.contains("by spurious_retransmissions, reversed"),
        "{shown}"
    );
}

#[test]
fn details_tell_every_field_with_its_meaning() {
    let mut ui = ui();
    (ui.selected, ui.detail) = (Some((0, 1)), true);
    insta::assert_snapshot!(of(&ui, (150, 24)));
}

#[test]
fn help_lies_over_everything() {
    let mut ui = ui();
    ui.help = true;
    insta::assert_snapshot!(of(&ui, (100, 24)));
}

#[test]
fn what_is_typed_is_shown_with_what_it_will_do() {
    let mut ui = ui();
    ui.prompt = Some(Prompt {
        asks: Asks::Sort,
        text: "spu".into(),
    });
    let shown = of(&ui, (100, 10));
    assert!(
        shown.contains("sort by: spu    enter: spurious_retransmissions"),
        "{shown}"
    );
    ui.prompt = Some(Prompt {
        asks: Asks::Filter,
        text: "curl".into(),
    });
    ui.filter = "curl".into();
    let shown = of(&ui, (100, 10));
    assert!(shown.contains("only rows with: curl"), "{shown}");
    assert!(
        shown.contains("curl/4711") && !shown.contains("ssh/8"),
        "{shown}"
    );
}

#[test]
fn no_size_of_terminal_is_too_odd_and_no_name_moves_the_cursor() {
    for look in [
        PLAIN,
        Look {
            colour: true,
            unicode: false,
        },
    ] {
        for (help, detail) in [(false, false), (true, false), (false, true)] {
            for size in [
                (1, 1),
                (40, 6),
                (41, 7),
                (79, 3),
                (60, 200),
                (500, 6),
                (300, 100),
            ] {
                let mut ui = Ui::new(Field::named("local_addr").unwrap(), look);
                (ui.help, ui.detail) = (help, detail);
                ui.selected = Some((0, 2));
                let shown = of(&ui, size);
                assert!(!shown.contains('\x1b'), "{shown}");
                if !look.unicode && size.0 < 300 {
                    assert!(shown.is_ascii(), "{shown}");
                }
            }
        }
    }
}

#[test]
fn what_is_lost_and_what_stands_still_is_said() {
    let (model, now) = model();
    let mut ui = ui();
    ui.paused = true;
    let screen = Screen {
        model: &model,
        ui: &ui,
        totals: Totals {
            lost: 7,
            ..Totals::default()
        },
        interval: Duration::from_secs(2),
        started: now,
        now,
    };
    let lines: Vec<String> = header(&screen, 120)
        .iter()
        .map(ToString::to_string)
        .collect();
    assert!(lines[0].ends_with("paused  00:00:00"), "{lines:?}");
    assert!(lines[1].ends_with("7 events lost"), "{lines:?}");
}
