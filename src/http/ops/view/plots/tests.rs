use chrono::TimeDelta;
use nas_cron_protocol::admin_api::DueMinute;

use super::*;

const FAILED: &str = "/jobs?a=failed&b";

fn at(minute: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000, 0).unwrap() + TimeDelta::minutes(minute)
}

fn span(minute: i64, counts: [i64; 3], lateness: Option<(f64, f64)>) -> FireSpan {
    let [delivered, failed, other] = counts;
    let (lateness_p50_ms, lateness_p99_ms) = lateness.unzip();
    FireSpan { begin: at(minute), delivered, failed, other, lateness_p50_ms, lateness_p99_ms }
}

/// Puts each element on a line of its own.
fn lines(html: &str) -> String {
    html.replace("><", ">\n<")
}

/// Returns the data of the path with this class within the drawing.
fn path<'a>(html: &'a str, class: &str) -> &'a str {
    let drawing = html.split("plot-svg").nth(1).expect("a drawing");
    let begin = format!("class=\"{class}\" d=\"");
    drawing.split(&begin).nth(1).expect("the class").split('"').next().unwrap()
}

#[test]
fn plot_of_fires_matches_its_snapshot() {
    let spans = [span(0, [80, 10, 10], None), span(1, [0, 0, 0], None), span(2, [1_500, 0, 500], None)];
    insta::assert_snapshot!(lines(&fires("f", "Fires per minute", "minute", &spans, FAILED).to_string()), @r##"
    <figure class="plot" id="f">
    <figcaption>Fires per minute <span class="plot-key">
    <svg viewBox="0 0 10 10" aria-hidden="true">
    <path class="plot-delivered" d="M1 1H9V9H1Z"/>
    </svg>delivered</span> <span class="plot-key">
    <svg viewBox="0 0 10 10" aria-hidden="true">
    <path class="plot-failed" d="M1 1H9V9H1Z"/>
    </svg>failed</span> <span class="plot-key">
    <svg viewBox="0 0 10 10" aria-hidden="true">
    <path class="plot-other" d="M1 1H9V9H1Z"/>
    </svg>other</span>
    </figcaption>
    <div class="plot-area">
    <ol class="plot-y" aria-hidden="true">
    <li>2,000</li>
    <li>1,000</li>
    <li>0</li>
    </ol>
    <svg class="plot-svg" viewBox="0 0 600 100" preserveAspectRatio="none" role="img" aria-labelledby="f-title f-desc">
    <title id="f-title">Fires per minute</title>
    <desc id="f-desc">At most 2,000 in a minute. In all 1,580 delivered, 10 failed, 510 with another outcome.</desc>
    <path class="plot-grid" d="M0 0.0H600M0 50.0H600M0 100.0H600"/>
    <path class="plot-delivered" d="M15.0 100.0V96.0H185.0V100.0ZM415.0 100.0V25.0H585.0V100.0Z"/>
    <path class="plot-failed" d="M15.0 96.0V95.5H185.0V96.0Z"/>
    <path class="plot-other" d="M15.0 95.5V95.0H185.0V95.5ZM415.0 25.0V0.0H585.0V25.0Z"/>
    </svg>
    <ol class="plot-x" aria-hidden="true">
    <li>08:00</li>
    <li>08:00</li>
    <li>08:01</li>
    <li>08:01</li>
    <li>08:02 UTC</li>
    </ol>
    </div>
    <p class="plot-summary">At most 2,000 in a minute. In all 1,580 delivered, 10 failed, 510 with another outcome. <a href="/jobs?a=failed&amp;b">Jobs whose latest attempt failed</a>
    </p>
    <details class="plot-data">
    <summary>Numbers</summary>
    <div class="plot-table" tabindex="0" role="region" aria-label="Numbers: Fires per minute">
    <table>
    <caption>Fires per minute</caption>
    <thead>
    <tr>
    <th scope="col">UTC</th>
    <th scope="col">delivered</th>
    <th scope="col">failed</th>
    <th scope="col">other</th>
    </tr>
    </thead>
    <tbody>
    <tr>
    <th scope="row">
    <time datetime="2027-01-15T08:00:00Z">08:00</time>
    </th>
    <td>80</td>
    <td>10</td>
    <td>10</td>
    </tr>
    <tr>
    <th scope="row">
    <time datetime="2027-01-15T08:01:00Z">08:01</time>
    </th>
    <td>0</td>
    <td>0</td>
    <td>0</td>
    </tr>
    <tr>
    <th scope="row">
    <time datetime="2027-01-15T08:02:00Z">08:02</time>
    </th>
    <td>1,500</td>
    <td>0</td>
    <td>500</td>
    </tr>
    </tbody>
    </table>
    </div>
    </details>
    </figure>
    "##);
}

#[test]
fn parts_of_a_bar_are_above_each_other() {
    let html = fires("f", "Fires", "minute", &[span(0, [50, 25, 25], None)], FAILED).to_string();
    assert_eq!(path(&html, "plot-delivered"), "M45.0 100.0V50.0H555.0V100.0Z");
    assert_eq!(path(&html, "plot-failed"), "M45.0 50.0V25.0H555.0V50.0Z");
    assert_eq!(path(&html, "plot-other"), "M45.0 25.0V0.0H555.0V25.0Z");
}

#[test]
fn plot_without_failures_has_no_link_to_them() {
    let html = fires("f", "Fires", "minute", &[span(0, [50, 0, 25], None)], FAILED).to_string();
    assert!(html.contains("25 with another outcome.</p>") && !html.contains("<a "), "{html}");
}

#[test]
fn lateness_is_logarithmic_with_gaps() {
    let spans = [
        span(0, [1, 0, 0], Some((1.0, 10.0))),
        span(1, [1, 0, 0], Some((10.0, 100.0))),
        span(2, [0, 0, 0], None),
        span(3, [1, 0, 0], Some((1.0, 100.0))),
    ];
    let html = lateness("l", "Lateness", &spans).to_string();
    assert_eq!(path(&html, "plot-p50"), "M75.0 100.0L225.0 50.0M450.0 100.0H600.0");
    assert_eq!(path(&html, "plot-p99"), "M75.0 50.0L225.0 0.0M450.0 0.0H600.0");
    assert_eq!(path(&html, "plot-band"), "M75.0 50.0L225.0 0.0L225.0 50.0L75.0 100.0Z");
    assert!(html.contains("<li>100 ms</li><li>10 ms</li><li>1 ms</li>"), "{html}");
    assert!(html.contains("The median is between 1 ms and 10 ms; 99 of 100 fires are at most 100 ms late."));
}

#[test]
fn plot_without_data_says_so() {
    let nothing = [span(0, [0, 0, 0], None), span(1, [0, 0, 0], None)];
    for html in [
        fires("a", "Fires", "minute", &nothing, FAILED),
        lateness("b", "Lateness", &nothing),
        load("c", "Load", &UpcomingLoad { minutes: Vec::new(), estimated: false }, |_| String::new()),
    ] {
        let html = html.to_string();
        assert!(html.contains("plot-empty") && !html.contains("<svg"), "{html}");
    }
}

#[test]
fn numbers_of_the_load_link_to_their_one_shots() {
    let minutes = vec![DueMinute { minute: at(0), due: 1_234 }, DueMinute { minute: at(1), due: 0 }];
    let link = |minute: DateTime<Utc>| format!("/jobs?from={}&to=x", minute.timestamp());
    let html = load("l", "Load", &UpcomingLoad { minutes, estimated: true }, link).to_string();
    assert!(html.contains(r#"<td><a href="/jobs?from=1800000000&amp;to=x">1,234</a></td>"#), "{html}");
    assert!(html.contains("<td>0</td>"));
    assert!(html.contains("About 1,234 in an hour"));
}

#[test]
fn axes_end_at_round_numbers() {
    let top = |most| Linear::up_to(most).labels();
    assert_eq!(top(0), ["2", "1", "0"]);
    assert_eq!(top(3), ["5", "0"]);
    assert_eq!(top(7), ["10", "5", "0"]);
    assert_eq!(top(1_001), ["2,000", "1,000", "0"]);
    assert_eq!(top(5_000), ["5,000", "2,500", "0"]);
    assert_eq!(Logarithmic::over(0.2, 0.3).labels(), ["1 ms", "0.1 ms"]);
    assert_eq!(Logarithmic::over(1.0, 1.0).labels(), ["10 ms", "1 ms"]);
    assert_eq!(Logarithmic::over(0.05, 4_000.0).labels()[0], "10 s");
    assert_eq!(Logarithmic::over(0.05, 4_000.0).labels().last().unwrap(), "0.01 ms");
    for (milliseconds, text) in
        [(0.854, "0.85 ms"), (9.96, "10 ms"), (123.4, "123 ms"), (3_440.0, "3.4 s"), (1e5, "100 s")]
    {
        assert_eq!(scale::lateness(milliseconds), text);
    }
}
