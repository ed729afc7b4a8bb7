//! Medians and quartiles.

use serde::Serialize;

/// The middle of a set of figures, and how far it spreads.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Summary {
    /// Figures in the set.
    pub(crate) runs: usize,
    /// A quarter of the figures is below.
    pub(crate) lower: f64,
    /// Half of the figures is below.
    pub(crate) median: f64,
    /// Three quarters of the figures are below.
    pub(crate) upper: f64,
}

impl Summary {
    /// The summary of figures; `None` of no figures.
    pub(crate) fn of(mut figures: Vec<f64>) -> Option<Self> {
        figures.sort_by(f64::total_cmp);
        let last = figures.len().checked_sub(1)?;
        // Between the two nearest figures, in proportion.
        let at = |quarters: usize| {
            let (below, part) = (last * quarters / 4, last * quarters % 4);
            let above = figures[(below + 1).min(last)];
            figures[below] + (above - figures[below]) * part as f64 / 4.0
        };
        Some(Self {
            runs: figures.len(),
            lower: at(1),
            median: at(2),
            upper: at(3),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quartiles(figures: &[f64]) -> Option<(f64, f64, f64)> {
        Summary::of(figures.to_vec()).map(|s| (s.lower, s.median, s.upper))
    }

    #[test]
    fn quartiles_lie_between_the_nearest_figures_in_any_order() {
        assert_eq!(quartiles(&[5.0, 1.0, 3.0, 2.0, 4.0]), Some((2.0, 3.0, 4.0)));
        assert_eq!(quartiles(&[4.0, 1.0, 2.0, 3.0]), Some((1.75, 2.5, 3.25)));
        assert_eq!(quartiles(&[7.0]), Some((7.0, 7.0, 7.0)));
        assert_eq!(quartiles(&[]), None);
    }
}
