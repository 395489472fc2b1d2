//! Commands that do on the command line what a page shows or does.

use nas_cron_base::shell::{CommandLine, quoted};

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

/// The agents of a list whose ID or callback begins with a text, in the language of jq.
const SEARCH: &str = r#".agents[] | select([.instance_id, .callback_url // "", (.callback_url // "" | sub("^https?://"; ""))] | any(startswith($text)))"#;

/// A pipeline that searches a list of agents, with a button that copies it.
pub(in crate::http::ops) fn search(list: &CommandLine, text: &str) -> Html {
    copyable(&format!("{list} --limit 10000 --json | jq --arg text {} '{SEARCH}'", quoted(text)))
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
    fn searched_text_is_one_word() {
        let html = search(&CommandLine::new("agents list"), "a' $(x)").to_string();
        assert!(
            html.contains("--json | jq --arg text &#39;a&#39;\\&#39;&#39; $(x)&#39; &#39;.agents[]"),
            "{html}"
        );
    }

    #[test]
    fn copied_command_is_the_shown_one() {
        let html = shown(&CommandLine::new("jobs show").of(["a\"<b"])).to_string();
        assert_eq!(html.matches("nas-cron jobs show &#39;a&quot;&lt;b&#39;").count(), 2, "{html}");
    }
}
