//! Types of setting values: the kind that the table shows, and the parser.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use reqwest::header::HeaderMap;
use secrecy::{SecretBox, SecretString};
use url::Url;

use super::parse;
use super::problem::Wrong;
use super::setting::Kind;
use super::urls::{self, BaseUrl};

/// A type of setting values.
#[derive(Debug)]
pub(super) struct ValueType<T> {
    /// Kind that the table shows.
    pub(super) kind: Kind,
    /// True if the value is never printed and may also be read from the file named by `<key>_file`.
    pub(super) secret: bool,
    /// Parses a text. The kind carries the bounds.
    pub(super) parse: fn(Kind, &str) -> Result<T, Wrong>,
    /// Placeholder for an invalid value. It never leaves the reader.
    pub(super) stand_in: fn() -> T,
}

/// An enum whose values have names. The first value is the placeholder for invalid ones.
pub(super) trait Choice: Copy + 'static {
    /// Names, as shown.
    const WORDS: &'static [&'static str];
    /// Values, in the order of `WORDS`.
    const VALUES: &'static [Self];
}

impl<T> ValueType<T> {
    const fn new(kind: Kind, parse: fn(Kind, &str) -> Result<T, Wrong>, stand_in: fn() -> T) -> Self {
        Self { kind, secret: false, parse, stand_in }
    }

    const fn secret(kind: Kind, parse: fn(Kind, &str) -> Result<T, Wrong>, stand_in: fn() -> T) -> Self {
        Self { kind, secret: true, parse, stand_in }
    }
}

/// URL of a Postgres database. It is a secret because it may contain the password.
pub(super) const DATABASE_URL: ValueType<SecretString> = ValueType::secret(
    Kind::DatabaseUrl,
    |_, text| urls::database_url(text).map(SecretString::from),
    || SecretString::from(""),
);
/// A URL that paths are appended to.
pub(super) const BASE_URL: ValueType<BaseUrl> =
    ValueType::new(Kind::BaseUrl, |_, text| urls::base_url(text), urls::stand_in);
/// An absolute http(s) URL.
pub(super) const URL: ValueType<Url> =
    ValueType::new(Kind::Url, |_, text| urls::url(text), || urls::stand_in().url().clone());
/// Path of a file.
pub(super) const PATH: ValueType<PathBuf> =
    ValueType::new(Kind::Path, |_, text| Ok(PathBuf::from(text)), PathBuf::new);
/// Any text.
pub(super) const TEXT: ValueType<String> =
    ValueType::new(Kind::Text, |_, text| Ok(text.to_owned()), String::new);
/// Any secret text.
pub(super) const SECRET: ValueType<SecretString> =
    ValueType::secret(Kind::Text, |_, text| Ok(SecretString::from(text)), || SecretString::from(""));
/// A bearer token.
pub(super) const BEARER_TOKEN: ValueType<SecretString> = ValueType::secret(
    Kind::Text,
    |_, text| parse::header(text).map(SecretString::from),
    || SecretString::from(""),
);
/// IP and port.
pub(super) const ADDRESS: ValueType<SocketAddr> = ValueType::new(
    Kind::Address,
    |_, text| parse::address(text),
    || SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
);
/// True or false.
pub(super) const SWITCH: ValueType<bool> =
    ValueType::new(Kind::Switch, |_, text| parse::switch(text), || false);
/// A number from 0 to 1.
pub(super) const RATIO: ValueType<f64> = ValueType::new(Kind::Ratio, |_, text| parse::ratio(text), || 0.0);
/// Headers of a request.
pub(super) const HEADERS: ValueType<HeaderMap> =
    ValueType::secret(Kind::Text, |_, text| parse::headers(text), HeaderMap::new);
/// A list of words.
pub(super) const WORDS: ValueType<String> = ValueType { kind: Kind::Words, ..TEXT };
/// A list of URLs of NATS servers.
pub(super) const NATS_SERVERS: ValueType<String> =
    ValueType::new(Kind::Words, |_, text| urls::nats_server(text), String::new);
/// A list of networks.
pub(super) const NETWORKS: ValueType<IpNet> =
    ValueType::new(Kind::Networks, |_, text| parse::network(text), IpNet::default);
/// A list of SHA-256 hashes.
pub(super) const HASHES: ValueType<[u8; 32]> =
    ValueType::new(Kind::Hashes, |_, text| parse::hash(text), || [0; 32]);
/// 32 secret bytes.
pub(super) const KEY: ValueType<SecretBox<[u8; 32]>> = ValueType::secret(
    Kind::Key,
    |_, text| parse::key(text).map(|bytes| SecretBox::new(Box::new(bytes))),
    || SecretBox::new(Box::new([0; 32])),
);
/// A list of 32 secret bytes each.
pub(super) const KEYS: ValueType<SecretBox<[u8; 32]>> = ValueType { kind: Kind::Keys, ..KEY };
/// Directives of a log filter.
pub(super) const LOG_FILTER: ValueType<String> =
    ValueType::new(Kind::LogFilter, |_, text| parse::log_filter(text), String::new);

/// Text with its own rules.
pub(super) const fn text(parse: fn(Kind, &str) -> Result<String, Wrong>) -> ValueType<String> {
    ValueType::new(Kind::Text, parse, String::new)
}

/// Parsed content of the file at a path.
pub(super) const fn file<T>(read: fn(Kind, &str) -> Result<Vec<T>, Wrong>) -> ValueType<Vec<T>> {
    ValueType::new(Kind::Path, read, Vec::new)
}

/// Duration within these inclusive bounds.
pub(super) const fn duration(min: Duration, max: Duration) -> ValueType<Duration> {
    let parse = |kind, text: &str| {
        let Kind::Duration { min, max } = kind else { unreachable!("a duration's kind has its bounds") };
        parse::duration(text, min, max)
    };
    ValueType::new(Kind::Duration { min, max }, parse, || Duration::ZERO)
}

/// Whole number within these inclusive bounds, which must fit into `T`.
pub(super) const fn count<T: TryFrom<u64> + Default>(min: u64, max: u64) -> ValueType<T> {
    let parse = |kind, text: &str| {
        let Kind::Count { min, max } = kind else { unreachable!("a count's kind has its bounds") };
        parse::count(text, min, max).map(|count| T::try_from(count).unwrap_or_default())
    };
    ValueType::new(Kind::Count { min, max }, parse, T::default)
}

/// One of the values of an enum.
pub(super) const fn choice<T: Choice>() -> ValueType<T> {
    let parse = |_, text: &str| {
        let word = parse::choice(text, T::WORDS)?;
        let named = T::WORDS.iter().zip(T::VALUES).find(|(one, _)| **one == word);
        Ok(named.map_or(T::VALUES[0], |(_, value)| *value))
    };
    ValueType::new(Kind::Choice(T::WORDS), parse, || T::VALUES[0])
}

/// Returns a duration in milliseconds.
pub(super) const fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// Returns a duration in seconds.
pub(super) const fn s(count: u64) -> Duration {
    Duration::from_secs(count)
}

pub(super) const HOUR: Duration = s(3600);
pub(super) const DAY: Duration = s(86_400);
pub(super) const YEAR: Duration = s(365 * 86_400);
/// Ten years, without leap days.
pub(super) const DECADE: Duration = s(3650 * 86_400);
