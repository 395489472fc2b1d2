//! The document at `/openapi.json`. After an intended change, run `cargo insta review`.

use std::collections::BTreeSet;
use std::path::Path;

use nas_cron_testing::service::client;
use nas_cron_testing::world::World;

#[tokio::test]
async fn the_openapi_document_is_as_committed() {
    let world = World::new().await;
    let (status, mut document) = world.service.get("/openapi.json").await;
    assert_eq!(status, 200);
    document["info"]["version"] = "(of the release)".into();
    insta::assert_json_snapshot!("openapi", document);
}

/// Appends the text of all source files below `folder`, without their tests.
fn sources(folder: &Path, into: &mut String) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            if !path.ends_with("tests") {
                sources(&path, into);
            }
        } else if path.extension().is_some_and(|end| end == "rs") && !path.ends_with("tests.rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            into.push_str(text.split("#[cfg(test)]").next().unwrap());
        }
    }
}

/// Returns the texts between each `mark` and the next quotation mark.
fn quoted<'a>(text: &'a str, mark: &str) -> BTreeSet<&'a str> {
    text.split(mark).skip(1).filter_map(|rest| rest.split('"').next()).collect()
}

#[tokio::test]
async fn every_route_is_in_the_openapi_document_and_every_path_in_it_is_a_route() {
    let world = World::new().await;
    let (_, document) = world.service.get("/openapi.json").await;
    let documented: BTreeSet<&str> =
        document["paths"].as_object().unwrap().keys().map(String::as_str).collect();

    // An axum router does not list its routes, so they are read from the sources. `routes!` accepts only documented
    // handlers.
    let mut text = String::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/http"), &mut text);
    let mut undocumented = quoted(&text, ".route(\"");
    // Pages for people.
    undocumented.retain(|path| *path != "/ops" && !path.starts_with("/ops/"));
    assert_eq!(undocumented, BTreeSet::from(["/docs", "/openapi.json"]), "document all other routes");
    let mut paths = quoted(&text, "path = \"");
    // Templates of pages.
    paths.retain(|path| path.starts_with('/'));
    assert_eq!(paths, documented, "all are merged into the router");

    for (path, operations) in document["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            let method = method.to_uppercase().parse().unwrap();
            let url = format!("{}{}", world.service.url, path.replace(['{', '}'], ""));
            let answer = client().request(method, url).send().await.unwrap();
            let status = answer.status().as_u16();
            assert!(status != 404 && status != 405, "{path}: {status}");
            assert!(
                operation["responses"][status.to_string()].is_object(),
                "{path} returns {status}, which is not documented"
            );
            assert!(
                operation["summary"].is_string() && operation["tags"][0].is_string(),
                "{path} has a summary and a tag"
            );
        }
    }
}

#[tokio::test]
async fn unknown_routes_and_methods_get_json_errors() {
    let world = World::new().await;
    let (status, body) = world.service.get("/api/agent-cron/nothing").await;
    assert_eq!((status, body["error"].as_str()), (404, Some("not_found")), "{body}");
    let (status, body) = world.service.get("/api/agent-cron/provision").await;
    assert_eq!((status, body["error"].is_string()), (405, true), "{body}");
}

/// Two schemas of one name replace each other in the document, without an error.
#[test]
fn every_schema_has_a_name_of_its_own() {
    let mut text = String::new();
    for folder in ["src", "crates/nas-cron-protocol/src"] {
        sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join(folder), &mut text);
    }
    let mut names = BTreeSet::new();
    for item in text.split("ToSchema").skip(1) {
        let declared = item.split(['{', ';']).next().unwrap_or_default();
        let mut words = declared.split_whitespace().skip_while(|word| !["struct", "enum"].contains(word));
        let Some(name) = words.nth(1) else { continue };
        let name = name.split(['<', '(']).next().unwrap_or_default();
        assert!(names.insert(name.to_owned()), "two schemas are named {name}");
    }
    assert!(names.len() > 50, "{names:?}");
}
