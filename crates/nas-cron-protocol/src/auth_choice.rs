//! The value of `auth`: no profile, one profile, or several in order of preference (docs/auth-profiles.md#forms).

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use super::fields::kind;
use super::{AuthProfile, InvalidField};

/// Word for [`AuthChoice::NoProfile`] on a command line, in a CSV cell and in tables. Profiles have a colon.
const NONE: &str = "none";

/// The credentials that an agent is asked to use for a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuthChoice {
    /// `false`: no profile, also if a wider scope sets one.
    NoProfile,
    /// One profile.
    Profile(AuthProfile),
    /// 1 to 8 different profiles, the preferred one first. One of them is not the same as a single [`Self::Profile`]: the
    /// agent gets the form that was sent.
    Rotation(Vec<AuthProfile>),
}

/// The fault of a value, and the index of the list item that has it.
struct Fault {
    item: Option<usize>,
    problem: String,
}

impl Fault {
    fn new(problem: impl Into<String>) -> Self {
        Self { item: None, problem: problem.into() }
    }

    /// Names the fault for `field`, such as `auth` or `auth[2]`.
    fn of(self, field: &str) -> InvalidField {
        let field = self.item.map_or_else(|| field.to_owned(), |index| format!("{field}[{index}]"));
        InvalidField::new(field, self.problem)
    }
}

impl AuthChoice {
    /// Maximum number of profiles in a list.
    pub const MAX_PROFILES: usize = 8;

    /// Validates a JSON value. The error names `auth` or the item, such as `auth[2]`, and contains no part of the value.
    pub fn from_json(value: &Value) -> Result<Self, InvalidField> {
        Self::parse(value).map_err(|fault| fault.of("auth"))
    }

    /// Validates words of a command line: `none`, or the names of 1 to 8 profiles. The error names the option and the
    /// number of the word, and contains no word.
    pub fn from_words(option: &str, words: &[String]) -> Result<Self, String> {
        let read = match words {
            [word] if word == NONE => return Ok(Self::NoProfile),
            words if words.iter().any(|word| word == NONE) => {
                Err(Fault::new("must be either none or profiles, not both"))
            }
            [word] => Self::parse(&word.as_str().into()),
            words => Self::parse(&words.iter().map(String::as_str).collect()),
        };
        read.map_err(|Fault { item, problem }| match item {
            Some(index) => format!("{option} number {} {problem}", index + 1),
            None => format!("{option} {problem}"),
        })
    }

    fn parse(value: &Value) -> Result<Self, Fault> {
        match value {
            Value::Bool(false) => Ok(Self::NoProfile),
            Value::Bool(true) => Err(Fault::new("must be false, a profile or a list of profiles, not true")),
            Value::String(text) => match AuthProfile::new(text.as_str()) {
                Ok(profile) => Ok(Self::Profile(profile)),
                Err(error) => Err(Fault::new(error.problem)),
            },
            Value::Array(items) => Self::parse_list(items),
            other => Err(Fault::new(format!(
                "must be false, a profile or a list of profiles, not {}",
                kind(other)
            ))),
        }
    }

    fn parse_list(items: &[Value]) -> Result<Self, Fault> {
        if items.is_empty() {
            return Err(Fault::new("must not be an empty list: send false for no profile"));
        }
        if items.len() > Self::MAX_PROFILES {
            return Err(Fault::new(format!("must have at most {} profiles", Self::MAX_PROFILES)));
        }
        let mut profiles = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            let at = |problem: String| Fault { item: Some(index), problem };
            let Value::String(text) = item else {
                return Err(at(format!("must be a string, not {}", kind(item))));
            };
            let profile = AuthProfile::new(text.as_str()).map_err(|error| at(error.problem))?;
            if profiles.contains(&profile) {
                return Err(at("is in the list twice".to_owned()));
            }
            profiles.push(profile);
        }
        Ok(Self::Rotation(profiles))
    }

    /// The profiles, the preferred one first.
    pub fn profiles(&self) -> &[AuthProfile] {
        match self {
            Self::NoProfile => &[],
            Self::Profile(profile) => std::slice::from_ref(profile),
            Self::Rotation(profiles) => profiles,
        }
    }

    /// Returns the JSON value, as sent and stored.
    pub fn to_json(&self) -> Value {
        serde_json::json!(self)
    }

    /// Reads a stored value, which was validated on insert.
    pub fn stored(value: Value) -> Self {
        let name = |value| match value {
            Value::String(text) => Some(AuthProfile::stored(text)),
            _ => None,
        };
        match value {
            Value::Array(items) => Self::Rotation(items.into_iter().filter_map(name).collect()),
            other => name(other).map_or(Self::NoProfile, Self::Profile),
        }
    }
}

impl Serialize for AuthChoice {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::NoProfile => serializer.serialize_bool(false),
            Self::Profile(profile) => profile.serialize(serializer),
            Self::Rotation(profiles) => profiles.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for AuthChoice {
    /// The error omits the field, which the caller knows, and begins with the index of a list item. The value is first
    /// read as any JSON, because serde's error for a wrong type repeats the value.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        Self::parse(&value).map_err(|fault| {
            let place = fault.item.map(|index| format!("[{index}]: ")).unwrap_or_default();
            serde::de::Error::custom(format!("{place}{}", fault.problem))
        })
    }
}

impl std::fmt::Display for AuthChoice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [first, others @ ..] = self.profiles() else { return f.write_str(NONE) };
        write!(f, "{first}")?;
        others.iter().try_for_each(|other| write!(f, ", {other}"))
    }
}

#[cfg(feature = "openapi")]
mod schema {
    use utoipa::openapi::RefOr;
    use utoipa::openapi::schema::{ArrayBuilder, ObjectBuilder, OneOfBuilder, Ref, Schema, Type};
    use utoipa::{PartialSchema, ToSchema};

    use super::{AuthChoice, AuthProfile};

    impl PartialSchema for AuthChoice {
        fn schema() -> RefOr<Schema> {
            let profile = || Ref::from_schema_name(AuthProfile::name());
            let never = ObjectBuilder::new()
                .schema_type(Type::Boolean)
                .enum_values(Some([false]))
                .description(Some("No profile, also if a wider scope sets one."));
            let list = ArrayBuilder::new()
                .items(profile())
                .min_items(Some(1))
                .max_items(Some(AuthChoice::MAX_PROFILES))
                .unique_items(true)
                .description(Some("Profiles in order of preference."));
            OneOfBuilder::new()
                .description(Some("The auth profiles of a job: one as `provider:name`, several, or none."))
                .item(profile())
                .item(list)
                .item(never)
                .into()
        }
    }

    impl ToSchema for AuthChoice {
        fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
            schemas.push((AuthProfile::name().into_owned(), AuthProfile::schema()));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn read(value: Value) -> Result<AuthChoice, String> {
        let read = AuthChoice::from_json(&value);
        let by_serde = serde_json::from_value::<AuthChoice>(value);
        assert_eq!(by_serde.as_ref().ok(), read.as_ref().ok());
        if let (Err(error), Err(other)) = (&read, by_serde) {
            let shown = error.to_string().replacen("auth", "", 1);
            assert_eq!(other.to_string(), shown.trim_start_matches(": "));
        }
        read.map_err(|error| error.to_string())
    }

    #[test]
    fn each_form_is_kept_as_sent() {
        for value in [
            json!(false),
            json!("claude:work"),
            json!(["claude:work"]),
            json!(["claude:work", "codex:default", "claude:budget"]),
        ] {
            let choice = read(value.clone()).unwrap();
            assert_eq!(json!(choice), value);
            assert_eq!(AuthChoice::stored(choice.to_json()), choice);
        }
        let eight: Vec<_> = (0..8).map(|number| format!("p:{number}")).collect();
        assert_eq!(read(json!(eight)).unwrap().profiles().len(), AuthChoice::MAX_PROFILES);
    }

    #[test]
    fn fault_names_the_field_or_the_item() {
        let nine: Vec<_> = (0..9).map(|number| format!("p:{number}")).collect();
        for (value, expected) in [
            (json!(true), "auth: must be false, a profile or a list of profiles, not true"),
            (json!(null), "auth: must be false, a profile or a list of profiles, not null"),
            (json!(7), "auth: must be false, a profile or a list of profiles, not a number"),
            (json!({"sk-x": 1}), "auth: must be false, a profile or a list of profiles, not an object"),
            (json!([]), "auth: must not be an empty list: send false for no profile"),
            (json!(nine), "auth: must have at most 8 profiles"),
            (json!(["p:a", "p:b", 7]), "auth[2]: must be a string, not a number"),
            (json!(["p:a", false]), "auth[1]: must be a string, not a boolean"),
            (json!(["p:a", null]), "auth[1]: must be a string, not null"),
            (json!([["p:a"]]), "auth[0]: must be a string, not an array"),
            (json!(["p:a", "p:b", "p:a"]), "auth[2]: is in the list twice"),
        ] {
            assert_eq!(read(value.clone()).unwrap_err(), expected, "{value}");
        }
        assert!(read(json!(["p:a", "none"])).unwrap_err().starts_with("auth[1]: must be provider:name"));
        assert!(read(json!(["p:a", "sk-ant-x"])).unwrap_err().starts_with("auth[1]: looks like a secret"));
    }

    #[test]
    fn words_of_a_command_line_give_each_form() {
        let read = |words: &[&str]| {
            let words: Vec<_> = words.iter().map(|word| (*word).to_owned()).collect();
            AuthChoice::from_words("--auth", &words).map(|choice| json!(choice))
        };
        assert_eq!(read(&["none"]), Ok(json!(false)));
        assert_eq!(read(&["p:a"]), Ok(json!("p:a")));
        assert_eq!(read(&["p:a", "p:b"]), Ok(json!(["p:a", "p:b"])));
        let both = Err("--auth must be either none or profiles, not both".to_owned());
        assert_eq!(read(&["p:a", "none"]), both);
        assert_eq!(read(&["p:a", "p:a"]), Err("--auth number 2 is in the list twice".to_owned()));
        assert!(read(&["p:a", "sk-ant-x"]).unwrap_err().starts_with("--auth number 2 looks like a secret"));
        assert!(read(&["false"]).unwrap_err().starts_with("--auth must be provider:name"));
    }

    proptest! {
        #[test]
        fn every_valid_choice_survives_the_database(names in proptest::collection::btree_set("[a-z0-9][a-z0-9._-]{0,5}:[a-z0-9][A-Za-z0-9._@+/é-]{0,9}", 0..9)) {
            if let Ok(choice) = AuthChoice::from_json(&json!(names)) {
                prop_assert_eq!(AuthChoice::stored(choice.to_json()), choice);
            }
        }

        #[test]
        fn errors_contain_no_item(items in proptest::collection::vec(".{3,40}", 1..10)) {
            if let Err(error) = AuthChoice::from_json(&json!(items)) {
                let problems = ["must be provider:name", "looks like a secret", "must have at most 8", "is in the list twice"];
                prop_assert!(problems.iter().any(|known| error.problem.starts_with(known)), "{}", error);
            }
        }
    }
}
