//! The frame of a plot: caption, axes, shapes, and the table of its numbers.

use std::fmt::Write as _;

use chrono::{DateTime, SecondsFormat, Utc};

use super::super::html::escaped;
use super::scale::HEIGHT;
use super::series::WIDTH;

/// Number of labels of the time axis.
const TIMES: usize = 5;

/// A series of the legend.
pub(super) struct Legend {
    /// The class of its shape.
    pub(super) class: &'static str,
    pub(super) name: &'static str,
    /// Path data within a square of 10 by 10.
    pub(super) shape: &'static str,
}

/// The shape of bars in the legend.
pub(super) const SQUARE: &str = "M1 1H9V9H1Z";
/// The shape of a line in the legend.
pub(super) const STROKE: &str = "M0 5H10";

/// A plot. Its texts are of this program or numbers, so nothing has to be escaped.
pub(super) struct Figure<'a> {
    /// Unique on the page.
    pub(super) id: &'a str,
    pub(super) title: &'a str,
    /// The plot in a sentence or two.
    pub(super) summary: String,
    /// A link after the summary: path and label.
    pub(super) link: Option<(&'a str, &'a str)>,
    pub(super) legend: &'a [Legend],
    /// Labels of the values from the top to the bottom, at equal distances.
    pub(super) labels: Vec<String>,
    /// The shapes; `None` without data.
    pub(super) shapes: Option<String>,
    /// Shown without data.
    pub(super) empty: &'a str,
    /// The beginnings of the spans.
    pub(super) times: Vec<DateTime<Utc>>,
    /// Heads of the table after that of the time.
    pub(super) columns: &'a [&'a str],
    /// Cells of the table for each time, as HTML.
    pub(super) rows: Vec<Vec<String>>,
}

impl Figure<'_> {
    /// Returns the figure as HTML.
    pub(super) fn html(&self) -> String {
        let Self { id, title, summary, empty, .. } = self;
        let mut html = format!(r#"<figure class="plot" id="{id}"><figcaption>{title}"#);
        let Some(shapes) = &self.shapes else {
            let _ = write!(html, r#"</figcaption><p class="plot-empty">{empty}</p></figure>"#);
            return html;
        };
        for Legend { class, name, shape } in self.legend {
            let _ = write!(
                html,
                r#" <span class="plot-key"><svg viewBox="0 0 10 10" aria-hidden="true"><path class="{class}" d="{shape}"/></svg>{name}</span>"#
            );
        }
        html.push_str("</figcaption>");
        html.push_str(r#"<div class="plot-area"><ol class="plot-y" aria-hidden="true">"#);
        for label in &self.labels {
            let _ = write!(html, "<li>{label}</li>");
        }
        let _ = write!(
            html,
            r#"</ol><svg class="plot-svg" viewBox="0 0 {WIDTH} {HEIGHT}" preserveAspectRatio="none" role="img" aria-labelledby="{id}-title {id}-desc"><title id="{id}-title">{title}</title><desc id="{id}-desc">{summary}</desc><path class="plot-grid" d="{grid}"/>{shapes}</svg>"#,
            grid = grid(self.labels.len()),
        );
        html.push_str(r#"<ol class="plot-x" aria-hidden="true">"#);
        let times: Vec<_> = self.time_labels().map(|time| time.format("%H:%M").to_string()).collect();
        for (number, time) in times.iter().enumerate() {
            let zone = if number + 1 == times.len() { " UTC" } else { "" };
            let _ = write!(html, "<li>{time}{zone}</li>");
        }
        let _ = write!(html, r#"</ol></div><p class="plot-summary">{summary}"#);
        if let Some((path, label)) = self.link {
            let _ = write!(html, r#" <a href="{}">{label}</a>"#, escaped(path));
        }
        html.push_str("</p>");
        self.write_table(&mut html);
        html.push_str("</figure>");
        html
    }

    /// Returns times at equal distances, with the first and the last one.
    fn time_labels(&self) -> impl Iterator<Item = DateTime<Utc>> {
        let last = self.times.len().saturating_sub(1);
        (0..TIMES).filter_map(move |number| self.times.get(number * last / (TIMES - 1)).copied())
    }

    fn write_table(&self, html: &mut String) {
        // It scrolls, so it can have the focus.
        let _ = write!(
            html,
            r#"<details class="plot-data"><summary>Numbers</summary><div class="plot-table" tabindex="0" role="region" aria-label="Numbers: {title}"><table><caption>{title}</caption><thead><tr><th scope="col">UTC</th>"#,
            title = self.title
        );
        for column in self.columns {
            let _ = write!(html, r#"<th scope="col">{column}</th>"#);
        }
        html.push_str("</tr></thead><tbody>");
        for (time, cells) in self.times.iter().zip(&self.rows) {
            let machine = time.to_rfc3339_opts(SecondsFormat::Secs, true);
            let _ = write!(
                html,
                r#"<tr><th scope="row"><time datetime="{machine}">{}</time></th>"#,
                time.format("%H:%M")
            );
            for cell in cells {
                let _ = write!(html, "<td>{cell}</td>");
            }
            html.push_str("</tr>");
        }
        html.push_str("</tbody></table></div></details>");
    }
}

/// Returns horizontal lines at the heights of the labels.
fn grid(labels: usize) -> String {
    let between = labels.saturating_sub(1).max(1);
    let mut path = String::new();
    let step = HEIGHT / f64::from(u32::try_from(between).unwrap_or(u32::MAX));
    let mut y = 0.0;
    for _ in 0..=between {
        let _ = write!(path, "M0 {y:.1}H{WIDTH}");
        y += step;
    }
    path
}
