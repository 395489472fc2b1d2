//! A terminal for the binary under test, made by script(1) of util-linux.

use std::io::Write;
use std::process::{Command, Stdio};

use crate::service::Settings;
use crate::time::PATIENCE;

/// Runs a command with its stdin, stdout and stderr on a new terminal, and types `keys`. Returns true if it succeeded, and
/// everything on the terminal.
pub async fn run_on_a_terminal(
    settings: &Settings,
    arguments: &[&str],
    keys: &'static str,
) -> (bool, String) {
    let command = settings.command(arguments);
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let line: Vec<_> = words.map(|word| format!("'{}'", word.to_str().expect("UTF-8"))).collect();
    // Connects the command to a new terminal, and its own stdin and stdout to the other end.
    let mut script = Command::new("script");
    script.args(["--quiet", "--return", "--command", &line.join(" "), "/dev/null"]);
    script.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    // Without a name, a terminal counts as one that can only print.
    script.env("TERM", "xterm").stdin(Stdio::piped()).stdout(Stdio::piped());
    let ran = tokio::task::spawn_blocking(move || {
        let mut child = script.spawn().expect("script(1) of util-linux");
        let mut stdin = child.stdin.take().expect("piped");
        stdin.write_all(keys.as_bytes()).expect("it reads");
        let output = child.wait_with_output().expect("an end");
        drop(stdin);
        output
    });
    let output = tokio::time::timeout(PATIENCE, ran).await.expect("an end").expect("no panic");
    (output.status.success(), String::from_utf8(output.stdout).expect("UTF-8"))
}
