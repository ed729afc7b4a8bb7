//! Which frames are lost.

use plumb_wire::SplitMix64;

use crate::probability::Probability;

/// How frames get lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// Each with the same probability, whatever happened to those before.
    Random(Probability),
    /// A link that is good or bad and changes between the two with each frame
    /// (Gilbert 1960, Elliott 1963).
    GilbertElliott {
        /// From good to bad.
        fail: Probability,
        /// From bad to good.
        recover: Probability,
        /// A frame is lost while the link is bad.
        in_bad: Probability,
        /// A frame is lost while the link is good.
        in_good: Probability,
    },
}

impl Default for Loss {
    fn default() -> Self {
        Self::Random(Probability::NEVER)
    }
}

/// A link that loses frames.
#[derive(Clone, Debug)]
pub(super) struct Lossy {
    loss: Loss,
    bad: bool,
}

impl Lossy {
    pub(super) const fn new(loss: Loss) -> Self {
        Self { loss, bad: false }
    }

    /// Says whether the next frame is lost.
    pub(super) fn loses(&mut self, random: &mut SplitMix64) -> bool {
        match self.loss {
            Loss::Random(probability) => probability.happens(random),
            Loss::GilbertElliott {
                fail,
                recover,
                in_bad,
                in_good,
            } => {
                self.bad = if self.bad {
                    !recover.happens(random)
                } else {
                    fail.happens(random)
                };
                if self.bad { in_bad } else { in_good }.happens(random)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Share of frames lost, and mean length of a run of losses.
    fn run(loss: Loss) -> (f64, f64) {
        let (mut random, mut lossy) = (SplitMix64::new(3), Lossy::new(loss));
        let (mut lost, mut bursts, mut before) = (0u32, 0u32, false);
        for _ in 0..200_000 {
            let loses = lossy.loses(&mut random);
            lost += u32::from(loses);
            bursts += u32::from(loses && !before);
            before = loses;
        }
        (
            f64::from(lost) / 200_000.0,
            f64::from(lost) / f64::from(bursts),
        )
    }

    #[test]
    fn random_losses_come_alone_and_a_gilbert_elliott_link_loses_in_bursts() {
        let (share, burst) = run(Loss::Random(Probability::ratio(2, 100)));
        assert!((share - 0.02).abs() < 0.002, "{share}");
        assert!(burst < 1.05, "{burst}");
        // In the long run it is bad for fail / (fail + recover) of the frames, each time for
        // 1 / recover of them.
        let (share, burst) = run(Loss::GilbertElliott {
            fail: Probability::ratio(1, 100),
            recover: Probability::ratio(1, 4),
            in_bad: Probability::ALWAYS,
            in_good: Probability::NEVER,
        });
        assert!((share - 1.0 / 26.0).abs() < 0.004, "{share}");
        assert!((burst - 4.0).abs() < 0.2, "{burst}");
    }
}
