//! The tables and the plot of `docs/scaling.md` follow from the measured costs, and the programs behind them are right.

use super::python::python;

#[test]
fn page_has_the_results_of_the_measured_costs() {
    python(&["bench/fleet", "--check"]);
}

#[test]
fn model_follows_its_rules_and_explains_the_measured_burst() {
    python(&["-m", "unittest", "discover", "bench/fleet"]);
}

#[test]
fn measures_at_scale_compute_what_they_print() {
    python(&["-m", "unittest", "discover", "bench/scale"]);
}
