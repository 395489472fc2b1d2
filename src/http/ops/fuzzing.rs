//! Fuzz target of what strangers send to the operators' page. See [`crate::fuzzing`].

use axum::http::header::COOKIE;
use axum::http::{HeaderMap, HeaderValue};
use url::Url;

use super::cookie::{self, Sent};
use super::form::{Form, local};
use crate::fuzzing::first_line;
use crate::http::fuzzing::values;

/// A form without a session: the cookie in the first line, and the fields of the sign-in in the others.
pub fn sign_in(data: &[u8]) {
    let (header, body) = first_line(data);
    if let Ok(line) = HeaderValue::from_bytes(header)
        && let Sent::Session(id) = cookie::read(&HeaderMap::from_iter([(COOKIE, line.clone())]))
    {
        let expected = cookie::set(&id);
        let pair = expected.to_str().expect("ASCII").split(';').next().expect("a first part");
        let said = line.to_str().expect("ASCII").split(';').filter(|said| said.trim() == pair);
        assert_eq!(said.count(), 1, "the cookie names this session once");
    }
    let form = Form::parse(body);
    for name in ["token", "link", "next", "back"] {
        let read: Vec<&str> = form.all(name).filter(|value| !value.is_empty()).collect();
        assert_eq!(read, values(body, name), "{name}");
        if let Some(text) = form.text(name) {
            assert_eq!(read.first(), Some(&text), "{name}");
        }
    }
    for path in form.all("next").chain([form.back()]).filter_map(|path| local(Some(path))) {
        assert!(HeaderValue::from_str(path).is_ok(), "{path}");
        let page = Url::parse("https://ops.example/ops/sign-in").expect("a URL");
        let followed = page.join(path).expect("a path");
        assert_eq!(followed.origin(), page.origin(), "{path}");
        let rest = followed.path().strip_prefix("/ops");
        assert!(rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/')), "{path}");
    }
}
