//! The file named by `issuers_file`: further issuers of access tokens, each with its own rules.
//!
//! Errors name the table and the field. The file contains no secrets, only the names of files that do.

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
        Preset::Unset { means: "only the portal", example: "/etc/nas-cron/issuers.toml" },
        "TOML file with further issuers of access tokens, one [[issuer]] table each. See docs/portals.md.";
}

/// Maximum number of issuers. The keys of each are fetched, or its tokens introspected.
const MOST: usize = 64;

/// An issuer of access tokens other than the portal.
#[derive(Clone, Debug)]
pub struct Issuer {
    /// The tokens' `iss`, byte for byte.
    pub issuer: String,
    /// Source of the keys that verify its JWTs; `None` if its tokens are introspected.
    pub jwks: Option<PortalJwks>,
    /// Introspection endpoint for its opaque tokens.
    pub introspection: Option<Introspection>,
    /// Prefix of its opaque tokens, unique among issuers. Set if and only if `introspection` is.
    pub token_prefix: Option<String>,
    /// Accepted `aud`; empty accepts any.
    pub audiences: Vec<String>,
    /// Orgs whose instances its tokens may name.
    pub orgs: Orgs,
    /// True if a JWT without a client may identify an agent by its `aud`.
    pub agents_by_audience: bool,
}

/// Orgs whose instances an issuer's tokens may name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Orgs {
    /// Every org, like the portal.
    All,
    /// Only these orgs.
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
    #[serde(default)]
    agents_by_audience: bool,
}

/// Reads the file at this path. Relative paths in it are relative to its directory.
fn read(path: &str) -> Result<Vec<Issuer>, Wrong> {
    let path = Path::new(path);
    let text = std::fs::read_to_string(path).map_err(|error| {
        Wrong::new(format!("could not be read: {error}"), "name a file that `serve` can read")
    })?;
    let file: File = toml::from_str(&text).map_err(|error| {
        let line = error.span().map_or(1, |span| text[..span.start].matches('\n').count() + 1);
        let fix = "write one [[issuer]] table per issuer; docs/portals.md has an example";
        Wrong::new(format!("is invalid at line {line}: {}", error.message()), fix)
    })?;
    if file.issuer.is_empty() || file.issuer.len() > MOST {
        let fix = format!("write 1 to {MOST} [[issuer]] tables, or remove issuers_file");
        return Err(Wrong::new(format!("has {} [[issuer]] tables", file.issuer.len()), fix));
    }
    let folder = path.parent().unwrap_or(Path::new(""));
    let mut seen = BTreeSet::new();
    let mut issuers: Vec<Issuer> = Vec::new();
    for (index, table) in file.issuer.into_iter().enumerate() {
        let named = table.issuer.as_ref().map_or_else(String::new, |name| format!(" ({name})"));
        let read = table.read(folder).and_then(|issuer| {
            if !seen.insert(issuer.issuer.clone()) {
                return Err(wrong(
                    "issuer",
                    "is the same as in an earlier table",
                    "write one table per issuer",
                ));
            }
            let both = |one: &String, other: &String| one.starts_with(other) || other.starts_with(one);
            let mut earlier = issuers.iter().filter_map(|earlier| earlier.token_prefix.as_ref());
            if issuer.token_prefix.as_ref().is_some_and(|own| earlier.any(|other| both(own, other))) {
                let fix = "give each issuer a prefix that no other issuer's tokens start with";
                return Err(wrong("token_prefix", "overlaps with the prefix of an earlier table", fix));
            }
            Ok(issuer)
        });
        let issuer = read.map_err(|error| {
            let place = format!("[[issuer]] table {}{named}", index + 1);
            Wrong::new(format!("is invalid in {place}: {}", error.wrong), error.fix)
        })?;
        issuers.push(issuer);
    }
    Ok(issuers)
}

fn wrong(field: &str, wrong: impl std::fmt::Display, fix: impl Into<String>) -> Wrong {
    Wrong::new(format!("{field} {wrong}"), fix)
}

/// Returns a function that puts the field's name before an error.
fn of(field: &str) -> impl FnOnce(Wrong) -> Wrong + '_ {
    move |error| wrong(field, error.wrong, error.fix)
}

impl Table {
    fn read(self, folder: &Path) -> Result<Issuer, Wrong> {
        let fix = "write the `iss` of its tokens, byte for byte";
        let issuer = self.issuer.ok_or_else(|| wrong("issuer", "is missing", fix))?;
        if issuer.is_empty() || issuer.len() > 2048 || issuer.chars().any(char::is_control) {
            return Err(wrong(
                "issuer",
                "is empty, longer than 2048 bytes, or contains control characters",
                fix,
            ));
        }
        let jwks = match (self.jwks_url, self.jwks_file) {
            (Some(_), Some(_)) => {
                let fix = "keep the URL for keys that refresh, or the file for pinned keys";
                return Err(wrong("jwks_url", "and jwks_file are both set", fix));
            }
            (Some(url), None) => {
                let url = urls::url(&url).map_err(of("jwks_url"))?;
                if !keeps_secrets(&url) {
                    let wrong_with = "is not https, so the keys could be replaced in transit";
                    let fix = "use an https URL (http is allowed for loopback only)";
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
                return Err(wrong("introspection_url", "needs a client id and a client secret", fix));
            }
        };
        if jwks.is_none() && introspection.is_none() {
            let fix = "set jwks_url, jwks_file, or introspection_url with its client";
            return Err(wrong("jwks_url", "is missing: its tokens could not be verified", fix));
        }
        let token_prefix = token_prefix(self.token_prefix, introspection.is_some())?;
        let orgs = match (self.all_orgs, self.orgs) {
            (true, orgs) if orgs.is_empty() => Orgs::All,
            (true, _) => {
                return Err(wrong("all_orgs", "and orgs are both set", "keep one of them"));
            }
            (false, orgs) if orgs.is_empty() => {
                let fix = "list the orgs whose agents its tokens may name, or set `all_orgs = true`";
                return Err(wrong("orgs", "is missing", fix));
            }
            (false, orgs) => Orgs::Only(orgs.into_iter().collect()),
        };
        if self.agents_by_audience && jwks.is_none() {
            let fix = "set jwks_url or jwks_file, or remove it: an introspected token never identifies an agent by `aud`";
            return Err(wrong("agents_by_audience", "needs the issuer's keys", fix));
        }
        let (audiences, agents_by_audience) = (self.audiences, self.agents_by_audience);
        Ok(Issuer { issuer, jwks, introspection, token_prefix, audiences, orgs, agents_by_audience })
    }
}

/// Reads the prefix that selects the one issuer an opaque token is sent to, since whoever receives a token could use it.
fn token_prefix(given: Option<String>, introspects: bool) -> Result<Option<String>, Wrong> {
    let field = "token_prefix";
    match given {
        None if !introspects => Ok(None),
        None => {
            let fix = "write a prefix that only its opaque tokens have, such as `partner_`";
            Err(wrong(
                field,
                "is missing: with introspection_url it selects the tokens to introspect there",
                fix,
            ))
        }
        Some(_) if !introspects => Err(wrong(
            field,
            "is only for issuers with introspection_url",
            "set introspection_url, or remove token_prefix",
        )),
        Some(prefix) if parse::header(&prefix).is_err() => {
            let fix = "use visible ASCII characters without spaces";
            Err(wrong(field, "is empty or contains characters that no token has", fix))
        }
        Some(prefix) => Ok(Some(prefix)),
    }
}

fn introspection(url: &str, client_id: String, secret_file: &Path) -> Result<Introspection, Wrong> {
    let url = urls::url(url).map_err(of("introspection_url"))?;
    if !keeps_secrets(&url) {
        let fix = "use an https URL (http is allowed for loopback only)";
        return Err(wrong(
            "introspection_url",
            "is not https, so agents' tokens would be sent unencrypted",
            fix,
        ));
    }
    let field = "introspection_client_secret_file";
    let secret = std::fs::read_to_string(secret_file).map_err(|error| {
        let fix = "name a file that `serve` can read and that contains only the secret";
        wrong(field, format!("{} could not be read: {error}", secret_file.display()), fix)
    })?;
    let secret = secret.trim_end_matches(['\r', '\n']);
    if secret.is_empty() {
        return Err(wrong(field, format!("{} is empty", secret_file.display()), "write the secret into it"));
    }
    Ok(Introspection { url, client_id, client_secret: SecretString::from(secret) })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads a file with this text, next to a file `secret`.
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
    fn issuers_of_every_kind_are_read() {
        let text = format!(
            "{SOUND}audiences = ['x']\nagents_by_audience = true\n[[issuer]]\nissuer = 'b'\njwks_file = 'b.pem'\nall_orgs = true\n\
             [[issuer]]\nissuer = 'c'\nintrospection_url = 'http://127.0.0.1/i'\nintrospection_client_id = 'n'\n\
             introspection_client_secret_file = 'secret'\ntoken_prefix = 'c_'\norgs = ['o']\n"
        );
        let issuers = given(&text).unwrap();
        assert_eq!(issuers[0].issuer, "https://a/", "byte for byte");
        assert_eq!(issuers[0].orgs, Orgs::Only(["o1".to_owned(), "o2".to_owned()].into()));
        assert_eq!(issuers[0].audiences, ["x"]);
        assert_eq!(
            issuers.iter().map(|one| one.agents_by_audience).collect::<Vec<_>>(),
            [true, false, false]
        );
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
            (table("a", "token_prefix = 'a b'\n"), "token_prefix is empty or contains characters"),
            (
                format!("{SOUND}token_prefix = 'a'\n"),
                "token_prefix is only for issuers with introspection_url",
            ),
            (
                table("a", "token_prefix = 'p_'\n") + &table("b", "token_prefix = 'p_2'\n"),
                "[[issuer]] table 2 (b): token_prefix overlaps with the prefix of an earlier table",
            ),
            (
                table("a", "token_prefix = 'p_2'\n") + &table("b", "token_prefix = 'p_'\n"),
                "token_prefix overlaps with the prefix of an earlier table",
            ),
            (String::new(), "has 0 [[issuer]] tables"),
            ("[[issuer]]\nissuer = 'a'\njwks_uri = 'x'\n".to_owned(), "line 3: unknown field `jwks_uri`"),
            ("[[issuers]]\n".to_owned(), "unknown field `issuers`"),
            ("[[issuer]\n".to_owned(), "is invalid at line 1"),
            ("[[issuer]]\nissuer = 7\n".to_owned(), "line 2: invalid type"),
            (
                "[[issuer]]\njwks_url = 'https://a'\norgs = ['o']\n".to_owned(),
                "[[issuer]] table 1: issuer is missing",
            ),
            (SOUND.replace("https://a/keys", "http://a/keys"), "jwks_url is not https"),
            ("[[issuer]]\nissuer = ''\n".to_owned(), "issuer is empty"),
            (
                format!("{SOUND}{SOUND}"),
                "[[issuer]] table 2 (https://a/): issuer is the same as in an earlier table",
            ),
            (format!("{SOUND}jwks_file = 'x'\n"), "jwks_url and jwks_file are both set"),
            (format!("{SOUND}all_orgs = true\n"), "all_orgs and orgs are both set"),
            ("[[issuer]]\nissuer = 'a'\norgs = ['o']\n".to_owned(), "jwks_url is missing"),
            ("[[issuer]]\nissuer = 'a'\njwks_url = 'https://a'\n".to_owned(), "orgs is missing"),
            (
                "[[issuer]]\nissuer = 'a'\njwks_url = 'a'\norgs = ['o']\n".to_owned(),
                "jwks_url is not an absolute URL",
            ),
            (format!("{SOUND}{asked}"), "introspection_url needs a client"),
            (
                table("a", "token_prefix = 'a_'\nagents_by_audience = true\n"),
                "agents_by_audience needs the issuer's keys",
            ),
            (format!("{SOUND}{asked}introspection_client_secret_file = 'none'\n"), "none could not be read"),
            (format!("{SOUND}{asked}introspection_client_secret_file = 'empty'\n"), "empty is empty"),
            (
                format!("{SOUND}{asked}introspection_client_secret_file = 'secret'\n")
                    .replace("https://c", "http://c"),
                "introspection_url is not https",
            ),
        ] {
            let error = given(&text).unwrap_err();
            assert!(error.wrong.contains(told) && !error.fix.is_empty(), "{text}: {error:?}");
        }
        assert!(read("/nowhere/issuers.toml").unwrap_err().wrong.contains("could not be read"));
    }
}
