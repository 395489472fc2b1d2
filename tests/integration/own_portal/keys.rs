//! Access tokens and the keys that sign them.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use nas_cron::domain::SigningAlg;
use nas_cron::instance::token::Presented;
use nas_cron::instance::{PortalKeys, TokenError, TokenRules, VerifyError};
use nas_cron::keys::{AccessSubject, KeyRing, KeyRingOptions, RotationPolicy, TokenTtl};
use nas_cron::own_portal::{OwnPortal, RefreshKeys};
use nas_cron_base::clock::{Clock, SystemClock};
use nas_cron_protocol::{InstanceId, OrgId, SessionId};
use nas_cron_testing::database::{connect, database};
use nas_cron_testing::portal::{PORTAL_URL, Portal};
use nas_cron_testing::service::{KEY_ENCRYPTION_KEY, Service, key_encryption_keys};
use secrecy::{ExposeSecret, SecretBox};
use serde_json::{Value, json};

use super::fixture::{World, claims, refresh};

#[tokio::test]
async fn tokens_of_retired_and_new_keys_are_accepted_by_every_replica() {
    let world = World::new().await;
    let other = Service::start(&world.settings).await;
    let token = world.enroll("agent-1").await;
    let old = refresh(&world.service, &token).await.field("access_token");
    let (status, _, said) = world.settings.run(&["keys", "rotate", "--now", "--yes"]).await;
    assert!(status.success(), "{said}");
    let kid = |token: &str| header(token)["kid"].clone();
    // The first replica to load the new key signs with it; the other one must load the keys before it can decide.
    let new = nas_cron_testing::world::eventually("the new key signs", async || {
        let new = refresh(&world.service, &token).await.field("access_token");
        (kid(&new) != kid(&old)).then_some(new)
    })
    .await;
    for service in [&other, &world.service] {
        for access_token in [&new, &old] {
            service.list(access_token).await;
        }
    }
    assert_eq!(claims(&new)["sid"], claims(&old)["sid"]);
}

fn header(token: &str) -> Value {
    use base64::Engine;
    let header = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(token.split('.').next().unwrap());
    serde_json::from_slice(&header.unwrap()).unwrap()
}

/// Mints an access token that the service could have issued `ago`, for the agent with these claims.
pub async fn minted_ago(world: &World, claims: &Value, ago: Duration) -> String {
    let ring = ring_at(Arc::new(Ago(ago)));
    ring.refresh(&connect(&world.url)).await.unwrap();
    let name = |claim: &str| claims[claim].as_str().unwrap();
    let names = (InstanceId::new(name("sub")), OrgId::new(name("org_id")), SessionId::new(name("sid")));
    let names = (names.0.unwrap(), names.1.unwrap(), names.2.unwrap());
    let bearer = AccessSubject { instance_id: &names.0, org_id: &names.1, sid: &names.2 };
    ring.mint_access(bearer, Duration::from_hours(1)).unwrap().expose_secret().to_owned()
}

/// A clock that is slow by this duration.
#[derive(Debug)]
struct Ago(Duration);

impl Clock for Ago {
    fn now(&self) -> DateTime<Utc> {
        SystemClock.now() - self.0
    }
}

/// After a database outage, the keys are loaded later than the login.
#[tokio::test]
async fn a_refresh_waits_for_a_signing_key() {
    let world = World::new().await;
    let token = world.enroll("agent-1").await;
    let (db, ring) = (connect(&world.url), ring());
    let late = tokio::time::Instant::now() + Duration::from_mins(1);
    let key = RefreshKeys::derive(&SecretBox::new(Box::new(*b"01234567890123456789012345678901")), &[]);
    let portal = OwnPortal::start(&db, Arc::clone(&ring), key, Duration::from_hours(1), late).await.unwrap();
    let mut waiting = Box::pin(portal.refresh(&token, late));
    tokio::time::timeout(Duration::from_secs(1), &mut waiting).await.expect_err("there is no key");
    ring.refresh(&db).await.unwrap();
    let granted = waiting.await.unwrap();
    world.service.list(granted.access_token.expose_secret()).await;
}

/// The key ring of one replica.
fn ring() -> Arc<KeyRing> {
    ring_at(Arc::new(SystemClock))
}

fn ring_at(clock: Arc<dyn Clock>) -> Arc<KeyRing> {
    let options = KeyRingOptions {
        issuer: PORTAL_URL.to_owned(),
        token_ttl: TokenTtl::default(),
        alg: SigningAlg::Es256,
        policy: RotationPolicy::default(),
        kek: Some(key_encryption_keys(KEY_ENCRYPTION_KEY)),
    };
    Arc::new(KeyRing::new(options, clock))
}

#[tokio::test]
async fn unknown_key_waits_for_a_look_at_the_keys_that_began_after_the_request() {
    let (_, url) = database().await;
    let db = connect(&url);
    let (first, other) = (ring(), ring());
    first.bootstrap(&db).await.unwrap();
    other.refresh(&db).await.unwrap();
    let settings = super::fixture::settings(&url).await;
    assert!(settings.run(&["keys", "rotate", "--now", "--yes"]).await.0.success());
    first.refresh(&db).await.unwrap();
    let names = (InstanceId::new("i").unwrap(), OrgId::new("o").unwrap(), SessionId::new("s").unwrap());
    let bearer = AccessSubject { instance_id: &names.0, org_id: &names.1, sid: &names.2 };
    let token = first.mint_access(bearer, Duration::from_hours(1)).unwrap();
    let rules = TokenRules::new(PORTAL_URL, []);
    let presented = Presented::read(token.expose_secret(), &rules, SystemClock.now()).unwrap();
    let keys = PortalKeys::own(Arc::clone(&other));
    let soon = || tokio::time::Instant::now() + Duration::from_millis(50);
    let late = || tokio::time::Instant::now() + Duration::from_mins(1);

    // Without a look at the keys, the token cannot be judged.
    assert_eq!(keys.verify(&presented, soon()).await.unwrap_err(), VerifyError::KeysUnavailable);
    let mut waiting = Box::pin(keys.verify(&presented, late()));
    assert!(futures::poll!(&mut waiting).is_pending());
    other.refresh(&db).await.unwrap();
    assert_eq!(waiting.await.unwrap().sid.as_deref(), Some("s"));
    assert_eq!(keys.known(), 2);

    let forged = Portal::start().await.sign(json!({"client_id": "agent:i", "org_id": "o"}));
    let presented = Presented::read(&forged, &rules, SystemClock.now()).unwrap();
    let mut waiting = Box::pin(keys.verify(&presented, late()));
    assert!(futures::poll!(&mut waiting).is_pending());
    other.refresh(&db).await.unwrap();
    assert_eq!(waiting.await.unwrap_err(), VerifyError::Refused(TokenError::UnknownKey));
}
