//! Micro-benchmarks of the pure steps of a request and of a fire: time and allocations of one call.
//!
//! `make microbench` measures them in a release build. `cargo test` only runs each of them once.

use divan::{AllocProfiler, Bencher, black_box};

#[global_allocator]
static ALLOCATOR: AllocProfiler = AllocProfiler::system();

fn main() {
    divan::main();
}

/// Verification of an access token, which every request of an agent needs.
mod verification {
    use chrono::DateTime;
    use futures::FutureExt;
    use jsonwebtoken::Algorithm;
    use nas_cron::instance::token::Presented;
    use nas_cron::instance::{Issuers, KeySet, PortalKeys, TokenRules};
    use nas_cron_jwt::testing::{Signing, jwks};
    use serde_json::json;
    use tokio::time::Instant;

    use super::{Bencher, black_box};

    const ISSUER: &str = "https://portal.example";
    const NOW: i64 = 1_800_000_000;

    /// Signs a token with the claims of a real portal.
    fn token(portal: &Signing) -> String {
        portal.sign(&json!({
            "iss": ISSUER, "aud": "hermes-cli-vps", "sub": "user-1", "client_id": "agent:inst-1", "org_id": "org-1",
            "scope": "inference", "iat": NOW - 60, "exp": NOW + 3_600, "oauth_contract_version": 3,
        }))
    }

    fn verify(bencher: Bencher<'_, '_>, portal: &Signing) {
        let keys = KeySet::from_jwks(&jwks([portal])).expect("a usable key");
        let issuers = Issuers::portal(TokenRules::new(ISSUER, []), PortalKeys::pinned(keys));
        let (token, now) = (token(portal), DateTime::from_timestamp(NOW, 0).expect("a time"));
        bencher.bench_local(|| {
            let verified = issuers.verify(black_box(&token), now, Instant::now()).now_or_never();
            verified.expect("pinned keys are not waited for").expect("a valid token").claims
        });
    }

    #[divan::bench]
    fn es256(bencher: Bencher<'_, '_>) {
        verify(bencher, &Signing::es256("k"));
    }

    #[divan::bench]
    fn rs256(bencher: Bencher<'_, '_>) {
        verify(bencher, &Signing::rsa(Algorithm::RS256, "k"));
    }

    #[divan::bench]
    fn eddsa(bencher: Bencher<'_, '_>) {
        verify(bencher, &Signing::eddsa("k"));
    }

    /// Everything before the signature: parsing, and the rules for claims.
    #[divan::bench]
    fn claims_only(bencher: Bencher<'_, '_>) {
        let (rules, token) = (TokenRules::new(ISSUER, []), token(&Signing::es256("k")));
        let now = DateTime::from_timestamp(NOW, 0).expect("a time");
        bencher.bench_local(|| drop(Presented::read(black_box(&token), &rules, now).expect("valid claims")));
    }
}

/// Minting of a fire token, which every attempt needs.
mod minting {
    use chrono::DateTime;
    use nas_cron::domain::SigningAlg;
    use nas_cron::keys::fire_token::{FireSubject, TokenTtl, Validity, mint};
    use nas_cron::keys::signer::{PrivateKey, Signer};
    use nas_cron_protocol::{FireAt, InstanceId, JobId};
    use uuid::Uuid;

    use super::{Bencher, black_box};

    fn bench(bencher: Bencher<'_, '_>, algorithm: SigningAlg) {
        let key = PrivateKey::generate(algorithm).expect("random bytes");
        let signer = Signer::new(&key, None).expect("a usable key");
        let instance_id = InstanceId::new("inst-1").expect("an id");
        let job_id = JobId::new("a1b2c3d4e5f6").expect("an id");
        let fire_at = FireAt::parse("2026-06-18T14:34:56.123456+02:00").expect("an instant");
        let now = DateTime::from_timestamp(1_800_000_000, 0).expect("a time");
        let fire = FireSubject {
            attempt_id: Uuid::from_u128(1),
            instance_id: &instance_id,
            job_id: &job_id,
            fire_at: &fire_at,
            auth: None,
        };
        let validity = Validity::now(now, TokenTtl::default());
        bencher.bench_local(|| mint(&signer, "https://portal.example", validity, black_box(fire)));
    }

    #[divan::bench]
    fn es256(bencher: Bencher<'_, '_>) {
        bench(bencher, SigningAlg::Es256);
    }

    #[divan::bench]
    fn rs256(bencher: Bencher<'_, '_>) {
        bench(bencher, SigningAlg::Rs256);
    }
}

/// Judgement of an agent's response.
mod judging {
    use nas_cron::fire::answer::{Ambiguous, Answer};
    use nas_cron::fire::outcome::judge;

    use super::{Bencher, black_box};

    /// Maximum length of a body that is kept.
    const BODY: usize = 16 * 1024;

    fn bench(bencher: Bencher<'_, '_>, answer: &Answer) {
        bencher.bench_local(|| judge(black_box(answer)));
    }

    fn response(status: u16, body: impl Into<String>) -> Answer {
        Answer::Response { status, retry_after: None, body: body.into() }
    }

    #[divan::bench]
    fn accepted(bencher: Bencher<'_, '_>) {
        bench(bencher, &response(202, r#"{"status":"accepted"}"#));
    }

    #[divan::bench]
    fn gone(bencher: Bencher<'_, '_>) {
        bench(bencher, &response(200, r#"{"status":"gone"}"#));
    }

    #[divan::bench]
    fn long_error_page(bencher: Bencher<'_, '_>) {
        bench(bencher, &response(502, "<p>Bad gateway</p>\n".repeat(BODY / 19)));
    }

    /// White space only: nothing of it is kept, so all of it is read.
    #[divan::bench]
    fn blank_error_page(bencher: Bencher<'_, '_>) {
        bench(bencher, &response(500, " ".repeat(BODY)));
    }

    #[divan::bench]
    fn timeout(bencher: Bencher<'_, '_>) {
        bench(bencher, &Answer::Ambiguous(Ambiguous::Timeout));
    }
}

/// The checks of a callback's URL and of the address that its host resolves to.
mod addresses {
    use std::net::IpAddr;

    use nas_cron::fire::address_policy::AddressPolicy;
    use url::Url;

    use super::{Bencher, black_box};

    /// A policy with the allow-list of a private deployment.
    fn policy() -> AddressPolicy {
        let allow = ["10.0.0.0/8", "192.168.0.0/16", "fd00::/8"];
        AddressPolicy::new(allow.iter().map(|network| network.parse().expect("a network")).collect())
    }

    #[divan::bench(args = ["93.184.216.34", "10.1.2.3", "127.0.0.1", "2606:4700::1111", "64:ff9b::7f00:1"])]
    fn permits(bencher: Bencher<'_, '_>, address: &str) {
        let (policy, address): (_, IpAddr) = (policy(), address.parse().expect("an address"));
        bencher.bench_local(|| policy.permits(black_box(address)));
    }

    #[divan::bench(args = ["https://agent.example/fire", "https://93.184.216.34/fire", "http://10.1.2.3:8080/fire"])]
    fn check_url(bencher: Bencher<'_, '_>, url: &str) {
        let (policy, url): (_, Url) = (policy(), url.parse().expect("a URL"));
        bencher.bench_local(|| policy.check_url(black_box(&url)));
    }
}
