//! Conversion of durations to and from seconds as `float8`: the argument of `make_interval(secs => …)`, and the result
//! of `extract(epoch FROM …)`.

use std::time::Duration;

use crate::domain::arm_rules::ArmRules;

/// Returns the duration of this many seconds; zero if they are negative, as for an instant in the past.
pub(super) fn duration(seconds: f64) -> Duration {
    if seconds > 0.0 { Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX) } else { Duration::ZERO }
}

/// [`ArmRules`] as arguments of a statement.
#[derive(Clone, Copy, Debug)]
pub(super) struct RuleColumns {
    pub(super) fire_floor: f64,
    pub(super) second_fire_delay: f64,
    pub(super) second_fire_interval: f64,
    /// Compared with a `smallint`.
    pub(super) second_fires_max: i16,
    pub(super) claim_lifetime: f64,
    pub(super) duplicate_delay: f64,
}

impl From<&ArmRules> for RuleColumns {
    fn from(rules: &ArmRules) -> Self {
        Self {
            fire_floor: rules.fire_floor.as_secs_f64(),
            second_fire_delay: rules.second_fire_delay.as_secs_f64(),
            second_fire_interval: rules.second_fire_interval.as_secs_f64(),
            second_fires_max: i16::try_from(rules.second_fires_max).unwrap_or(i16::MAX),
            claim_lifetime: rules.claim_lifetime.as_secs_f64(),
            duplicate_delay: rules.duplicate_delay.as_secs_f64(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn negative_seconds_become_zero() {
        assert_eq!(duration(1.5), Duration::from_millis(1_500));
        for passed in [0.0, -0.0, -3.0, f64::NEG_INFINITY, f64::NAN] {
            assert_eq!(duration(passed), Duration::ZERO, "{passed}");
        }
        assert_eq!(duration(f64::INFINITY), Duration::MAX);
    }

    #[test]
    fn second_fires_max_is_capped_at_the_columns_maximum() {
        let rules = ArmRules {
            fire_floor: Duration::from_millis(1_500),
            second_fire_delay: Duration::from_mins(1),
            second_fire_interval: Duration::from_mins(5),
            second_fires_max: u32::MAX,
            claim_lifetime: Duration::from_mins(5),
            duplicate_delay: Duration::from_secs(330),
        };
        let columns = RuleColumns::from(&rules);
        assert_eq!((columns.second_fires_max, columns.fire_floor.to_bits()), (i16::MAX, 1.5_f64.to_bits()));
    }
}
