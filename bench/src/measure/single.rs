//! One trace, as people run it.

use serde_json::json;

use super::Bench;
use crate::chain;
use crate::child;
use crate::report::{ratio, spread};

/// Traces one target with each program.
pub(super) fn measure(bench: &mut Bench) -> anyhow::Result<()> {
    bench.report.say(
        "## One trace\n\n\
         Six hops without delay, from the program's start to its end, any CPU. At their own rate \
         scamper sends 20 packets a second, plumb 1000.",
    );
    let plumb = bench.plumb().to_owned();
    let target = chain::target(77).to_string();
    let target = target.as_str();
    let icmp = "trace -P icmp-paris";
    let programs: [(&str, Vec<&str>); 8] = [
        (
            "plumb trace -r unlimited",
            vec![&plumb, "trace", "-r", "unlimited", target],
        ),
        (
            "plumb trace -r unlimited --no-tunnels",
            vec![&plumb, "trace", "-r", "unlimited", "--no-tunnels", target],
        ),
        ("plumb trace", vec![&plumb, "trace", target]),
        (
            "scamper -p 10000",
            vec!["scamper", "-p", "10000", "-c", icmp, "-i", target],
        ),
        ("scamper", vec!["scamper", "-c", icmp, "-i", target]),
        (
            "traceroute -I -q1 -N16 -n",
            vec!["traceroute", "-I", "-q1", "-N16", "-n", target],
        ),
        ("traceroute -I -n", vec!["traceroute", "-I", "-n", target]),
        ("mtr -n -r -c 1", vec!["mtr", "-n", "-r", "-c", "1", target]),
    ];
    let mut times: Vec<Vec<f64>> = vec![Vec::new(); programs.len()];
    let most = if bench.quick {
        5
    } else {
        bench.repetitions * 5
    };
    let slow_runs = if bench.quick { 1 } else { 3 };
    for round in 0..most {
        for ((name, command), times) in programs.iter().zip(&mut times) {
            // What takes long needs fewer runs to be known well.
            let slow = times.last().is_some_and(|ms| *ms > 100.0);
            if (slow && round >= slow_runs) || (round > 0 && times.is_empty()) {
                continue;
            }
            match child::run(&bench.chain.source(None), command, &[0]) {
                Ok(cost) => {
                    times.push(cost.wall_s * 1e3);
                    bench
                        .report
                        .run("single", &json!({ "command": name, "wall_s": cost.wall_s }))?;
                }
                Err(error) if command[0] == plumb => return Err(error),
                Err(_) => {}
            }
        }
    }
    let mut rows = Vec::new();
    for ((name, _), ms) in programs.iter().zip(&times) {
        rows.push(vec![
            format!("`{name}`"),
            ms.len().to_string(),
            spread(ms.clone(), 1),
            ratio(ms.clone(), times[0].clone()),
        ]);
    }
    bench
        .report
        .table(&["", "runs", "ms", "to the first"], &rows);
    Ok(())
}
