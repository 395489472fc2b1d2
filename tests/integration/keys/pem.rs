//! Private keys as OpenSSL writes them, usable and unusable. `tests/data/pem/make.sh` makes the files.

use std::path::PathBuf;

use nas_cron::domain::SigningAlg;
use nas_cron::keys::pem::PemError;
use nas_cron::keys::signer::{PrivateKey, Signer};

/// Returns the path of a test key.
pub(crate) fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/pem").join(format!("{name}.pem"))
}

/// Returns the concatenated content of test keys.
fn read(names: &[&str]) -> Vec<u8> {
    names.iter().flat_map(|name| std::fs::read(path(name)).expect(name)).collect()
}

fn signer(names: &[&str]) -> Signer {
    let key = PrivateKey::from_pem(&read(names)).unwrap_or_else(|error| panic!("{names:?}: {error}"));
    Signer::new(&key, None).unwrap_or_else(|error| panic!("{names:?}: {error}"))
}

#[test]
fn keys_every_openssl_encoding_of_one_key_is_read_as_the_same_key() {
    // The thumbprints (RFC 7638) were computed with OpenSSL from the members alone.
    for (kid, alg, forms) in [
        (
            "jZEJLhaTAHlRIGKtUDmPwMng1J3lV-3E3PneIdFIYmM",
            SigningAlg::Es256,
            [&["ec-sec1"][..], &["ec-parameters-sec1"], &["ec-pkcs8"], &["certificate", "ec-pkcs8"]],
        ),
        (
            "Lrtx8ExEiikU3evbX6_rOZG5W9Nr5t7o9TyvgaIcpvE",
            SigningAlg::Rs256,
            [&["rsa-pkcs1"][..], &["rsa-pkcs8"], &["certificate", "rsa-pkcs8"], &["rsa-pkcs1", "rsa-public"]],
        ),
    ] {
        let jwk = signer(forms[0]).public_jwk();
        for form in forms {
            let signer = signer(form);
            assert_eq!((signer.kid(), signer.alg()), (kid, alg), "{form:?}");
            assert_eq!(signer.public_jwk(), jwk, "{form:?}");
        }
    }
}

#[test]
fn keys_import_names_the_problem() {
    for (names, part) in [
        (&["p384-sec1"][..], "unsupported curve P-384: ES256 needs P-256"),
        (&["p521-pkcs8"], "P-521"),
        (&["secp256k1-sec1"], "secp256k1"),
        (&["ec-explicit"], "explicit parameters"),
        (&["ec-explicit-pkcs8"], "explicit parameters"),
        (&["ec-no-public"], "no public half"),
        (&["rsa-1024"], "the RSA key has 1024 bits: RS256 needs at least 2048"),
        (&["ed25519"], "Ed25519"),
        (&["rsa-pss"], "RSA-PSS"),
        (&["rsa-encrypted"], "passphrase"),
        (&["rsa-encrypted-pkcs1"], "passphrase"),
        (&["rsa-public"], "this is a public key"),
        (&["rsa-public-pkcs1"], "this is a public key"),
        (&["certificate"], "this is a certificate"),
        (&["ec-sec1", "rsa-pkcs8"], "2 private keys"),
        (&["parameters"], "no private key in this PEM"),
    ] {
        let error = PrivateKey::from_pem(&read(names)).err().map(|error| error.to_string());
        assert!(error.as_ref().is_some_and(|error| error.contains(part)), "{names:?}: {error:?}");
    }
}

#[test]
fn keys_damaged_files_are_refused() {
    let whole = read(&["rsa-pkcs8"]);
    assert_eq!(PrivateKey::from_pem(&whole[..500]).unwrap_err(), PemError::Damaged);
    for rubbish in [&b""[..], b"hello", b"\xff\xfe"] {
        assert_eq!(PrivateKey::from_pem(rubbish).unwrap_err(), PemError::NotPem);
    }
    // A damaged byte results in an error or in another key, never in a panic.
    for name in ["ec-sec1", "ec-pkcs8", "rsa-pkcs1"] {
        let whole = read(&[name]);
        for at in (0..whole.len()).step_by(7) {
            let mut damaged = whole.clone();
            damaged[at] ^= 1;
            if let Ok(key) = PrivateKey::from_pem(&damaged) {
                let _ = Signer::new(&key, None);
            }
        }
    }
}
