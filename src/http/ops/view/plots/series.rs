//! The shapes of series, as path data of an SVG.

use std::fmt::Write as _;

use super::scale::{Scale, as_f64};

/// Width of the drawing, in its own units.
pub(super) const WIDTH: f64 = 600.0;
/// Share of a bar's place that stays empty.
const GAP: f64 = 0.15;

/// Returns a bar for each span from its first to its second value.
pub(super) fn bars(spans: impl ExactSizeIterator<Item = (i64, i64)>, scale: &impl Scale) -> String {
    let place = WIDTH / as_f64(i64::try_from(spans.len().max(1)).unwrap_or(i64::MAX));
    let (mut path, mut left) = (String::new(), 0.0);
    for (from, to) in spans {
        if to > from {
            let (begin, end) = (left + place * GAP / 2.0, left + place * (1.0 - GAP / 2.0));
            let (bottom, top) = (scale.y(as_f64(from)), scale.y(as_f64(to)));
            let _ = write!(path, "M{begin:.1} {bottom:.1}V{top:.1}H{end:.1}V{bottom:.1}Z");
        }
        left += place;
    }
    path
}

/// Returns the centres of the places of `count` values.
fn centres(count: usize) -> impl Iterator<Item = f64> {
    let place = WIDTH / as_f64(i64::try_from(count.max(1)).unwrap_or(i64::MAX));
    std::iter::successors(Some(place / 2.0), move |at| Some(at + place))
}

/// Returns a line through the values, with a gap where one is missing. A value between two gaps is a short stroke.
pub(super) fn line(values: &[Option<f64>], scale: &impl Scale) -> String {
    let place = WIDTH / as_f64(i64::try_from(values.len().max(1)).unwrap_or(i64::MAX));
    let (mut path, mut drawn) = (String::new(), false);
    for (at, (x, value)) in centres(values.len()).zip(values).enumerate() {
        if let Some(value) = value {
            let y = scale.y(*value);
            let alone = !drawn && values.get(at + 1).copied().flatten().is_none();
            let _ = if alone {
                write!(path, "M{:.1} {y:.1}H{:.1}", x - place / 2.0, x + place / 2.0)
            } else {
                write!(path, "{}{x:.1} {y:.1}", if drawn { 'L' } else { 'M' })
            };
        }
        drawn = value.is_some();
    }
    path
}

/// Returns the area between two lines, with a gap where a value of either is missing.
pub(super) fn band(lower: &[Option<f64>], upper: &[Option<f64>], scale: &impl Scale) -> String {
    let points: Vec<_> = centres(lower.len())
        .zip(lower.iter().zip(upper))
        .map(|(x, (lower, upper))| Some((x, scale.y((*lower)?), scale.y((*upper)?))))
        .collect();
    let mut path = String::new();
    for run in points.split(Option::is_none).filter(|run| run.len() > 1) {
        let run: Vec<_> = run.iter().flatten().collect();
        for (at, (x, _, upper)) in run.iter().enumerate() {
            let _ = write!(path, "{}{x:.1} {upper:.1}", if at == 0 { 'M' } else { 'L' });
        }
        for (x, lower, _) in run.iter().rev() {
            let _ = write!(path, "L{x:.1} {lower:.1}");
        }
        path.push('Z');
    }
    path
}
