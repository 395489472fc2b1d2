//! The table of docs/contract.md#every-kind-of-token, row by row and combination by combination.

use std::collections::BTreeSet;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures::StreamExt;
use nas_cron::domain::KeyState;
use nas_cron::keys::custody;
use nas_cron::keys::signer::Signer;
use nas_cron_testing::database::{connect, database};
use nas_cron_testing::portal::{Portal, all_claims, unsigned};
use nas_cron_testing::service::{KEY_ENCRYPTION_KEY, Service, Settings, key_encryption_keys};
use nas_cron_testing::time::fire_at;
use serde_json::{Map, Value, json};

use super::authority::{Authority, CLIENT};
use super::fixture::{Fixture, VPS, introspected};
use crate::architecture::tables;

const PAGE: &str = include_str!("../../../docs/contract.md");
const HEADING: &str = "#### Every kind of token";

/// Names of the columns for claims, in the order of the table.
const CLAIMS: [&str; 6] = ["purpose", "client", "aud", "agent_instance_id", "org_id", "sid"];

/// Issuers of the tests, by the kind of their tokens.
const FURTHER: &str = "https://further.test";
const BY_AUDIENCE: &str = "https://by-audience.test";
const INTROSPECTED: &str = "https://introspected.test";
const TOKEN_PREFIX: &str = "further_";
/// Filter of the log, without the lines of the requests.
const QUIET: &str = "warn,nas_cron::app=info";

/// Returns the values of each claim. The client's and the audience's instance is `inst-1`; the session is that of `inst-2`
/// in the same org, so that the result shows the rule that applied.
fn values() -> [(&'static str, Vec<(&'static str, Value)>); 6] {
    [
        ("purpose", vec![("none", Value::Null), ("present", json!("cron_fire"))]),
        (
            "client",
            vec![
                ("none", json!({})),
                ("agent:<id>", json!({"client_id": "agent:inst-1"})),
                ("agent:<id>", json!({"azp": "agent:inst-1"})),
                ("other", json!({"client_id": VPS})),
            ],
        ),
        (
            "aud",
            vec![
                ("agent:<id>", json!("agent:inst-1")),
                ("agent:<id>", json!(["agent:inst-1"])),
                ("other", json!(["agent:inst-1", "agent:inst-2"])),
                ("other", Value::Null),
            ],
        ),
        (
            "agent_instance_id",
            vec![("none", Value::Null), ("same", json!("inst-1")), ("other", json!("inst-9"))],
        ),
        ("org_id", vec![("none", Value::Null), ("same", json!("org-1")), ("other", json!("org-9"))]),
        ("sid", vec![("none", Value::Null), ("same", json!("sid-2")), ("other", json!("sid-9"))]),
    ]
}

/// One combination of values.
#[derive(Clone, Debug)]
struct Combination {
    /// The words in the order of [`CLAIMS`].
    words: Vec<&'static str>,
    claims: Map<String, Value>,
}

fn combinations() -> Vec<Combination> {
    let mut all = vec![Combination { words: Vec::new(), claims: Map::new() }];
    for (name, values) in values() {
        all = all
            .into_iter()
            .flat_map(|one| {
                values.clone().into_iter().map(move |(word, value)| {
                    let mut next = one.clone();
                    next.words.push(word);
                    match value {
                        Value::Object(client) => next.claims.extend(client),
                        value => drop(next.claims.insert(name.to_owned(), value)),
                    }
                    next
                })
            })
            .collect();
    }
    all
}

/// A row of the table.
struct Row {
    cells: Vec<Vec<String>>,
    response: String,
}

fn rows() -> Vec<Row> {
    let rows = tables::below(PAGE, HEADING).into_iter().map(|cells| {
        let mut cells: Vec<_> = cells.iter().map(|cell| cell.replace('`', "")).collect();
        let response = cells.pop().expect("a response");
        assert_eq!(cells.len(), 1 + CLAIMS.len(), "{cells:?}");
        let words =
            |cell: &String| cell.split(", ").filter(|word| !word.is_empty()).map(str::to_owned).collect();
        Row { cells: cells.iter().map(words).collect(), response }
    });
    rows.collect()
}

impl Row {
    fn matches(&self, kind: &str, combination: &Combination) -> bool {
        let words = std::iter::once(&kind).chain(&combination.words);
        self.cells.iter().zip(words).all(|(cell, word)| cell.is_empty() || cell.iter().any(|one| one == word))
    }

    /// Returns the status and error word or, for a 200, the name of the instance's job.
    fn expected(&self) -> (u16, &str) {
        let (status, rest) = self.response.split_at(3);
        let status = status.parse().expect("a status");
        let word = match (status, rest) {
            (200, ", by the client" | ", by the audience") => "inst-1",
            (200, ", by the session") => "inst-2",
            (401, " invalid_token") => "invalid_token",
            (403, " invalid_client") => "invalid_client",
            (503, ", later 403 invalid_client") => "temporarily_unavailable",
            _ => panic!("unknown response: {}", self.response),
        };
        (status, word)
    }
}

/// A source of tokens: their kind in the table, the service that gets them, and a function that makes one.
struct Source<'a> {
    kind: &'static str,
    service: &'a Service,
    token: Box<dyn Fn(&Combination) -> String + 'a>,
}

/// The table's issuers file, which is removed at the end.
struct IssuersFile(std::path::PathBuf);

impl IssuersFile {
    fn of(name: &str, text: &str) -> Self {
        let path = std::env::temp_dir().join(format!("nas-cron-{name}-{}", uuid::Uuid::new_v4()));
        std::fs::write(&path, text).unwrap();
        Self(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for IssuersFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn table(issuer: &str, keys: &Portal, more: &str) -> String {
    format!("[[issuer]]\nissuer = '{issuer}'\njwks_url = '{}'\norgs = ['org-1']\n{more}", keys.jwks_url())
}

/// Returns the claims of a combination, with the defaults of a portal.
fn claims_of(issuer: &str, combination: &Combination) -> Value {
    let mut claims = combination.claims.clone();
    claims.insert("iss".to_owned(), json!(issuer));
    all_claims(&claims.into())
}

/// Makes the authority report a token as active, with these claims.
fn activate(authority: &Authority, token: String, claims: &Value) -> String {
    let mut active = claims.clone();
    active["active"] = json!(true);
    authority.knows().tokens.insert(token.clone(), active);
    token
}

/// Registers the instances of the table, and arms a job of each with its name.
async fn mark(service: &Service, portal_or_own: impl Fn(&Value) -> String, callback: &str) {
    for (instance, sid) in [("inst-1", "sid-1"), ("inst-2", "sid-2")] {
        service.register(instance, "org-1", Some(sid)).await;
        let token = portal_or_own(&all_claims(&json!({"client_id": format!("agent:{instance}")})));
        service.provision(&token, instance, &fire_at(3_600_000), callback).await;
    }
}

/// Signs claims as the built-in portal of a service would, if it issued such tokens.
fn signed_by_own(signer: &Signer, claims: &Value) -> String {
    let header = json!({"alg": "ES256", "typ": "JWT", "kid": signer.kid()});
    let message = unsigned(&header, claims);
    let signature = signer.sign(message.as_bytes()).unwrap();
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
}

async fn active_signer(url: &str) -> Signer {
    let keys = connect(url).signing_keys().await.unwrap();
    let active = keys.iter().find(|key| key.record.state == KeyState::Active).expect("an active key");
    let kek = key_encryption_keys(KEY_ENCRYPTION_KEY);
    custody::open(active, Some(&kek)).await.unwrap()
}

/// Sends a token and returns the status, and the error word or the name of the caller's job. A token that must be refused is
/// sent with a provision, which would leave a row behind.
async fn response(fixture: &Fixture, service: &Service, token: &str, is_refused: bool) -> (u16, String) {
    let answer = if is_refused {
        fixture.provision_at(service, token, "intruder", 3_600_000).await
    } else {
        fixture.list_at(service, token).await
    };
    let word = if answer.status == 200 { &answer.body["armed"][0]["job_id"] } else { &answer.body["error"] };
    (answer.status, word.as_str().unwrap_or_default().to_owned())
}

/// The settings of a service with the built-in portal.
async fn own_portal(url: &str, further: &IssuersFile) -> Settings {
    Settings::new(url, &Portal::start().await)
        .without("NAS_CRON_PORTAL_JWKS_URL")
        .with("NAS_CRON_OWN_PORTAL", "true")
        .with("NAS_CRON_ISSUERS_FILE", further.path())
}

#[expect(clippy::too_many_lines, reason = "one table, gone through in its order")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_kind_of_token_gets_the_response_of_the_table() {
    let further = Portal::start().await;
    let secret = IssuersFile::of("secret", CLIENT.1);
    let mut file = None;
    let fixture = Fixture::with(|settings, authority| {
        let text = [
            table(FURTHER, &further, ""),
            table(BY_AUDIENCE, &further, "agents_by_audience = true\n"),
            format!(
                "[[issuer]]\nissuer = '{INTROSPECTED}'\nintrospection_url = '{}'\norgs = ['org-1']\n\
                 introspection_client_id = '{}'\nintrospection_client_secret_file = '{}'\ntoken_prefix = '{TOKEN_PREFIX}'\n",
                authority.introspection_url(),
                CLIENT.0,
                secret.path(),
            ),
        ];
        let file = file.insert(IssuersFile::of("issuers", &text.concat()));
        introspected(settings, authority)
            .with("NAS_CRON_ISSUERS_FILE", file.path())
            .with("NAS_CRON_LOG_FILTER", QUIET)
    })
    .await;
    mark(&fixture.service, |claims| fixture.portal.sign(claims.clone()), &fixture.agents.callback("a")).await;

    let (_, url) = database().await;
    let beside = IssuersFile::of("beside", &table(FURTHER, &further, ""));
    let settings = own_portal(&url, &beside).await.with("NAS_CRON_LOG_FILTER", QUIET);
    let own = Service::start(&settings).await;
    let signer = active_signer(&url).await;
    mark(&own, |claims| signed_by_own(&signer, claims), &fixture.agents.callback("a")).await;

    let portal_url = nas_cron_testing::portal::PORTAL_URL;
    let opaque = |prefix: &str| format!("{prefix}{}", uuid::Uuid::new_v4());
    let (fixture, further, signer) = (&fixture, &further, &signer);
    let sources = [
        Source {
            kind: "portal",
            service: &fixture.service,
            token: Box::new(|one| {
                fixture.portal.sign_as_is(&fixture.portal.header(), &claims_of(portal_url, one))
            }),
        },
        Source {
            kind: "portal introspected",
            service: &fixture.service,
            token: Box::new(move |one| {
                activate(&fixture.authority, opaque("opaque_"), &claims_of(portal_url, one))
            }),
        },
        Source {
            kind: "further",
            service: &fixture.service,
            token: Box::new(|one| further.sign(claims_of(FURTHER, one))),
        },
        Source {
            kind: "further by audience",
            service: &fixture.service,
            token: Box::new(|one| further.sign(claims_of(BY_AUDIENCE, one))),
        },
        Source {
            kind: "further introspected",
            service: &fixture.service,
            token: Box::new(move |one| {
                activate(&fixture.authority, opaque(TOKEN_PREFIX), &claims_of(INTROSPECTED, one))
            }),
        },
        // A JWT of an issuer without keys is introspected, too.
        Source {
            kind: "further introspected",
            service: &fixture.service,
            token: Box::new(|one| {
                let claims = claims_of(INTROSPECTED, one);
                activate(&fixture.authority, further.sign(claims.clone()), &claims)
            }),
        },
        Source {
            kind: "built-in",
            service: &own,
            token: Box::new(|one| signed_by_own(signer, &claims_of(portal_url, one))),
        },
        Source {
            kind: "further",
            service: &own,
            token: Box::new(|one| further.sign(claims_of(FURTHER, one))),
        },
    ];

    let rows = rows();
    let combinations = combinations();
    assert_eq!(combinations.len(), 2 * 4 * 4 * 27);
    let cases: Vec<_> =
        sources.iter().flat_map(|source| combinations.iter().map(move |one| (source, one))).collect();
    let mut used = BTreeSet::new();
    let mut calls = futures::stream::iter(cases.into_iter().map(|(source, combination)| {
        let row = rows.iter().position(|row| row.matches(source.kind, combination)).expect("a row");
        let expected = rows[row].expected();
        let token = (source.token)(combination);
        async move {
            let found = response(fixture, source.service, &token, expected.0 != 200).await;
            (row, expected, found, source.kind, combination)
        }
    }))
    .buffer_unordered(24);
    while let Some((row, expected, found, kind, combination)) = calls.next().await {
        used.insert(row);
        assert_eq!(
            (found.0, found.1.as_str()),
            expected,
            "row {}: {kind}, {:?}",
            row + 1,
            combination.claims
        );
    }
    assert_eq!(used.len(), rows.len(), "every row applies to some token: {used:?}");
    drop(calls);
    for db in [&fixture.pool, &sqlx::PgPool::connect(&url).await.unwrap()] {
        let jobs: Vec<String> =
            sqlx::query_scalar("SELECT job_id FROM one_shots ORDER BY job_id").fetch_all(db).await.unwrap();
        assert_eq!(jobs, ["inst-1", "inst-2"], "a refused call stores nothing");
    }
}

/// The claims of a token that names `inst-1` only in its audience.
fn by_audience(changes: &Value) -> Value {
    let mut claims = json!({"aud": "agent:inst-1", "agent_instance_id": "inst-1", "org_id": "org-1"});
    claims.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    claims
}

#[tokio::test]
async fn agents_audiences_can_be_accepted_beside_others() {
    let fixture =
        Fixture::with(|settings, _| settings.with("NAS_CRON_PORTAL_AUDIENCES", "hermes-cli-vps,agent:*"))
            .await;
    fixture.service.register("inst-1", "org-1", Some("sid-1")).await;
    fixture.service.register("inst-2", "org-1", None).await;
    for (claims, status, word) in [
        (by_audience(&json!({})), 200, ""),
        (by_audience(&json!({"aud": ["agent:inst-1"]})), 200, ""),
        (by_audience(&json!({"client_id": "agent:inst-1"})), 200, ""),
        (json!({"client_id": VPS, "org_id": "org-1", "sid": "sid-1"}), 200, ""),
        (by_audience(&json!({"aud": "agent:inst-2", "agent_instance_id": "inst-2"})), 200, ""),
        // A token that one client obtained for another.
        (by_audience(&json!({"client_id": "agent:inst-2"})), 401, "invalid_token"),
        (by_audience(&json!({"client_id": VPS, "sid": "sid-1"})), 401, "invalid_token"),
        (by_audience(&json!({"aud": "agent:"})), 401, "invalid_token"),
        (by_audience(&json!({"aud": "cron"})), 401, "invalid_token"),
        // An audience that does not identify its bearer.
        (by_audience(&json!({"aud": ["agent:inst-1", "agent:inst-2"]})), 403, "invalid_client"),
        (by_audience(&json!({"aud": ["agent:inst-1", VPS]})), 403, "invalid_client"),
        (by_audience(&json!({"aud": "agent:*"})), 403, "invalid_client"),
        (by_audience(&json!({"aud": "agent:INST-1"})), 403, "invalid_client"),
        (by_audience(&json!({"aud": "agent:inst-1 "})), 403, "invalid_client"),
        // Well-formed, but of no registered instance.
        (by_audience(&json!({"aud": "agent:*", "agent_instance_id": "*"})), 503, "temporarily_unavailable"),
    ] {
        fixture.provision(&fixture.portal.sign(claims.clone()), "job", 3_600_000).await.is(status, word);
        let armed = fixture.value::<i64>("SELECT count(*) FROM one_shots").await;
        assert_eq!(armed, i64::from(status == 200), "{claims}");
        fixture.sql("DELETE FROM one_shots").await;
    }
}

#[tokio::test]
async fn an_instance_in_the_audience_is_looked_up_like_a_client() {
    let fixture = Fixture::looking_up(|settings| settings).await;
    fixture.authority.has("inst-1", "org-1", "sid-1");
    fixture.list(&fixture.portal.sign(by_audience(&json!({})))).await.is(200, "");
    let foreign = by_audience(&json!({"org_id": "org-2"}));
    fixture.list(&fixture.portal.sign(foreign)).await.is(503, "temporarily_unavailable");
    let lookups = fixture.authority.knows().lookups.clone();
    assert_eq!(lookups[0], "v=1&client=agent%3Ainst-1&org=org-1");
    assert!(lookups.iter().all(|query| query.contains("client=agent%3Ainst-1")), "{lookups:?}");
}

#[tokio::test]
async fn built_in_portal_refuses_to_start_beside_an_issuer_with_agents_by_audience() {
    let (_, url) = database().await;
    let further = Portal::start().await;
    let file = IssuersFile::of("opted", &table(FURTHER, &further, "agents_by_audience = true\n"));
    let (status, _, said) = own_portal(&url, &file).await.run(&["serve"]).await;
    assert!(status.code() == Some(2) && said.contains("agents_by_audience"), "{said}");
}
