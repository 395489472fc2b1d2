//! The cookie that holds a session's ID.

use axum::http::header::COOKIE;
use axum::http::{HeaderMap, HeaderValue};

use crate::operator_sessions::Bearing;

/// The prefix makes browsers accept it only with `Secure`, for this host and the whole of it. Browsers take loopback
/// addresses for secure, also without TLS.
const NAME: &str = "__Host-nas_cron_ops";
/// `Lax`: a link in a chat or a ticket leads a signed-in operator to its page. No other site can change anything with it: a GET
/// changes nothing, and each form has to prove that it comes from a page of the session ([`super::form`]).
const ATTRIBUTES: &str = "Path=/; HttpOnly; Secure; SameSite=Lax";

/// The session in a request.
#[derive(Clone, Debug)]
pub(super) enum Sent {
    /// There is no cookie.
    Nothing,
    /// The cookie has no ID of a session, or there are several.
    Invalid,
    /// The ID of a session, which may have ended.
    Session(Bearing),
}

/// Reads the cookie of a request.
pub(super) fn read(headers: &HeaderMap) -> Sent {
    let lines = headers.get_all(COOKIE).iter().filter_map(|line| line.to_str().ok());
    let pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    let mut values = pairs.filter(|(name, _)| *name == NAME).map(|(_, value)| value);
    match (values.next(), values.next()) {
        (None, _) => Sent::Nothing,
        (Some(value), None) => Bearing::parse(value).map_or(Sent::Invalid, Sent::Session),
        (Some(_), Some(_)) => Sent::Invalid,
    }
}

/// Returns the header that sets the cookie. It ends with the browser, or with its session.
pub(super) fn set(id: &Bearing) -> HeaderValue {
    let text = format!("{NAME}={}; {ATTRIBUTES}", id.expose());
    let mut value = HeaderValue::try_from(text).expect("base64url fits into a header");
    value.set_sensitive(true);
    value
}

/// Returns the header that removes the cookie.
pub(super) fn remove() -> HeaderValue {
    HeaderValue::try_from(format!("{NAME}=; Max-Age=0; {ATTRIBUTES}")).expect("the text is ASCII")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_single_well_formed_cookie_names_a_session() {
        let id = "a".repeat(43);
        let sent = |lines: &[&str]| {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(COOKIE, HeaderValue::from_str(line).unwrap());
            }
            match read(&headers) {
                Sent::Nothing => "nothing".to_owned(),
                Sent::Invalid => "invalid".to_owned(),
                Sent::Session(id) => id.expose().to_owned(),
            }
        };
        assert_eq!(sent(&[]), "nothing");
        assert_eq!(sent(&["other=1; nas_cron_ops=2"]), "nothing");
        assert_eq!(sent(&[&format!("a=b; {NAME}={id}")]), id);
        assert_eq!(sent(&[&format!("{NAME}=short")]), "invalid");
        assert_eq!(sent(&[&format!("{NAME}={id}; {NAME}={id}")]), "invalid");
        assert_eq!(sent(&[&format!("{NAME}={id}"), &format!("{NAME}={id}")]), "invalid");
    }
}
