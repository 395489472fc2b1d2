//! Reads webhooks from JSON. Errors name the field.

use nas_cron_protocol::schema::TextSchema;
use nas_cron_protocol::{
    Fields, FieldsError, Given, InvalidField, MAX_URL, OrgId, http_url, http_url_schema,
};
use serde_json::Value;
use url::Url;

use crate::domain::event::EventType;

/// Maximum length of a description, in bytes.
const DESCRIPTION: usize = 255;

/// The type of a webhook's URL in the `OpenAPI` document.
#[derive(Clone, Copy, Debug)]
pub enum WebhookUrl {}

nas_cron_protocol::text_schema!(
    WebhookUrl,
    TextSchema {
        max_bytes: Some(MAX_TEXT),
        ..http_url_schema(
            "URL that receives events: https and a public address, unless `callback_allow` permits it. It may have a query.",
            "https://ops.example/nas-cron"
        )
    }
);

/// The type of a webhook's description in the `OpenAPI` document.
#[derive(Clone, Copy, Debug)]
pub enum WebhookPurpose {}

nas_cron_protocol::text_schema!(
    WebhookPurpose,
    TextSchema {
        description: "Purpose of a webhook, for people.",
        max_bytes: Some(DESCRIPTION),
        // Not blank, and without control characters.
        pattern: Some(
            "^[^\\u0000-\\u001f\\u007f-\\u009f]*[^\\s\\u0000-\\u001f\\u007f-\\u009f][^\\u0000-\\u001f\\u007f-\\u009f]*$"
        ),
        format: None,
        example: "pages the operators of acme",
    }
);

/// Maximum length of the text of a URL, in bytes: its stored form may have one more for the path.
const MAX_TEXT: usize = MAX_URL - 1;

/// A webhook to be created.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// URL that receives the events.
    pub url: Url,
    /// Purpose, for people.
    pub description: Option<String>,
    /// Only events of this org.
    pub org_id: Option<OrgId>,
    /// Only events of these types.
    pub types: Option<Vec<EventType>>,
}

/// A change of a webhook. Omitted fields keep their value.
#[derive(Clone, Debug, Default)]
pub struct Change {
    /// Its new URL.
    pub url: Option<Url>,
    /// Its new purpose.
    pub description: Given<String>,
    /// Its new types.
    pub types: Given<Vec<EventType>>,
    /// True enables it, false disables it.
    pub enabled: Option<bool>,
}

/// Reads a webhook to be created. Unknown fields are rejected.
pub fn wanted(mut fields: Fields) -> Result<Wanted, FieldsError> {
    let wanted = Wanted {
        url: url(&fields.required_text("url")?)?,
        description: fields.text("description")?.map(description).transpose()?,
        org_id: fields.text("org_id")?.map(OrgId::new).transpose()?,
        types: fields.clearable("types").try_map(types)?.value().cloned(),
    };
    fields.finish(&["url", "description", "org_id", "types"])?;
    Ok(wanted)
}

/// Reads a change. Unknown fields are rejected.
pub fn change(mut fields: Fields) -> Result<Change, FieldsError> {
    let change = Change {
        url: fields.text("url")?.as_deref().map(url).transpose()?,
        description: fields.clearable_text("description")?.try_map(description)?,
        types: fields.clearable("types").try_map(types)?,
        enabled: fields.flag("enabled")?,
    };
    fields.finish(&["url", "description", "types", "enabled"])?;
    Ok(change)
}

/// Parses the URL of a webhook. A query is allowed.
pub fn url(text: &str) -> Result<Url, InvalidField> {
    let wrong = |problem: String| InvalidField::new("url", problem);
    let url = http_url(text).map_err(wrong)?;
    // The stored text has a path and escapes, so it may be longer.
    if text.len() > MAX_TEXT || url.as_str().len() > MAX_URL {
        return Err(wrong(format!("must be at most {MAX_TEXT} bytes long, with its escapes")));
    }
    Ok(url)
}

/// Checks a description.
pub fn description(text: String) -> Result<String, InvalidField> {
    let wrong = |problem: String| Err(InvalidField::new("description", problem));
    if text.trim().is_empty() {
        return wrong("must not be blank".to_owned());
    }
    if text.len() > DESCRIPTION {
        return wrong(format!("must be at most {DESCRIPTION} bytes long"));
    }
    if text.chars().any(char::is_control) {
        return wrong("must not contain control characters".to_owned());
    }
    Ok(text)
}

fn types(value: Value) -> Result<Vec<EventType>, InvalidField> {
    let wrong = |problem: String| InvalidField::new("types", problem);
    let Value::Array(items) = value else {
        return Err(wrong("must be an array of event types".to_owned()));
    };
    if items.is_empty() {
        return Err(wrong("must not be empty: omit it for all types".to_owned()));
    }
    let one = |item: Value| match item {
        Value::String(text) => text
            .parse()
            .map_err(|_| wrong(format!("must contain only event types: {}", EventType::WORDS.join(", ")))),
        _ => Err(wrong("must be an array of strings".to_owned())),
    };
    let mut types = items.into_iter().map(one).collect::<Result<Vec<_>, _>>()?;
    types.sort_unstable();
    types.dedup();
    Ok(types)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(json: &str) -> String {
        wanted(Fields::parse(json.as_bytes()).unwrap()).unwrap_err().to_string()
    }

    #[test]
    fn webhook_is_read_with_its_filters() {
        let json = r#"{"url":"https://a.example/hook?x=1","types":["one_shot.stuck","dead_letter.created","one_shot.stuck"],"org_id":"o"}"#;
        let wanted = wanted(Fields::parse(json.as_bytes()).unwrap()).unwrap();
        assert_eq!(wanted.url.as_str(), "https://a.example/hook?x=1");
        assert_eq!(wanted.types.unwrap(), [EventType::DeadLetterCreated, EventType::OneShotStuck]);
    }

    #[test]
    fn invalid_webhook_is_rejected_and_names_the_field() {
        for (json, expected) in [
            ("{}", "url: is missing"),
            (r#"{"url":"ftp://a"}"#, "url: must be an http or https URL"),
            (r#"{"url":"https://0x7f.1/"}"#, "url: must write an IPv4 address in decimal"),
            (r#"{"url":"https://0x7f.1?q"}"#, "url: must write an IPv4 address in decimal"),
            (r#"{"url":"https://u:p@a.example"}"#, "url: must not carry credentials"),
            (r#"{"url":"https://a.example","types":[]}"#, "types: must not be empty"),
            (
                r#"{"url":"https://a.example","types":["x"]}"#,
                "types: must contain only event types: dead_letter",
            ),
            (r#"{"url":"https://a.example","types":"x"}"#, "types: must be an array"),
            (r#"{"url":"https://a.example","org_id":" "}"#, "org_id: must not be blank"),
            (r#"{"url":"https://a.example","description":" "}"#, "description: must not be blank"),
            (r#"{"url":"https://a.example","secret":"x"}"#, "secret: unknown field"),
        ] {
            assert!(problem(json).starts_with(expected), "{json}: {}", problem(json));
        }
    }

    #[test]
    fn url_that_is_too_long_as_stored_is_rejected_by_name() {
        let base = "https://ops.example";
        let longest = format!("{base}?{}", "x".repeat(MAX_TEXT - base.len() - 1));
        assert_eq!(url(&longest).unwrap().as_str().len(), MAX_URL);
        for text in [format!("{longest}x"), format!("{base}/{}", "é".repeat(400))] {
            assert_eq!(url(&text).unwrap_err().field, "url", "{}", text.len());
        }
    }
}
