//! The results in `docs/performance.md` are those that `bench/peers` has published, and its arithmetic is right.

use super::python::python;

#[test]
fn published_tables_are_those_of_the_results() {
    python(&["bench/peers", "--results", "docs/performance/peers.json", "--check"]);
}

#[test]
fn medians_ratios_and_tables_are_right() {
    python(&["-m", "unittest", "discover", "bench/peers"]);
}
