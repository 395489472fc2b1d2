//! ES256 signatures per second: what the token of a fire costs at least.

use std::time::{Duration, Instant};

use anyhow::anyhow;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use serde_json::json;

use super::{print, rate};

/// Length of a fire token without its signature, in bytes.
const TOKEN_LEN: usize = 450;

/// Signs on one thread for the period and prints the rate.
pub(super) fn run(period: Duration) -> anyhow::Result<()> {
    let (random, algorithm) = (SystemRandom::new(), &ECDSA_P256_SHA256_FIXED_SIGNING);
    let key = EcdsaKeyPair::generate_pkcs8(algorithm, &random)
        .map_err(|_| anyhow!("the system returned no random numbers"))?;
    let pair = EcdsaKeyPair::from_pkcs8(algorithm, key.as_ref(), &random)
        .map_err(|error| anyhow!("the generated key is invalid: {error}"))?;
    let (token, start, mut count) = ([b'x'; TOKEN_LEN], Instant::now(), 0);
    while start.elapsed() < period {
        pair.sign(&random, &token).map_err(|_| anyhow!("signing failed"))?;
        count += 1;
    }
    print(&json!({ "signs_per_s": rate(count, start.elapsed()) }))
}
