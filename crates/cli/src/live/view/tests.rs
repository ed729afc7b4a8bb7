use core::time::Duration;

use plumb_record::Trace;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::Buffer;
use ratatui::style::{Color, Modifier};

use super::*;
use crate::live::columns::ColumnSet;
use crate::live::keys::Action;
use crate::live::testing::{World, noisy, options, pace, seen, target, text};
use crate::output::fixtures;
use crate::output::style::Look;

const PLAIN: Look = Look {
    colour: false,
    unicode: true,
};

fn drawn(session: &Session, ui: &Ui, now: Instant, stats: Stats, size: (u16, u16)) -> Buffer {
    let mut terminal = Terminal::new(TestBackend::new(size.0, size.1)).unwrap();
    let screen = Screen {
        session,
        ui,
        stats,
        rate: Some(1000),
        unprivileged: false,
        now,
    };
    terminal.draw(|frame| draw(frame, &screen)).unwrap();
    terminal.backend().buffer().clone()
}

fn of_world(world: &World, ui: &Ui, size: (u16, u16)) -> String {
    text(&drawn(&world.session, ui, world.now, world.stats(), size))
}

/// So many rounds of the path of `trace`, some replies lost, on a screen of this size.
fn of_rounds(trace: &Trace, rounds: u64, ui: &Ui, size: (u16, u16)) -> String {
    let session = seen(&noisy(trace, rounds));
    let now = Instant::from_millis(rounds * 1000 - 500);
    text(&drawn(&session, ui, now, Stats::default(), size))
}

fn lab(name: &str, seconds: u64) -> World {
    let mut world = World::lab(name, pace());
    world.run(Duration::from_millis(seconds * 1000 + 500));
    world
}

#[test]
fn a_revealed_tunnel_is_bracketed_with_its_routers_inside() {
    let ui = Ui::new(PLAIN);
    insta::assert_snapshot!(of_rounds(&fixtures::php(), 20, &ui, (100, 20)));
}

#[test]
fn the_smallest_terminal_shows_what_matters_most() {
    let world = lab("mixed", 20);
    let ui = Ui {
        selected: Some(6),
        ..Ui::new(PLAIN)
    };
    insta::assert_snapshot!(of_world(&world, &ui, (60, 15)));
}

#[test]
fn a_wide_terminal_is_filled_with_history() {
    let ui = Ui::new(PLAIN);
    insta::assert_snapshot!(of_rounds(&fixtures::uhp(), 55, &ui, (180, 18)));
}

#[test]
fn several_targets_have_tabs() {
    let mut world = World::lab("wide", pace());
    world.run(Duration::from_millis(4500));
    let mut ui = Ui::new(PLAIN);
    assert!(!ui.apply(Action::Tab(2), &mut world.session, world.now));
    insta::assert_snapshot!(of_world(&world, &ui, (90, 15)));
}

#[test]
fn the_details_of_a_hop_explain_its_tunnel() {
    let ui = Ui {
        selected: Some(3),
        detail: true,
        columns: ColumnSet::Tunnels,
        ..Ui::new(PLAIN)
    };
    insta::assert_snapshot!(of_rounds(&fixtures::php(), 20, &ui, (100, 40)));
}

#[test]
fn jitter_has_columns_of_its_own() {
    let ui = Ui {
        columns: ColumnSet::Jitter,
        tunnels: false,
        ..Ui::new(PLAIN)
    };
    insta::assert_snapshot!(of_rounds(&fixtures::explicit(), 30, &ui, (90, 14)));
}

#[test]
fn help_lies_over_everything() {
    let world = lab("plain", 3);
    let ui = Ui {
        help: true,
        ..Ui::new(PLAIN)
    };
    insta::assert_snapshot!(of_world(&world, &ui, (80, 32)));
}

#[test]
fn ascii_is_enough() {
    let world = lab("mixed", 20);
    for (detail, help) in [(false, false), (true, false), (false, true)] {
        let ui = Ui {
            selected: Some(4),
            detail,
            help,
            ..Ui::new(Look {
                colour: false,
                unicode: false,
            })
        };
        let text = of_world(&world, &ui, (110, 40));
        assert!(text.is_ascii(), "{text}");
        if !detail && !help {
            insta::assert_snapshot!(text);
        }
    }
}

#[test]
fn after_three_seconds_of_silence_the_screen_says_why_that_may_be() {
    let trace = fixtures::plain();
    let mut session = Session::new(
        vec![target(&trace)],
        options(),
        pace(),
        7,
        false,
        Instant::ZERO,
    );
    session.poll_round(Instant::ZERO).unwrap();
    let stats = Stats {
        sent: 24,
        ignored: 3,
        ..Stats::default()
    };
    let ui = Ui::new(PLAIN);
    let at = |millis| {
        let now = Instant::from_millis(millis);
        text(&drawn(&session, &ui, now, stats, (80, 15)))
    };
    assert!(!at(2900).contains("No answer"), "{}", at(2900));
    insta::assert_snapshot!(at(3100));
}

#[test]
fn a_firewall_in_front_of_the_destination_is_suspected() {
    let traces = [fixtures::silent_hops(), fixtures::silent_hops()];
    let session = seen(&traces);
    let now = Instant::from_millis(5600);
    let text = text(&drawn(
        &session,
        &Ui::new(PLAIN),
        now,
        Stats::default(),
        (80, 15),
    ));
    assert!(
        text.contains("the last answer is from 5.0.2.2 at hop 2"),
        "{text}"
    );
    assert!(text.contains("no reply"), "{text}");
}

#[test]
fn a_loop_a_changed_path_and_a_pause_are_pointed_out() {
    let mut session = seen(&[fixtures::looping()]);
    let ui = Ui::new(PLAIN);
    let draw = |session: &Session| {
        let now = Instant::from_millis(1500);
        text(&drawn(session, &ui, now, Stats::default(), (80, 15)))
    };
    assert!(draw(&session).contains("5.0.1.1 loop"));
    session.toggle_pause();
    assert!(draw(&session).contains("paused"));
    let mut moved = fixtures::php();
    moved.tunnels.clear();
    moved.hops[2].addr = moved.hops[0].addr;
    let text = draw(&seen(&[fixtures::php(), moved]));
    assert!(text.contains("5.0.1.1 +1"), "{text}");
    assert!(text.contains("path changed since: MPLS"), "{text}");
}

#[test]
fn every_fixture_fits_every_size() {
    for (name, trace) in fixtures::all() {
        let session = seen(&[trace.clone(), trace]);
        for (columns, detail, help) in [
            (ColumnSet::Delay, true, false),
            (ColumnSet::Jitter, false, true),
            (ColumnSet::Tunnels, true, false),
        ] {
            let ui = Ui {
                selected: Some(2),
                detail,
                help,
                columns,
                ..Ui::new(PLAIN)
            };
            for size in [(1, 1), (20, 20), (40, 8), (60, 15), (120, 30)] {
                let now = Instant::from_millis(9000);
                let text = text(&drawn(&session, &ui, now, Stats::default(), size));
                assert_eq!(
                    text.contains("This terminal"),
                    size.0 == 20,
                    "{name}:\n{text}"
                );
            }
        }
    }
}

#[test]
fn the_selected_hop_stays_in_view_however_small_the_terminal() {
    let world = lab("mixed", 5);
    let ttls: Vec<u8> = world
        .session
        .target(0)
        .unwrap()
        .hops()
        .map(|hop| hop.ttl())
        .collect();
    for ttl in ttls {
        let ui = Ui {
            selected: Some(ttl),
            ..Ui::new(PLAIN)
        };
        let buffer = drawn(&world.session, &ui, world.now, world.stats(), (60, 10));
        let reversed =
            (0..buffer.area.height).any(|y| buffer[(8, y)].modifier.contains(Modifier::REVERSED));
        assert!(reversed, "hop {ttl}:\n{}", text(&buffer));
    }
}

#[test]
fn colour_only_where_it_is_wanted_and_it_changes_no_text() {
    let session = seen(&noisy(&fixtures::explicit(), 30));
    let colour = Ui::new(Look {
        colour: true,
        unicode: true,
    });
    let now = Instant::from_millis(29_500);
    let draw = |ui| drawn(&session, ui, now, Stats::default(), (120, 24));
    let coloured = draw(&colour);
    let plain = draw(&Ui::new(PLAIN));
    assert_eq!(text(&coloured), text(&plain));
    let colours = |buffer: &Buffer| {
        let content = buffer.content.iter();
        content.filter(|cell| cell.fg != Color::Reset).count()
    };
    assert_eq!(colours(&plain), 0);
    assert!(colours(&coloured) > 20);
}

#[test]
fn a_loss_that_later_hops_do_not_share_is_not_alarming() {
    let mut lossy = fixtures::plain();
    lossy.hops[1].addr = None;
    lossy.hops[1].rtt_ns = None;
    let mut traces = vec![lossy; 5];
    traces.push(fixtures::plain());
    let session = seen(&traces);
    let target = session.target(0).unwrap();
    assert!(explain::loss_is_local(target, 2));
    assert!(explain::loss(target, 2).unwrap().contains("limits"));
    let ui = Ui::new(Look {
        colour: true,
        unicode: true,
    });
    let now = Instant::from_millis(6000);
    let buffer = drawn(&session, &ui, now, Stats::default(), (60, 15));
    let red = buffer.content.iter().filter(|cell| cell.fg == Color::Red);
    let red: String = red.map(ratatui::buffer::Cell::symbol).collect();
    assert!(red.chars().all(|c| c == '×'), "{red}");
}
