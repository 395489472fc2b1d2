//! Plots for operators, as HTML: pure functions from numbers to a figure.
//!
//! A figure needs no script and no inline style. Its shapes are an SVG that is stretched to the available width; its labels
//! are text beside it, so that they stay readable on a narrow screen. A summary is read to those who cannot see the shapes,
//! and a table has all numbers.

mod figure;
mod scale;
mod series;

use std::fmt::Write as _;

use chrono::{DateTime, Utc};
use nas_cron_protocol::admin_api::{FireSpan, UpcomingLoad};

use self::figure::{Figure, Legend, SQUARE, STROKE};
pub(in crate::http::ops) use self::scale::number;
use self::scale::{Linear, Logarithmic};
use self::series::{band, bars, line};
use super::html::Html;

/// Returns the plot of attempts by outcome. `id` is unique on the page; `span` names the length of a span: "minute".
/// `failed_jobs` is the path of the jobs whose latest attempt failed: no list has the attempts of all jobs.
pub(in crate::http::ops) fn fires(
    id: &str,
    title: &str,
    span: &str,
    spans: &[FireSpan],
    failed_jobs: &str,
) -> Html {
    let of = |count: fn(&FireSpan) -> i64| spans.iter().map(count).collect::<Vec<_>>();
    let (delivered, failed, other) = (of(|one| one.delivered), of(|one| one.failed), of(|one| one.other));
    let totals: Vec<_> = spans.iter().map(total).collect();
    let most = totals.iter().copied().max().unwrap_or(0);
    let sum = |counts: &[i64]| counts.iter().sum::<i64>();
    let scale = Linear::up_to(most);
    let parts = [delivered.as_slice(), &failed, &other];
    let mut shapes = String::new();
    for (number, class) in ["plot-delivered", "plot-failed", "plot-other"].into_iter().enumerate() {
        let below = |at: usize| parts[..number].iter().map(|part| part[at]).sum::<i64>();
        let path =
            bars(parts[number].iter().enumerate().map(|(at, count)| (below(at), below(at) + count)), &scale);
        let _ = write!(shapes, r#"<path class="{class}" d="{path}"/>"#);
    }
    let figure = Figure {
        id,
        title,
        summary: format!(
            "At most {} in a {span}. In all {} delivered, {} failed, {} with another outcome.",
            number(most),
            number(sum(&delivered)),
            number(sum(&failed)),
            number(sum(&other)),
        ),
        link: (sum(&failed) > 0).then_some((failed_jobs, "Jobs whose latest attempt failed")),
        legend: &[
            Legend { class: "plot-delivered", name: "delivered", shape: SQUARE },
            Legend { class: "plot-failed", name: "failed", shape: SQUARE },
            Legend { class: "plot-other", name: "other", shape: SQUARE },
        ],
        labels: scale.labels(),
        shapes: (sum(&totals) > 0).then_some(shapes),
        empty: "No attempts in this time.",
        times: spans.iter().map(|one| one.begin).collect(),
        columns: &["delivered", "failed", "other"],
        rows: spans.iter().map(|one| [one.delivered, one.failed, one.other].map(number).to_vec()).collect(),
    };
    Html::built(figure.html())
}

/// Returns the plot of lateness: the band from the median to the 99th percentile, on a logarithmic scale.
pub(in crate::http::ops) fn lateness(id: &str, title: &str, spans: &[FireSpan]) -> Html {
    let p50: Vec<_> = spans.iter().map(|one| one.lateness_p50_ms).collect();
    let p99: Vec<_> = spans.iter().map(|one| one.lateness_p99_ms).collect();
    let least = p50.iter().flatten().copied().reduce(f64::min);
    let most = p99.iter().flatten().copied().reduce(f64::max);
    let scale = Logarithmic::over(least.unwrap_or(1.0), most.unwrap_or(10.0));
    let mut shapes = String::new();
    let _ = write!(shapes, r#"<path class="plot-band" d="{}"/>"#, band(&p50, &p99, &scale));
    for (class, values) in [("plot-p99", &p99), ("plot-p50", &p50)] {
        let _ = write!(shapes, r#"<path class="{class}" d="{}"/>"#, line(values, &scale));
    }
    let summary = match (least, p50.iter().flatten().copied().reduce(f64::max), most) {
        (Some(least), Some(highest), Some(most)) => format!(
            "The median is between {} and {}; 99 of 100 fires are at most {} late.",
            scale::lateness(least),
            scale::lateness(highest),
            scale::lateness(most),
        ),
        _ => String::new(),
    };
    let cell = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), scale::lateness);
    let figure = Figure {
        id,
        title,
        summary,
        link: None,
        legend: &[
            Legend { class: "plot-p50", name: "p50", shape: STROKE },
            Legend { class: "plot-p99", name: "p99", shape: STROKE },
        ],
        labels: scale.labels(),
        shapes: most.map(|_| shapes),
        empty: "No first attempts in this time, so no lateness.",
        times: spans.iter().map(|one| one.begin).collect(),
        columns: &["p50", "p99"],
        rows: p50.iter().zip(&p99).map(|(p50, p99)| vec![cell(*p50), cell(*p99)]).collect(),
    };
    Html::built(figure.html())
}

/// Returns the plot of one-shots that come due by minute. `link` returns the URL of the list of a minute's one-shots.
pub(in crate::http::ops) fn load(
    id: &str,
    title: &str,
    load: &UpcomingLoad,
    link: impl Fn(DateTime<Utc>) -> String,
) -> Html {
    let due: Vec<_> = load.minutes.iter().map(|one| one.due).collect();
    let (most, all) = (due.iter().copied().max().unwrap_or(0), due.iter().sum::<i64>());
    let scale = Linear::up_to(most);
    let path = bars(due.iter().map(|count| (0, *count)), &scale);
    let about = if load.estimated { "About " } else { "" };
    let cell = |minute: DateTime<Utc>, due: i64| {
        if due == 0 {
            return number(0);
        }
        // The only text that may need escaping is the `&` between parameters.
        format!(r#"<a href="{}">{}</a>"#, link(minute).replace('&', "&amp;"), number(due))
    };
    let figure = Figure {
        id,
        title,
        summary: format!("{about}{} in an hour, at most {} in a minute.", number(all), number(most)),
        link: None,
        legend: &[],
        labels: scale.labels(),
        shapes: (all > 0).then(|| format!(r#"<path class="plot-due" d="{path}"/>"#)),
        empty: "Nothing comes due within an hour.",
        times: load.minutes.iter().map(|one| one.minute).collect(),
        columns: &["one-shots"],
        rows: load.minutes.iter().map(|one| vec![cell(one.minute, one.due)]).collect(),
    };
    Html::built(figure.html())
}

fn total(span: &FireSpan) -> i64 {
    span.delivered + span.failed + span.other
}

#[cfg(test)]
mod tests;
