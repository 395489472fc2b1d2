//! Progress bars on a terminal.

use std::io::{self, IsTerminal};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Creates a progress bar on stderr, which is shown only if that is a terminal.
pub(super) fn bar(name: &str, len: usize) -> ProgressBar {
    let target =
        if io::stderr().is_terminal() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let bar = ProgressBar::with_draw_target(Some(len as u64), target);
    let style = ProgressStyle::with_template("{msg:22} {bar:40} {pos}/{len} {per_sec} {eta}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.with_message(name.to_owned())
}

/// Returns a function that advances the bar by one.
pub(super) fn ticks(bar: &ProgressBar) -> impl Fn() + Clone + Send + 'static + use<> {
    let bar = bar.clone();
    move || bar.inc(1)
}
