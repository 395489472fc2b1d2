//! The `cron.chronos.*` part of an agent's `config.yaml`.

use std::fmt::Write;

/// Configuration of the agent's chronos provider.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub(super) struct Chronos {
    /// Base URL of the agent API and, byte for byte, the issuer of fire tokens.
    pub(super) portal_url: String,
    /// Callback URL of the agent.
    pub(super) callback_url: String,
    /// Audience of its fire tokens.
    pub(super) expected_audience: String,
    /// JWKS URL of the keys of fire tokens.
    pub(super) nas_jwks_url: String,
}

impl Chronos {
    /// Returns YAML that parsers of all YAML versions read alike.
    pub(super) fn yaml(&self) -> String {
        let fields = [
            ("portal_url", &self.portal_url),
            ("callback_url", &self.callback_url),
            ("expected_audience", &self.expected_audience),
            ("nas_jwks_url", &self.nas_jwks_url),
        ];
        let mut yaml = String::from("cron:\n  provider: chronos\n  chronos:\n");
        for (name, value) in fields {
            yaml.push_str("    ");
            yaml.push_str(name);
            yaml.push_str(": ");
            quote(&mut yaml, value);
            yaml.push('\n');
        }
        yaml
    }
}

/// Appends a double-quoted scalar (YAML 1.2, 7.3.1). Everything but printable ASCII is escaped, because YAML versions
/// differ in the other printable characters and in line breaks.
fn quote(yaml: &mut String, value: &str) {
    yaml.push('"');
    for c in value.chars() {
        match c {
            '"' | '\\' => yaml.extend(['\\', c]),
            ' '..='~' => yaml.push(c),
            _ => write!(yaml, "\\U{:08X}", u32::from(c)).expect("writing to a String does not fail"),
        }
    }
    yaml.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn yaml_has_the_form_of_hermes_agent() {
        let chronos = Chronos {
            portal_url: "https://portal.example".to_owned(),
            callback_url: "https://a1.agents.example/prefix/".to_owned(),
            expected_audience: "agent:a1".to_owned(),
            nas_jwks_url: "https://portal.example/api/agent-cron/jwks.json".to_owned(),
        };
        insta::assert_snapshot!(chronos.yaml(), @r#"
        cron:
          provider: chronos
          chronos:
            portal_url: "https://portal.example"
            callback_url: "https://a1.agents.example/prefix/"
            expected_audience: "agent:a1"
            nas_jwks_url: "https://portal.example/api/agent-cron/jwks.json"
        "#);
    }

    #[test]
    fn special_characters_are_escaped() {
        let mut yaml = String::new();
        quote(&mut yaml, "a\"b\\n: #{é}\u{2028}\u{85}😀");
        assert_eq!(yaml, r#""a\"b\\n: #{\U000000E9}\U00002028\U00000085\U0001F600""#);
    }
}
