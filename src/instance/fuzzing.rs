//! Fuzz targets: answers of portals and other issuers. See [`crate::fuzzing`].

use nas_cron_protocol::{InstanceId, OrgId, SessionId};
use reqwest::StatusCode;
use reqwest::header::{CACHE_CONTROL, HeaderMap, HeaderValue};

use super::KeySet;
use super::introspection;
use super::jwks_http::max_age;
use super::lookup::{Query, wire};
use crate::fuzzing::{first_line, lenient};

/// Keys: a JWKS or PEM. A line before a JWKS is its `Cache-Control`.
pub fn jwks(data: &[u8]) {
    let (cache_control, body) = first_line(data);
    if body.first() == Some(&b'{')
        && let Ok(value) = HeaderValue::from_bytes(cache_control)
    {
        let _ = max_age(&HeaderMap::from_iter([(CACHE_CONTROL, value)]));
        read_keys(body);
    }
    read_keys(data);
}

fn read_keys(text: &[u8]) {
    match KeySet::from_pinned(text) {
        Ok(keys) => {
            assert!((1..=64).contains(&keys.len()), "{} keys", keys.len());
            if let Some(listed) = lenient(text)["keys"].as_array() {
                assert!(keys.len() <= listed.len(), "{} keys of {}", keys.len(), listed.len());
                assert!(listed.iter().any(|key| key["kty"] != "oct"), "a symmetric key is usable");
            }
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// An introspection response.
pub fn introspection(data: &[u8]) {
    let active = lenient(data)["active"].as_bool();
    match introspection::read(data) {
        Ok(Some(_)) => assert_eq!(active, Some(true)),
        Ok(None) => assert_eq!(active, Some(false)),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// A response to a lookup. The first byte selects the query and the status.
pub fn lookup(data: &[u8]) {
    let Some((kind, body)) = data.split_first() else { return };
    let (instance, org) = (InstanceId::new("a").expect("an id"), OrgId::new("o").expect("an id"));
    let query = if kind & 1 == 0 {
        Query::Client(instance, None)
    } else {
        Query::Session(org, SessionId::new("s").expect("an id"))
    };
    let status = if kind & 2 == 0 { StatusCode::OK } else { StatusCode::NOT_FOUND };
    match wire::read(status, body, &query) {
        Ok(Some(found)) => {
            assert_eq!(status, StatusCode::OK);
            match &query {
                Query::Client(instance_id, _) => assert_eq!(found.instance_id, *instance_id),
                Query::Session(org_id, _) => assert_eq!(found.org_id, *org_id),
            }
        }
        Ok(None) => {
            let said = lenient(body);
            let explicit = if status == StatusCode::OK {
                said.get("instance").is_some_and(serde_json::Value::is_null)
            } else {
                said["error"] == "unknown_instance"
            };
            assert!(explicit, "{said} denies an instance");
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}
