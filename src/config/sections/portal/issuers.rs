//! The file of `issuers_file`: issuers of access tokens beside the portal, each with rules of its own.
//!
//! What is wrong names the table and the field. The file holds no secret: it names files that do.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use secrecy::SecretString;
use serde::Deserialize;

use super::introspection::Introspection;
use super::issuer::PortalJwks;
use crate::config::parse;
use crate::config::problem::Wrong;
use crate::config::setting::Preset;
use crate::config::typed_key::{OptionalKey, settings};
use crate::config::urls::{self, keeps_secrets};
use crate::config::values;

settings! { Portal:
    ISSUERS_FILE: OptionalKey<Vec<Issuer>> = "issuers_file", values::file(|_, path| read(path)),
        Preset::Unset { means: "the portal alone", example: "/etc/nas-cron/issuers.toml" },
        "Further issuers of access tokens, each with its own rules: a TOML file with a table [[issuer]] for each. See docs/portals.md.";
}

/// More are not read: each is asked for its keys, or for every opaque token.
const MOST: usize = 64;

/// An issuer of access tokens beside the portal.
#[derive(Clone, Debug)]
pub struct Issuer {
    /// The `iss` of its tokens, byte for byte.
    pub issuer: String,
    /// Where the keys of its JWTs come from; `None`: its tokens are introspected.
    pub jwks: Option<PortalJwks>,
    /// Where it says what its tokens stand for.
    pub introspection: Option<Introspection>,
    /// What its opaque tokens begin with: there where `introspection` is. No other's begins with it.
    pub token_prefix: Option<String>,
    /// Allowed `aud`; empty: not judged.
    pub audiences: Vec<String>,
    /// For whose instances it may speak.
    pub orgs: Orgs,
}

/// For whose instances an issuer may speak.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Orgs {
    /// Every org's, as the portal.
    All,
    /// These orgs' only.
    Only(BTreeSet<String>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    issuer: Vec<Table>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    issuer: Option<String>,
    jwks_url: Option<String>,
    jwks_file: Option<PathBuf>,
    introspection_url: Option<String>,
    introspection_client_id: Option<String>,
    introspection_client_secret_file: Option<PathBuf>,
    token_prefix: Option<String>,
    #[serde(default)]
    audiences: Vec<String>,
    #[serde(default)]
    orgs: Vec<String>,
    #[serde(default)]
    all_orgs: bool,
}

/// Reads the file at this path. Paths in it start from its own folder.
fn read(path: &str) -> Result<Vec<Issuer>, Wrong> {
    let path = Path::new(path);
    let text = std::fs::read_to_string(path).map_err(|error| {
        Wrong::new(format!("cannot be read: {error}"), "name a file that `serve` may read")
    })?;
    let file: File = toml::from_str(&text).map_err(|error| {
        let line = error.span().map_or(1, |span| text[..span.start].matches('\n').count() + 1);
        let fix = "write a table [[issuer]] for each; docs/portals.md shows one";
        Wrong::new(format!("is wrong at line {line}: {}", error.message()), fix)
    })?;
    if file.issuer.is_empty() || file.issuer.len() > MOST {
        let fix = format!("write 1 to {MOST} tables [[issuer]], or take issuers_file away");
        return Err(Wrong::new(format!("has {} tables [[issuer]]", file.issuer.len()), fix));
    }
    let folder = path.parent().unwrap_or(Path::new(""));
    let mut seen = BTreeSet::new();
    let mut issuers: Vec<Issuer> = Vec::new();
    for (index, table) in file.issuer.into_iter().enumerate() {
        let named = table.issuer.as_ref().map_or_else(String::new, |name| format!(" ({name})"));
        let read = table.read(folder).and_then(|issuer| {
            if !seen.insert(issuer.issuer.clone()) {
                return Err(wrong("issuer", "is that of an earlier table", "give each issuer one table"));
            }
            let both = |one: &String, other: &String| one.starts_with(other) || other.starts_with(one);
            let mut earlier = issuers.iter().filter_map(|earlier| earlier.token_prefix.as_ref());
            if issuer.token_prefix.as_ref().is_some_and(|own| earlier.any(|other| both(own, other))) {
                let fix = "give each issuer a prefix that no token of another begins with";
                return Err(wrong("token_prefix", "and that of an earlier table begin alike", fix));
            }
            Ok(issuer)
        });
        let issuer = read.map_err(|error| {
            let place = format!("table {} of [[issuer]]{named}", index + 1);
            Wrong::new(format!("is wrong in {place}: {}", error.wrong), error.fix)
        })?;
        issuers.push(issuer);
    }
    Ok(issuers)
}

fn wrong(field: &str, wrong: impl std::fmt::Display, fix: impl Into<String>) -> Wrong {
    Wrong::new(format!("{field} {wrong}"), fix)
}

/// What is wrong, with the field before it.
fn of(field: &str) -> impl FnOnce(Wrong) -> Wrong + '_ {
    move |error| wrong(field, error.wrong, error.fix)
}

impl Table {
    fn read(self, folder: &Path) -> Result<Issuer, Wrong> {
        let fix = "write the `iss` of its tokens, byte for byte";
        let issuer = self.issuer.ok_or_else(|| wrong("issuer", "is missing", fix))?;
        if issuer.is_empty() || issuer.len() > 2048 || issuer.chars().any(char::is_control) {
            return Err(wrong("issuer", "is empty, too long, or holds control characters", fix));
        }
        let jwks = match (self.jwks_url, self.jwks_file) {
            (Some(_), Some(_)) => {
                let fix = "keep the URL to have its keys refreshed, or the file to pin them";
                return Err(wrong("jwks_url", "and jwks_file are both set", fix));
            }
            (Some(url), None) => {
                let url = urls::url(&url).map_err(of("jwks_url"))?;
                if !keeps_secrets(&url) {
                    let wrong_with =
                        "would have keys fetched in the clear, which anybody on the way could replace";
                    let fix = "write an https URL (http is for loopback only)";
                    return Err(wrong("jwks_url", wrong_with, fix));
                }
                Some(PortalJwks::Url(url))
            }
            (None, Some(file)) => Some(PortalJwks::File(folder.join(file))),
            (None, None) => None,
        };
        let introspection = match (
            self.introspection_url,
            self.introspection_client_id,
            self.introspection_client_secret_file,
        ) {
            (None, None, None) => None,
            (Some(url), Some(client_id), Some(file)) => {
                Some(introspection(&url, client_id, &folder.join(file))?)
            }
            _ => {
                let fix = "set introspection_url, introspection_client_id and introspection_client_secret_file, or none";
                return Err(wrong("introspection_url", "takes a client and its secret", fix));
            }
        };
        if jwks.is_none() && introspection.is_none() {
            let fix = "set jwks_url, jwks_file, or introspection_url with its client";
            return Err(wrong("jwks_url", "is missing: nothing could verify its tokens", fix));
        }
        let token_prefix = token_prefix(self.token_prefix, introspection.is_some())?;
        let orgs = match (self.all_orgs, self.orgs) {
            (true, orgs) if orgs.is_empty() => Orgs::All,
            (true, _) => {
                return Err(wrong("all_orgs", "and orgs are both set", "keep the one that is meant"));
            }
            (false, orgs) if orgs.is_empty() => {
                let fix =
                    "list the orgs that it may speak for; `all_orgs = true` lets it name any org's agents";
                return Err(wrong("orgs", "is missing", fix));
            }
            (false, orgs) => Orgs::Only(orgs.into_iter().collect()),
        };
        Ok(Issuer { issuer, jwks, introspection, token_prefix, audiences: self.audiences, orgs })
    }
}

/// A token goes to one issuer alone, and this tells to which: whoever is shown a token may use it.
fn token_prefix(given: Option<String>, introspects: bool) -> Result<Option<String>, Wrong> {
    let field = "token_prefix";
    match given {
        None if !introspects => Ok(None),
        None => {
            let fix = "write what its opaque tokens begin with, and no others do, such as `partner_`";
            Err(wrong(field, "is missing: with introspection_url it tells which tokens are sent there", fix))
        }
        Some(_) if !introspects => {
            Err(wrong(field, "is for issuers with introspection_url", "set that too, or take it away"))
        }
        Some(prefix) if parse::header(&prefix).is_err() => {
            let fix = "write visible ASCII characters, without a space";
            Err(wrong(field, "is empty, or begins no token", fix))
        }
        Some(prefix) => Ok(Some(prefix)),
    }
}

fn introspection(url: &str, client_id: String, secret_file: &Path) -> Result<Introspection, Wrong> {
    let url = urls::url(url).map_err(of("introspection_url"))?;
    if !keeps_secrets(&url) {
        let fix = "write an https URL (http is for loopback only)";
        return Err(wrong("introspection_url", "would get agents' tokens in the clear", fix));
    }
    let field = "introspection_client_secret_file";
    let secret = std::fs::read_to_string(secret_file).map_err(|error| {
        let fix = "name a file that `serve` may read, with the secret alone in it";
        wrong(field, format!("{} cannot be read: {error}", secret_file.display()), fix)
    })?;
    let secret = secret.trim_end_matches(['\r', '\n']);
    if secret.is_empty() {
        return Err(wrong(field, format!("{} is empty", secret_file.display()), "put the secret into it"));
    }
    Ok(Introspection { url, client_id, client_secret: SecretString::from(secret) })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads a file of this text, with `secret` beside it.
    fn given(text: &str) -> Result<Vec<Issuer>, Wrong> {
        let folder = std::env::temp_dir().join(format!("nas-cron-issuers-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("secret"), "hunter2\n").unwrap();
        std::fs::write(folder.join("empty"), "\n").unwrap();
        let file = folder.join("issuers.toml");
        std::fs::write(&file, text).unwrap();
        let issuers = read(file.to_str().unwrap());
        std::fs::remove_dir_all(folder).unwrap();
        issuers
    }

    const SOUND: &str =
        "[[issuer]]\nissuer = 'https://a/'\njwks_url = 'https://a/keys'\norgs = ['o1', 'o2']\n";

    #[test]
    fn a_file_with_issuers_of_every_kind() {
        let text = format!(
            "{SOUND}audiences = ['x']\n[[issuer]]\nissuer = 'b'\njwks_file = 'b.pem'\nall_orgs = true\n\
             [[issuer]]\nissuer = 'c'\nintrospection_url = 'http://127.0.0.1/i'\nintrospection_client_id = 'n'\n\
             introspection_client_secret_file = 'secret'\ntoken_prefix = 'c_'\norgs = ['o']\n"
        );
        let issuers = given(&text).unwrap();
        assert_eq!(issuers[0].issuer, "https://a/", "byte for byte");
        assert_eq!(issuers[0].orgs, Orgs::Only(["o1".to_owned(), "o2".to_owned()].into()));
        assert_eq!(issuers[0].audiences, ["x"]);
        let Some(PortalJwks::File(file)) = &issuers[1].jwks else { panic!("{:?}", issuers[1]) };
        assert!(file.is_absolute() && file.ends_with("b.pem") && issuers[1].orgs == Orgs::All);
        let asked = issuers[2].introspection.as_ref().unwrap();
        assert_eq!(issuers[2].token_prefix.as_deref(), Some("c_"));
        assert_eq!(secrecy::ExposeSecret::expose_secret(&asked.client_secret), "hunter2");
        assert!(!format!("{issuers:?}").contains("hunter2"));
    }

    #[test]
    fn an_invalid_issuer_is_reported_by_table_and_field() {
        let asked = "introspection_url = 'https://c/i'\nintrospection_client_id = 'n'\n";
        let table = |name: &str, more: &str| {
            format!(
                "[[issuer]]\nissuer = '{name}'\norgs = ['o']\n{asked}introspection_client_secret_file = 'secret'\n{more}"
            )
        };
        for (text, told) in [
            (table("a", ""), "token_prefix is missing"),
            (table("a", "token_prefix = ''\n"), "token_prefix is empty"),
            (table("a", "token_prefix = 'a b'\n"), "token_prefix is empty, or begins no token"),
            (format!("{SOUND}token_prefix = 'a'\n"), "token_prefix is for issuers with introspection_url"),
            (
                table("a", "token_prefix = 'p_'\n") + &table("b", "token_prefix = 'p_2'\n"),
                "table 2 of [[issuer]] (b): token_prefix and that of an earlier table begin alike",
            ),
            (
                table("a", "token_prefix = 'p_2'\n") + &table("b", "token_prefix = 'p_'\n"),
                "token_prefix and that of an earlier table begin alike",
            ),
            (String::new(), "has 0 tables"),
            ("[[issuer]]\nissuer = 'a'\njwks_uri = 'x'\n".to_owned(), "line 3: unknown field `jwks_uri`"),
            ("[[issuers]]\n".to_owned(), "unknown field `issuers`"),
            ("[[issuer]\n".to_owned(), "is wrong at line 1"),
            ("[[issuer]]\nissuer = 7\n".to_owned(), "line 2: invalid type"),
            (
                "[[issuer]]\njwks_url = 'https://a'\norgs = ['o']\n".to_owned(),
                "table 1 of [[issuer]]: issuer is missing",
            ),
            (
                SOUND.replace("https://a/keys", "http://a/keys"),
                "jwks_url would have keys fetched in the clear",
            ),
            ("[[issuer]]\nissuer = ''\n".to_owned(), "issuer is empty"),
            (format!("{SOUND}{SOUND}"), "table 2 of [[issuer]] (https://a/): issuer is that of an earlier"),
            (format!("{SOUND}jwks_file = 'x'\n"), "jwks_url and jwks_file are both set"),
            (format!("{SOUND}all_orgs = true\n"), "all_orgs and orgs are both set"),
            ("[[issuer]]\nissuer = 'a'\norgs = ['o']\n".to_owned(), "jwks_url is missing"),
            ("[[issuer]]\nissuer = 'a'\njwks_url = 'https://a'\n".to_owned(), "orgs is missing"),
            (
                "[[issuer]]\nissuer = 'a'\njwks_url = 'a'\norgs = ['o']\n".to_owned(),
                "jwks_url is no absolute URL",
            ),
            (format!("{SOUND}{asked}"), "introspection_url takes a client"),
            (format!("{SOUND}{asked}introspection_client_secret_file = 'none'\n"), "none cannot be read"),
            (format!("{SOUND}{asked}introspection_client_secret_file = 'empty'\n"), "empty is empty"),
            (
                format!("{SOUND}{asked}introspection_client_secret_file = 'secret'\n")
                    .replace("https://c", "http://c"),
                "introspection_url would get agents' tokens in the clear",
            ),
        ] {
            let error = given(&text).unwrap_err();
            assert!(error.wrong.contains(told) && !error.fix.is_empty(), "{text}: {error:?}");
        }
        assert!(read("/nowhere/issuers.toml").unwrap_err().wrong.contains("cannot be read"));
    }
}
