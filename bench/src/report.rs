//! The report of a run: tables for people, and every single run as NDJSON.

use core::fmt::Write as _;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;

use anyhow::Context;
use serde::Serialize;
use serde_json::json;

use crate::stats::Summary;

/// Collects figures as they are measured.
#[derive(Debug)]
pub(crate) struct Report {
    raw: File,
    text: String,
}

impl Report {
    /// Begins a report beside which the single runs are written to `raw`.
    pub(crate) fn new(title: &str, raw: &Path) -> anyhow::Result<Self> {
        if let Some(folder) = raw.parent() {
            fs::create_dir_all(folder)?;
        }
        let raw = File::create(raw).with_context(|| format!("cannot write {}", raw.display()))?;
        Ok(Self {
            raw,
            text: format!("# {title}\n"),
        })
    }

    /// Keeps one run.
    pub(crate) fn run(&mut self, measurement: &str, run: &impl Serialize) -> anyhow::Result<()> {
        let line = json!({ "measurement": measurement, "run": run });
        writeln!(self.raw, "{line}").context("cannot write a run")
    }

    /// Adds a paragraph.
    pub(crate) fn say(&mut self, text: &str) {
        let _ = write!(self.text, "\n{text}\n");
    }

    /// Adds a table.
    pub(crate) fn table(&mut self, head: &[&str], rows: &[Vec<String>]) {
        let _ = writeln!(self.text, "\n| {} |", head.join(" | "));
        let _ = writeln!(self.text, "|{}", "---|".repeat(head.len()));
        for row in rows {
            let _ = writeln!(self.text, "| {} |", row.join(" | "));
        }
    }

    /// The report as Markdown.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }
}

/// A summary with this many decimals: median, and quartiles in brackets.
pub(crate) fn spread(figures: Vec<f64>, decimals: usize) -> String {
    match Summary::of(figures) {
        Some(s) if s.runs > 1 => format!(
            "{:.decimals$} [{:.decimals$}, {:.decimals$}]",
            s.median, s.lower, s.upper
        ),
        Some(s) => format!("{:.decimals$}", s.median),
        None => String::from("-"),
    }
}

/// The ratio of two medians, or a dash where one is missing.
pub(crate) fn ratio(of: Vec<f64>, to: Vec<f64>) -> String {
    match (Summary::of(of), Summary::of(to)) {
        (Some(of), Some(to)) if to.median > 0.0 => format!("{:.1}x", of.median / to.median),
        _ => String::from("-"),
    }
}
