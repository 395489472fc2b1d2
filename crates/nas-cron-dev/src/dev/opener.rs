//! Opens the operators' page in the browser of whoever runs `nas-cron dev`.

use std::ffi::OsString;
use std::process::{Command, Stdio};
use std::thread;

use nas_cron_base::output;

/// Variables of which one is set where a window can be opened.
const DISPLAYS: [&str; 2] = ["WAYLAND_DISPLAY", "DISPLAY"];

/// Opens a URL, if stdout is a terminal on a machine with a display. It is printed anyway, so a failure is not reported.
pub(super) fn open(url: &str) {
    let Some(program) = program(output::stdout().is_terminal(), |name| std::env::var_os(name)) else {
        return;
    };
    let child = Command::new(program)
        .arg(url)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    if let Ok(mut child) = child {
        // Some openers last as long as the browser.
        thread::spawn(move || child.wait());
    }
}

/// Returns the platform's program that opens a URL; `None` for a script, a test or a remote shell.
fn program(is_terminal: bool, variable: impl Fn(&str) -> Option<OsString>) -> Option<&'static str> {
    let is_set = |name: &str| variable(name).is_some_and(|value| !value.is_empty());
    let is_macos = cfg!(target_os = "macos");
    let has_display = is_macos || DISPLAYS.into_iter().any(is_set);
    let opens = is_terminal && has_display && !is_set("SSH_CONNECTION");
    opens.then_some(if is_macos { "open" } else { "xdg-open" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_is_opened_only_in_a_terminal_with_a_display_of_its_own() {
        let found = |is_terminal, set: &[&str]| {
            program(is_terminal, |name| set.contains(&name).then(|| "x".into())).is_some()
        };
        assert!(found(true, &["DISPLAY"]) && found(true, &["WAYLAND_DISPLAY"]));
        assert!(!found(false, &["DISPLAY"]), "a script");
        assert!(!found(true, &["DISPLAY", "SSH_CONNECTION"]), "a remote shell");
        assert_eq!(found(true, &[]), cfg!(target_os = "macos"));
        let empty = program(true, |_| Some(OsString::new()));
        assert_eq!(empty.is_some(), cfg!(target_os = "macos"));
    }
}
