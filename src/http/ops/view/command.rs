//! Commands that do on the command line what a page shows or does.

use nas_cron_base::shell::CommandLine;

use super::html::{Html, escaped};

/// A command with a button that copies it. The button works with the script, and is hidden without it.
pub(in crate::http::ops) fn shown(command: &CommandLine) -> Html {
    copyable(&command.to_string())
}

/// A pipeline that runs a command for each job of a list, with a button that copies it. `each` reads the list and prints commands,
/// in the language of jq, whose `@sh` quotes the IDs.
pub(in crate::http::ops) fn for_each(list: &CommandLine, each: &str) -> Html {
    copyable(&format!("{list} --json | jq -r '{each}' | sh"))
}

/// A command as [`CommandLine`] displays it, with a button that copies it.
pub(super) fn copyable(command: &str) -> Html {
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
    fn copied_command_is_the_shown_one() {
        let html = shown(&CommandLine::new("jobs show").of(["a\"<b"])).to_string();
        assert_eq!(html.matches("nas-cron jobs show &#39;a&quot;&lt;b&#39;").count(), 2, "{html}");
    }
}
