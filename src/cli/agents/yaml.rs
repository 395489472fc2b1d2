//! The `cron.chronos.*` part of an agent's `config.yaml`.

use std::fmt::Write;

/// What the agent is told.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub(super) struct Chronos {
    /// The base of hop 1 and, byte for byte, the issuer of fire tokens.
    pub(super) portal_url: String,
    /// Where it is called.
    pub(super) callback_url: String,
    /// The audience of its fire tokens.
    pub(super) expected_audience: String,
    /// Where it fetches the keys of fire tokens.
    pub(super) nas_jwks_url: String,
}

impl Chronos {
    /// As YAML that any version of it reads alike.
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

/// A double-quoted scalar (YAML 1.2, 7.3.1). All but printable ASCII is escaped: what else is printable, and what
/// breaks a line, differs between versions.
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
    fn it_is_what_hermes_agent_reads() {
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
    fn no_name_breaks_out_of_its_quotes() {
        let mut yaml = String::new();
        quote(&mut yaml, "a\"b\\n: #{é}\u{2028}\u{85}😀");
        assert_eq!(yaml, r#""a\"b\\n: #{\U000000E9}\U00002028\U00000085\U0001F600""#);
    }
}
