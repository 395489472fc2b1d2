//! JSON bodies. An invalid body is rejected with a 400 that names the field.

use std::borrow::Cow;
use std::fmt::Write as _;

use axum::extract::{FromRequest, Request};
use nas_cron_protocol::json::{self, Problem, Unsound};
use serde::de::DeserializeOwned;
use serde_path_to_error::{Path, Segment};

use super::body;
use crate::http::ApiError;

/// Maximum length of an error description, in bytes: some types quote their value.
const MAX_DESCRIPTION: usize = 300;

/// A JSON object of type `T`. The content type is not checked. Unknown fields are ignored, but every reader must read
/// the whole body in the same way: see [`nas_cron_protocol::json`].
#[derive(Clone, Copy, Debug)]
pub struct JsonBody<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for JsonBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        let bytes = body::read(request).await?;
        parse(&bytes).map(Self).map_err(ApiError::Body)
    }
}

/// Parses an object of type `T`. An error begins with the field's name, if known, and repeats nothing else of the body,
/// because a secret may be in the wrong field.
pub(in crate::http) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    let fields = json::field_names::<T>();
    let text = json::check(bytes, fields).map_err(|error| match error {
        json::Error::Unsound(unsound) => describe_unsound(&unsound, fields),
        json::Error::Serde(error) => format!("the body is not valid JSON: {error}"),
    })?;
    if !text.trim_start().starts_with('{') {
        return Err("the body must be a JSON object".to_owned());
    }
    serde_path_to_error::deserialize(&mut serde_json::Deserializer::from_str(text))
        .map_err(|error| shortened(describe(&place(error.path(), fields), error.inner())))
}

/// Returns the description of JSON that two readers could read differently.
fn describe_unsound(unsound: &Unsound, fields: &[&str]) -> String {
    let Unsound { problem, field, index, .. } = unsound;
    match field.as_deref().filter(|field| fields.contains(field)) {
        None => unsound.to_string(),
        Some(field) if *problem == Problem::RepeatedField => format!("{field}: must occur only once"),
        Some(field) => {
            let index = index.map(|index| format!("[{index}]")).unwrap_or_default();
            format!("{field}{index}: {problem}")
        }
    }
}

/// Returns the place of an error: the field and the index in its list. Other keys are left out, because the sender
/// chose them.
fn place(path: &Path, fields: &[&str]) -> String {
    let mut segments = path.iter();
    let mut place = match segments.next() {
        Some(Segment::Map { key }) if fields.contains(&key.as_str()) => key.clone(),
        _ => return String::new(),
    };
    for index in
        segments.map_while(|segment| if let Segment::Seq { index } = segment { Some(index) } else { None })
    {
        // Writing to a string cannot fail.
        let _ = write!(place, "[{index}]");
    }
    place
}

/// Returns the description of valid JSON that is not a `T`. It begins with the place, if known.
fn describe(place: &str, error: &serde_json::Error) -> String {
    let text = error.to_string();
    let position = format!(" at line {} column {}", error.line(), error.column());
    let text = without_value(text.strip_suffix(&position).unwrap_or(&text));
    let missing = text.strip_prefix("missing field `").and_then(|rest| rest.strip_suffix('`'));
    match (place, missing) {
        ("", Some(field)) => format!("{field}: is missing"),
        ("", None) => text.into_owned(),
        (place, Some(field)) => format!("{place}.{field}: is missing"),
        // The fault is in an item of a list that was read as a whole.
        (place, None) if text.starts_with('[') => format!("{place}{text}"),
        // Errors of the protocol's types already begin with the field's name.
        (place, None) if text.strip_prefix(place).is_some_and(|rest| rest.starts_with(": ")) => {
            text.into_owned()
        }
        (place, None) => format!("{place}: {text}"),
    }
}

/// Removes the quoted value from one of serde's own error texts, and keeps the kind of value.
fn without_value(text: &str) -> Cow<'_, str> {
    let quoting = ["invalid type: ", "invalid value: ", "unknown variant ", "unknown field "];
    match text.rsplit_once(", expected ") {
        Some((actual, expected)) if quoting.iter().any(|start| actual.starts_with(start)) => {
            let kind = actual.split(['`', '"']).next().unwrap_or_default().trim_end();
            Cow::Owned(format!("{kind}, expected {expected}"))
        }
        _ => Cow::Borrowed(text),
    }
}

fn shortened(mut text: String) -> String {
    if text.len() > MAX_DESCRIPTION {
        let end = (0..=MAX_DESCRIPTION).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::body::{Body, Bytes, to_bytes};
    use axum::routing::post;
    use futures::stream;
    use nas_cron_protocol::JobId;
    use serde::Deserialize;
    use serde_json::Value;
    use tower::ServiceExt;

    use super::super::body::MAX_BODY;
    use super::*;

    #[derive(Debug, Deserialize)]
    struct Sent {
        job_id: JobId,
        note: String,
        auth: Option<Value>,
        #[serde(rename = "list")]
        _list: Option<Vec<u8>>,
        #[serde(rename = "kind")]
        _kind: Option<Kind>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum Kind {
        One,
        Other,
    }

    fn refused(body: impl AsRef<[u8]>) -> String {
        parse::<Sent>(body.as_ref()).expect_err(&String::from_utf8_lossy(body.as_ref()))
    }

    #[test]
    fn unknown_fields_are_ignored_and_the_known_ones_kept() {
        let sent: Sent =
            parse(r#" {"x":{"y":[1,-2,0.5e3,true,null,"é😀"]},"job_id":"j","note":"n"} "#.as_bytes())
                .unwrap();
        assert_eq!((sent.job_id.as_str(), sent.note.as_str(), sent.auth), ("j", "n", None));
    }

    #[test]
    fn every_rejected_field_is_named() {
        for (body, expected) in [
            (r#"{"note":"n"}"#, "job_id: is missing"),
            (r#"{"job_id":"j"}"#, "note: is missing"),
            (r#"{"job_id":7,"note":"n"}"#, "job_id: invalid type: integer, expected a string"),
            (r#"{"job_id":null,"note":"n"}"#, "job_id: invalid type: null, expected a string"),
            (r#"{"job_id":"j","note":["n"]}"#, "note: invalid type: sequence, expected a string"),
            (r#"{"job_id":"","note":"n"}"#, "job_id: must not be empty"),
            (r#"{"job_id":"j","note":"a\u0000b"}"#, "note: a text has a NUL character"),
            (r#"{"job_id":"j","job_id":"j","note":"n"}"#, "job_id: must occur only once"),
            (r#"{"job_id":"j","note":"n","x":1,"x":1}"#, "a field occurs more than once at line 1 column 35"),
            (r#"{"job_id":"j","note":"n","auth":{"k":1,"k":2}}"#, "auth: a field occurs more than once"),
        ] {
            assert_eq!(refused(body), expected, "{body}");
        }
    }

    #[test]
    fn error_does_not_repeat_the_body() {
        for body in [
            r#"{"job_id":["sk-x"],"note":"n"}"#,
            r#"{"job_id":"j","note":{"sk-x":"sk-x"}}"#,
            r#"{"job_id":"j","note":"n","list":"sk-x"}"#,
            r#"{"job_id":"j","note":"n","list":"sk-x, expected sk-x` \"sk-x"}"#,
            r#"{"job_id":"j","note":"n","list":["sk-x"]}"#,
            r#"{"job_id":"j","note":"n","kind":"sk-x"}"#,
            r#"{"job_id":"j","note":"n","kind":{"sk-x":1}}"#,
            r#"{"job_id":"j","note":"n","auth":{"sk-x":"\u0000"}}"#,
            r#"{"job_id":"j","note":"n","auth":{"sk-x":{"sk-x":1,"sk-x":2}}}"#,
            r#"{"job_id":"j","note":"n","auth":{"sk-x":"\ud800"}}"#,
            r#"{"job_id":"j","note":"n","auth":{"sk-x\u0000":1}}"#,
            r#"{"job_id":"j","note":"n","auth":[{"sk-x":1e999}]}"#,
            r#"{"job_id":"j","note":"n","sk-x":1,"sk-x":2}"#,
            r#"{"job_id":"j","note":"n","sk-x":"\ud800"}"#,
            r#"{"job_id":"j","note":"n","x":"sk-x" "sk-x"}"#,
            r#"{"job_id":"j","note":"n"} sk-x"#,
        ] {
            let error = refused(body);
            assert!(!error.contains("sk-") && !error.contains("-x"), "{error}");
            let field =
                ["auth", "list", "kind"].into_iter().find(|field| body.contains(&format!("\"{field}\"")));
            assert!(field.is_none_or(|field| error.starts_with(field)), "{error}");
        }
        let error = refused(r#"{"job_id":"j","note":"n","list":[1,"sk-x"]}"#);
        assert_eq!(error, "list[1]: invalid type: string, expected u8");
    }

    #[test]
    fn body_that_is_not_a_json_object_is_rejected() {
        for body in
            ["", " ", "job_id=j", "{", "{\"job_id\"", "{}x", "{} {}", "{'job_id':'j'}", "\u{feff}{}", "NaN"]
        {
            assert!(refused(body).starts_with("the body is not valid JSON: "), "{}", refused(body));
        }
        for body in ["null", "1", "\"x\"", "[]", r#"["j","n",null]"#] {
            assert_eq!(refused(body), "the body must be a JSON object");
        }
        refused(b"{\"job_id\":\"\xff\",\"note\":\"n\"}");
        refused("{\"job_id\":\"j\",\"note\":\"a\nb\"}");
    }

    #[test]
    fn unsound_parts_are_rejected_wherever_they_are() {
        let deep = format!("{}{}", "[".repeat(5000), "]".repeat(5000));
        for x in [
            r#""\ud800""#,
            r#""\ud800\ud800""#,
            r#""\udc00x""#,
            r#""\u0000""#,
            r#"{"a\u0000":1}"#,
            "1e999",
            &deep,
        ] {
            for place in ["x", "auth", "note"] {
                let body = format!(r#"{{"job_id":"j","note":"n","{place}":{x}}}"#);
                let body = if place == "note" { body.replace(r#""note":"n","#, "") } else { body };
                assert!(refused(&body).contains(place) || place == "x", "{place}: {}", refused(&body));
            }
        }
    }

    #[test]
    fn descriptions_stay_short() {
        let long = format!(r#"{{"job_id":{{}},"{0}":1,"{0}":1}}"#, "é".repeat(2000));
        assert!(refused(&long).len() <= MAX_DESCRIPTION + '…'.len_utf8());
    }

    async fn post_body(body: Body) -> (u16, Value) {
        let router = Router::new().route("/", post(async |JsonBody(sent): JsonBody<Sent>| sent.note));
        let request = Request::post("/").header("content-type", "text/plain").body(body).unwrap();
        let response = router.oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
        (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
    }

    #[tokio::test]
    async fn wrong_type_is_400_and_content_type_is_ignored() {
        assert_eq!(post_body(r#"{"job_id":"j","note":"n"}"#.into()).await.0, 200);
        let (status, body) = post_body(r#"{"job_id":7}"#.into()).await;
        assert_eq!((status, body["error"].as_str()), (400, Some("invalid_request")));
        assert!(body["error_description"].as_str().unwrap().starts_with("job_id: "));
    }

    #[tokio::test]
    async fn too_long_body_is_413_with_an_oauth_error() {
        let whole = |length: usize| {
            let frame = r#"{"job_id":"j","note":""}"#.len();
            format!(r#"{{"job_id":"j","note":"{}"}}"#, "x".repeat(length - frame))
        };
        assert_eq!(post_body(whole(MAX_BODY).into()).await.0, 200);
        for length in [MAX_BODY + 1, 1 << 20] {
            let (status, body) = post_body(whole(length).into()).await;
            assert_eq!((status, body["error"].as_str()), (413, Some("invalid_request")));
        }
        // Endless, and without a Content-Length.
        let endless = stream::repeat_with(|| Ok::<_, std::io::Error>(Bytes::from_static(&[b' '; 1024])));
        assert_eq!(post_body(Body::from_stream(endless)).await.0, 413);
    }

    #[tokio::test(start_paused = true)]
    async fn body_that_does_not_arrive_is_408() {
        let never = Body::from_stream(stream::pending::<Result<Bytes, std::io::Error>>());
        assert_eq!(post_body(never).await.0, 408);
        let broken = stream::iter([Err::<Bytes, _>(std::io::Error::other("gone"))]);
        assert_eq!(post_body(Body::from_stream(broken)).await.0, 400);
    }

    proptest::proptest! {
        #[test]
        fn no_body_panics(body in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            let _ = parse::<Sent>(&body);
        }
    }
}
