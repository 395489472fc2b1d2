//! Auth profiles. An auth profile selects the credentials that an agent uses for a job. Only its name is known here; the
//! agent has the credentials. A value that looks like a credential is rejected, and no error repeats it.

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use super::InvalidField;
use super::secret_text::looks_secret;

/// Maximum length of the provider in bytes.
const MAX_PROVIDER: usize = 64;
/// Maximum length of the name in bytes.
const MAX_NAME: usize = 128;
/// Regular expression (ECMA-262) of profiles: no long run of letters and digits, which may be a secret. Outside ASCII, it has
/// more than letters and digits.
#[cfg(feature = "openapi")]
const PATTERN: &str = "^(?!.*[A-Za-z0-9]{24})[a-z0-9][a-z0-9._-]{0,63}:[^\\u0000-/:-@\\[-`{-\\u00a9][^\\u0000-*,:-?\\[-^`{-\\u00a9]{0,127}$";
const GRAMMAR: &str = "must be provider:name, such as claude:work; the provider has lower-case letters, digits and \
                       . _ - (at most 64), the name has letters, digits and . _ - @ + / (at most 128 bytes), and both start \
                       with a letter or digit";
const SECRET: &str = "looks like a secret and was discarded: give the name of one of the agent's profiles, never a key \
                      or token (if it is a name, separate its words with - or .)";

/// The name of one of the agent's auth profiles, as provider and name: `claude:work`.
///
/// It is passed on unchanged and compared byte for byte. It is never a secret, so it may be shown and logged.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct AuthProfile(String);

#[cfg(feature = "openapi")]
crate::text_schema!(
    AuthProfile,
    crate::schema::TextSchema {
        description: "An auth profile as `provider:name`. Never a secret: a value that looks like one is rejected.",
        max_bytes: Some(Self::MAX),
        pattern: Some(PATTERN),
        format: Some("auth-profile"),
        example: "claude:work",
    }
);

impl AuthProfile {
    /// Maximum length in bytes.
    pub const MAX: usize = MAX_PROVIDER + 1 + MAX_NAME;

    /// Validates the value. Fails if it is not `provider:name` or looks like a secret. The error contains no part of the
    /// value.
    pub fn new(value: impl Into<String>) -> Result<Self, InvalidField> {
        let value = value.into();
        if looks_secret(&value) {
            return Err(InvalidField::new("auth", SECRET));
        }
        match value.split_once(':') {
            Some((provider, name)) if is_provider(provider) && is_name(name) => Ok(Self(value)),
            _ => Err(InvalidField::new("auth", GRAMMAR)),
        }
    }

    /// The name as it was sent.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Wraps a stored value, which was validated on insert.
    pub fn stored(value: String) -> Self {
        Self(value)
    }
}

impl std::fmt::Display for AuthProfile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for AuthProfile {
    /// The error omits the field, which the caller knows. The value is first read as any JSON, because serde's error for a
    /// wrong type repeats the value.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let problem = match Value::deserialize(deserializer)? {
            Value::String(text) => match Self::new(text) {
                Ok(profile) => return Ok(profile),
                Err(error) => error.problem,
            },
            other => format!("must be a string, not {}", super::fields::kind(&other)),
        };
        Err(serde::de::Error::custom(problem))
    }
}

fn is_provider(text: &str) -> bool {
    let word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    text.len() <= MAX_PROVIDER
        && text.starts_with(word)
        && text.chars().all(|c| word(c) || matches!(c, '.' | '_' | '-'))
}

/// True for e-mail addresses, paths and words of any language, without characters that have a meaning in a line, a shell
/// word or a list.
fn is_name(text: &str) -> bool {
    text.len() <= MAX_NAME
        && text.starts_with(char::is_alphanumeric)
        && text.chars().all(|c| c.is_alphanumeric() || matches!(c, '.' | '_' | '-' | '@' | '+' | '/'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The pattern of the schema without its first condition, which the crate `regex` does not have.
    #[cfg(feature = "openapi")]
    fn grammar() -> regex::Regex {
        regex::Regex::new(&PATTERN.replacen("(?!.*[A-Za-z0-9]{24})", "", 1)).unwrap()
    }

    fn rejected(value: &str) -> &'static str {
        let error = AuthProfile::new(value).expect_err(value);
        assert_eq!(error.field, "auth");
        [GRAMMAR, SECRET].into_iter().find(|known| error.problem == *known).expect("one of the two texts")
    }

    #[test]
    fn real_profile_names_are_accepted_unchanged() {
        for name in [
            "claude:work-profile",
            "claude:a",
            "openai-codex:default",
            "anthropic:first.last+cron@mail.example.com",
            "google-gemini-cli:christopher.robinson@engineering.example.org",
            "github-copilot:github",
            "amazon-bedrock:123456789012/eu-central-1",
            "x.ai:grok_4",
            "0ai:550e8400-e29b-41d4-a716-446655440000",
            "claude:550E8400-E29B-41D4-A716-446655440000",
            "claude:müller-büro",
            "claude:仕事",
            "claude:Customer-Support-2026-Production-EU-West-1",
            "claude:acme/teamA/CronJobs/Nightly-Report-V2-Blue",
            "claude:skating",
            "claude:eyes",
            "claude:akia",
            "claude:work-sk",
            "claude:abcdefghijklmnopqrstuvw",
        ] {
            assert_eq!(AuthProfile::new(name).map(|one| one.to_string()), Ok(name.to_owned()));
            #[cfg(feature = "openapi")]
            assert!(grammar().is_match(name), "{name}");
            let longest = format!("{}:{}", "p-".repeat(32), "n-".repeat(64));
            assert_eq!(longest.len(), AuthProfile::MAX);
            assert!(AuthProfile::new(longest).is_ok());
        }
    }

    #[test]
    fn malformed_profile_is_rejected() {
        for other in [
            "",
            ":",
            "claude",
            "claude:",
            ":work",
            "Claude:work",
            "-claude:work",
            ".c:work",
            "cläude:work",
            "claude: work",
            " claude:work",
            "claude:work ",
            "claude:a:b",
            "claude::a",
            "claude:wo rk",
            "claude:work\n",
            "claude:wo\u{0}rk",
            "claude:work\u{202e}",
            "claude:\u{1f511}",
            "claude:a,b",
            "claude:\"a\"",
            "claude:$HOME",
            "claude:a=b",
            "https://example.com",
        ] {
            assert_eq!(rejected(other), GRAMMAR, "{other:?}");
            #[cfg(feature = "openapi")]
            assert!(!other.is_ascii() || !grammar().is_match(other), "{other:?}");
        }
        assert_eq!(rejected(&format!("{}:a", "p-".repeat(33))), GRAMMAR);
        assert_eq!(rejected(&format!("p:{}", "n-".repeat(65))), GRAMMAR);
    }

    #[test]
    fn secrets_are_rejected_on_either_side_of_a_colon() {
        for secret in [
            "sk-ant-api03-x",
            "sk-proj-x",
            "SK-x",
            "sk_live_x",
            "rk_test_x",
            "ghp_x",
            "gho_x",
            "github_pat_11A",
            "glpat-x",
            "hf_x",
            "npm_x",
            "pypi-x",
            "xoxb-1-2",
            "xoxp-1-2",
            "xapp-1",
            "AKIAIOSFODNN7EXAMPLE",
            "AIzaSyA",
            "ya29.a0",
            "eyJhbGciOiJIUzI1NiJ9.e30.c2ln",
            "whsec_x",
            "Bearer x",
            "bearer x",
            "-----BEGIN PRIVATE KEY-----",
            // Without a known prefix, but not names either.
            "abcdefghijklmnopqrstuvwx",
            "4f9d2c81a7e3b6054f9d2c81",
            "4f9d2c81a7e3b6054f9d2c81a7e3b605",
            "Zk7PqR2vLx9TnB4wYc8HdM3s",
            "Zk7PqR2v-Lx9TnB4wYc8_HdM3sGf6Jh1Ka5Xe0",
            "Zk7P+qR2vLx9/TnB4wYc8HdM3sG+f6Jh1Ka5Xe0",
        ] {
            for value in [
                secret.to_owned(),
                format!("claude:{secret}"),
                format!("{secret}:work"),
                format!("claude:work:{secret}"),
                format!("claude: {secret}"),
            ] {
                assert_eq!(rejected(&value), SECRET, "{value:?}");
            }
        }
    }

    #[test]
    fn error_for_a_wrong_type_omits_the_value() {
        let error = |json: &str| serde_json::from_str::<AuthProfile>(json).unwrap_err().to_string();
        for (json, kind) in [
            ("12345678901234567", "a number"),
            ("true", "a boolean"),
            (r#"{"sk-x":"sk-x"}"#, "an object"),
            (r#"["sk-x"]"#, "an array"),
            ("null", "null"),
        ] {
            assert_eq!(error(json).split(" at line").next(), Some(&*format!("must be a string, not {kind}")));
        }
    }

    /// Random keys: 24 to 60 letters and digits, or 32 to 64 hex digits.
    fn random_key() -> impl Strategy<Value = String> {
        prop_oneof!["[A-Za-z0-9]{24,60}", "[0-9a-f]{32,64}"]
    }

    proptest! {
        #[test]
        fn errors_never_contain_the_value(value in ".{0,300}") {
            if let Err(error) = AuthProfile::new(value) {
                prop_assert_eq!(error.field, "auth");
                prop_assert!([GRAMMAR, SECRET].contains(&error.problem.as_str()));
            }
        }

        #[test]
        fn random_keys_never_pass(key in random_key(), provider in "[a-z]{1,10}") {
            for value in [key.clone(), format!("{provider}:{key}"), format!("{key}:{provider}")] {
                let error = AuthProfile::new(value).unwrap_err();
                for shown in [error.to_string(), format!("{error:?}")] {
                    prop_assert!(!shown.contains(&key));
                }
            }
        }

        #[test]
        fn accepted_profiles_are_provider_and_name_and_stable(value in "[a-z0-9._-]{1,70}:[A-Za-z0-9._@+/é-]{1,140}") {
            if let Ok(profile) = AuthProfile::new(value.clone()) {
                prop_assert_eq!(profile.as_str(), &value);
                prop_assert!(value.len() <= AuthProfile::MAX);
                let json = serde_json::to_string(&profile).unwrap();
                prop_assert_eq!(serde_json::from_str::<AuthProfile>(&json).unwrap(), profile);
            }
        }
    }
}
