//! Commands that do on the command line what a page shows or does.

use super::html::{Html, escaped};

/// Returns a command of `nas-cron` with its arguments, quoted for a shell: IDs are chosen by agents, and an operator pastes
/// the command.
pub(in crate::http::ops) fn command<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    let quoted = words.into_iter().map(quoted);
    std::iter::once("nas-cron".to_owned()).chain(quoted).collect::<Vec<_>>().join(" ")
}

/// Returns a word as a POSIX shell reads it.
fn quoted(word: &str) -> String {
    let is_plain =
        !word.is_empty() && word.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_./:,=@+%".contains(&b));
    if is_plain { word.to_owned() } else { format!("'{}'", word.replace('\'', r"'\''")) }
}

/// A command with a button that copies it. The button works with the script, and is hidden without it.
pub(in crate::http::ops) fn shown(command: &str) -> Html {
    let command = escaped(command);
    Html::built(format!(
        "<span class=\"command\"><code>{command}</code><button type=\"button\" class=\"copy\" data-copy=\"{command}\" \
         hidden>Copy</button></span>"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_agents_reach_a_shell_as_one_word() {
        let line = command(["jobs", "fire", "agent-1", "a'; rm -rf / #", "$(x)", ""]);
        let shell = format!("printf '%s\\n' {}", line.strip_prefix("nas-cron ").unwrap());
        let output = std::process::Command::new("sh").args(["-c", &shell]).output().unwrap();
        let words: Vec<_> = std::str::from_utf8(&output.stdout).unwrap().lines().collect();
        assert_eq!(words, ["jobs", "fire", "agent-1", "a'; rm -rf / #", "$(x)", ""]);
        assert_eq!(command(["hold", "--org", "acme"]), "nas-cron hold --org acme");
    }

    #[test]
    fn copied_command_is_the_shown_one() {
        let html = shown("nas-cron jobs show 'a\"<b'").to_string();
        assert_eq!(html.matches("nas-cron jobs show &#39;a&quot;&lt;b&#39;").count(), 2, "{html}");
    }
}
