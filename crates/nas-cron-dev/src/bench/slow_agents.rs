//! The number of slow agents of a run.

use std::str::FromStr;

/// Slow agents: a number, or a share of all agents.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum SlowAgents {
    /// This many.
    Count(usize),
    /// Percent of all agents.
    Percent(f64),
}

impl SlowAgents {
    /// Returns their number out of all agents: for a share above 0 at least one.
    #[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "at most the number of agents"
    )]
    pub(super) fn of(self, agents: usize) -> usize {
        match self {
            Self::Count(count) => count,
            Self::Percent(percent) => (agents as f64 * percent / 100.0).ceil() as usize,
        }
    }
}

impl FromStr for SlowAgents {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let malformed = "must be a number of agents, such as 10, or a share of all agents, such as 1%";
        match text.strip_suffix('%') {
            Some(percent) => match percent.parse() {
                Ok(percent) if (0.0..100.0).contains(&percent) => Ok(Self::Percent(percent)),
                Ok(_) => Err("must be a share from 0% to less than 100%"),
                Err(_) => Err(malformed),
            },
            None => text.parse().map(Self::Count).map_err(|_| malformed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slow_agents_are_a_number_or_a_share() {
        let of_1000 = |text: &str| text.parse::<SlowAgents>().map(|slow| slow.of(1_000));
        assert_eq!(of_1000("10"), Ok(10));
        assert_eq!(of_1000("1%"), Ok(10));
        assert_eq!(of_1000("0.01%"), Ok(1), "rounded up");
        assert_eq!((of_1000("0"), of_1000("0%")), (Ok(0), Ok(0)));
        for wrong in ["", "%", "x", "-1", "1.5", "-1%", "100%", "NaN%"] {
            assert!(of_1000(wrong).is_err(), "{wrong:?}");
        }
    }
}
