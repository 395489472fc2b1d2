//! *ring* as the cryptography provider of `jsonwebtoken`, and the only provider in the dependency tree.
//!
//! Asymmetric algorithms only. Nothing here can verify or sign HS256, so the classic algorithm confusion (HS256 with a
//! public key as the secret) fails here at the latest.

#[cfg(any(test, feature = "testing"))]
pub mod testing;
#[cfg(test)]
mod wycheproof;

use jsonwebtoken::crypto::{CryptoProvider, JwtSigner, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::{ErrorKind, Result};
use jsonwebtoken::jwk::{EllipticCurve, ThumbprintHash};
use jsonwebtoken::signature::{Error, Signer, Verifier};
use jsonwebtoken::{Algorithm, DecodingKey, DecodingKeyKind, EncodingKey};
use ring::rand::SystemRandom;
use ring::signature::{
    self as ring_signature, EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair, RsaEncoding,
    RsaKeyPair, RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey, VerificationAlgorithm,
};

static PROVIDER: CryptoProvider = CryptoProvider {
    signer_factory,
    verifier_factory,
    key_utils: KeyUtils {
        rsa_pub_components_from_private_key,
        // ring has no API for it, and no key of this shape is ever turned into a JWK here.
        rsa_pub_components_from_public_key: |_| Err(ErrorKind::UnsupportedAlgorithm.into()),
        ec_pub_components_from_private_key,
        ed_pub_components_from_private_key,
        compute_digest,
    },
};

/// Makes *ring* the provider of this process. Called at start and before keys are loaded; calling it again is harmless.
pub fn install() {
    // Fails only if a provider is already installed, which can only be this one: no backend feature is enabled.
    let _ = PROVIDER.install_default();
}

enum RingSigner {
    Rsa(Algorithm, RsaKeyPair, &'static dyn RsaEncoding),
    Ecdsa(Algorithm, EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature is `jsonwebtoken`'s")]
fn signer_factory(algorithm: &Algorithm, key: &EncodingKey) -> Result<Box<dyn JwtSigner>> {
    if key.family() != algorithm.family() {
        return Err(ErrorKind::InvalidKeyFormat.into());
    }
    let signer = match algorithm {
        Algorithm::ES256 | Algorithm::ES384 => {
            RingSigner::Ecdsa(*algorithm, ecdsa_key_pair(*algorithm, key.as_bytes())?)
        }
        Algorithm::EdDSA => RingSigner::Ed25519(ed25519_key_pair(key.as_bytes())?),
        _ => RingSigner::Rsa(*algorithm, rsa_key_pair(key.as_bytes())?, rsa_encoding(*algorithm)?),
    };
    Ok(Box::new(signer))
}

/// Converts ring's error, which deliberately has no details.
fn unspecified(_: ring::error::Unspecified) -> Error {
    Error::new()
}

impl Signer<Vec<u8>> for RingSigner {
    fn try_sign(&self, message: &[u8]) -> std::result::Result<Vec<u8>, Error> {
        match self {
            Self::Rsa(_, pair, encoding) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(*encoding, &SystemRandom::new(), message, &mut signature).map_err(unspecified)?;
                Ok(signature)
            }
            Self::Ecdsa(_, pair) => {
                let signature = pair.sign(&SystemRandom::new(), message).map_err(unspecified)?;
                Ok(signature.as_ref().to_vec())
            }
            Self::Ed25519(pair) => Ok(pair.sign(message).as_ref().to_vec()),
        }
    }
}

impl JwtSigner for RingSigner {
    fn algorithm(&self) -> Algorithm {
        match self {
            Self::Rsa(algorithm, ..) | Self::Ecdsa(algorithm, _) => *algorithm,
            Self::Ed25519(_) => Algorithm::EdDSA,
        }
    }
}

struct RingVerifier {
    algorithm: Algorithm,
    key: DecodingKey,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature is `jsonwebtoken`'s")]
fn verifier_factory(algorithm: &Algorithm, key: &DecodingKey) -> Result<Box<dyn JwtVerifier>> {
    if key.family() != algorithm.family() {
        return Err(ErrorKind::InvalidKeyFormat.into());
    }
    // Fail for an unsupported algorithm now, not at the first signature.
    let _ = verification(*algorithm)?;
    Ok(Box::new(RingVerifier { algorithm: *algorithm, key: key.clone() }))
}

impl Verifier<Vec<u8>> for RingVerifier {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> std::result::Result<(), Error> {
        let verified = match (verification(self.algorithm).map_err(Error::from_source)?, self.key.kind()) {
            (Verification::Rsa(parameters), DecodingKeyKind::RsaModulusExponent { n, e }) => {
                RsaPublicKeyComponents { n, e }.verify(parameters, message, signature)
            }
            (Verification::Rsa(parameters), DecodingKeyKind::SecretOrDer(der)) => {
                UnparsedPublicKey::new(parameters, der).verify(message, signature)
            }
            (Verification::Curve(curve), DecodingKeyKind::SecretOrDer(point)) => {
                UnparsedPublicKey::new(curve, point).verify(message, signature)
            }
            (Verification::Curve(_), DecodingKeyKind::RsaModulusExponent { .. }) => {
                Err(ring::error::Unspecified)
            }
        };
        verified.map_err(unspecified)
    }
}

impl JwtVerifier for RingVerifier {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

enum Verification {
    Rsa(&'static RsaParameters),
    Curve(&'static dyn VerificationAlgorithm),
}

fn verification(algorithm: Algorithm) -> Result<Verification> {
    use Verification::{Curve, Rsa};
    Ok(match algorithm {
        Algorithm::RS256 => Rsa(&ring_signature::RSA_PKCS1_2048_8192_SHA256),
        Algorithm::RS384 => Rsa(&ring_signature::RSA_PKCS1_2048_8192_SHA384),
        Algorithm::RS512 => Rsa(&ring_signature::RSA_PKCS1_2048_8192_SHA512),
        Algorithm::PS256 => Rsa(&ring_signature::RSA_PSS_2048_8192_SHA256),
        Algorithm::PS384 => Rsa(&ring_signature::RSA_PSS_2048_8192_SHA384),
        Algorithm::PS512 => Rsa(&ring_signature::RSA_PSS_2048_8192_SHA512),
        Algorithm::ES256 => Curve(&ring_signature::ECDSA_P256_SHA256_FIXED),
        Algorithm::ES384 => Curve(&ring_signature::ECDSA_P384_SHA384_FIXED),
        Algorithm::EdDSA => Curve(&ring_signature::ED25519),
        _ => return Err(ErrorKind::UnsupportedAlgorithm.into()),
    })
}

fn rsa_encoding(algorithm: Algorithm) -> Result<&'static dyn RsaEncoding> {
    Ok(match algorithm {
        Algorithm::RS256 => &ring_signature::RSA_PKCS1_SHA256,
        Algorithm::RS384 => &ring_signature::RSA_PKCS1_SHA384,
        Algorithm::RS512 => &ring_signature::RSA_PKCS1_SHA512,
        Algorithm::PS256 => &ring_signature::RSA_PSS_SHA256,
        Algorithm::PS384 => &ring_signature::RSA_PSS_SHA384,
        Algorithm::PS512 => &ring_signature::RSA_PSS_SHA512,
        _ => return Err(ErrorKind::UnsupportedAlgorithm.into()),
    })
}

/// Parses PKCS#8 or PKCS#1 in DER.
fn rsa_key_pair(der: &[u8]) -> Result<RsaKeyPair> {
    RsaKeyPair::from_pkcs8(der)
        .or_else(|_| RsaKeyPair::from_der(der))
        .map_err(|error| ErrorKind::InvalidRsaKey(error.to_string()).into())
}

fn ecdsa_key_pair(algorithm: Algorithm, pkcs8: &[u8]) -> Result<EcdsaKeyPair> {
    let curve: &'static EcdsaSigningAlgorithm = match algorithm {
        Algorithm::ES256 => &ring_signature::ECDSA_P256_SHA256_FIXED_SIGNING,
        Algorithm::ES384 => &ring_signature::ECDSA_P384_SHA384_FIXED_SIGNING,
        _ => return Err(ErrorKind::UnsupportedAlgorithm.into()),
    };
    EcdsaKeyPair::from_pkcs8(curve, pkcs8, &SystemRandom::new())
        .map_err(|_| ErrorKind::InvalidEcdsaKey.into())
}

fn ed25519_key_pair(pkcs8: &[u8]) -> Result<Ed25519KeyPair> {
    // OpenSSL writes PKCS#8 version 1, which lacks the public half.
    Ed25519KeyPair::from_pkcs8_maybe_unchecked(pkcs8).map_err(|_| ErrorKind::InvalidEddsaKey.into())
}

fn rsa_pub_components_from_private_key(der: &[u8]) -> Result<(Vec<u8>, Vec<u8>)> {
    let public: RsaPublicKeyComponents<Vec<u8>> = rsa_key_pair(der)?.public().into();
    Ok((public.n, public.e))
}

fn ec_pub_components_from_private_key(
    pkcs8: &[u8],
    algorithm: Algorithm,
) -> Result<(EllipticCurve, Vec<u8>, Vec<u8>)> {
    let pair = ecdsa_key_pair(algorithm, pkcs8)?;
    let curve = if algorithm == Algorithm::ES256 { EllipticCurve::P256 } else { EllipticCurve::P384 };
    // Uncompressed: 0x04, x, y.
    let point = &pair.public_key().as_ref()[1..];
    let (x, y) = point.split_at(point.len() / 2);
    Ok((curve, x.to_vec(), y.to_vec()))
}

fn ed_pub_components_from_private_key(pkcs8: &[u8], curve: &EllipticCurve) -> Result<Vec<u8>> {
    match curve {
        EllipticCurve::Ed25519 => Ok(ed25519_key_pair(pkcs8)?.public_key().as_ref().to_vec()),
        _ => Err(ErrorKind::InvalidAlgorithm.into()),
    }
}

#[expect(clippy::needless_pass_by_value, reason = "the signature is `jsonwebtoken`'s")]
fn compute_digest(data: &[u8], hash: ThumbprintHash) -> Result<Vec<u8>> {
    let algorithm = match hash {
        ThumbprintHash::SHA256 => &ring::digest::SHA256,
        ThumbprintHash::SHA384 => &ring::digest::SHA384,
        ThumbprintHash::SHA512 => &ring::digest::SHA512,
        _ => return Err(ErrorKind::UnsupportedAlgorithm.into()),
    };
    Ok(ring::digest::digest(algorithm, data).as_ref().to_vec())
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::jwk::AlgorithmParameters;
    use jsonwebtoken::{DecodingKey, EncodingKey, crypto};

    use super::*;
    use crate::testing::Signing;

    #[test]
    fn only_signed_messages_verify() {
        let mut all: Vec<_> = [
            Algorithm::RS256,
            Algorithm::RS384,
            Algorithm::RS512,
            Algorithm::PS256,
            Algorithm::PS384,
            Algorithm::PS512,
        ]
        .into_iter()
        .map(|algorithm| Signing::rsa(algorithm, "k"))
        .collect();
        all.extend([Signing::es256("k"), Signing::es384("k"), Signing::eddsa("k")]);
        for signing in all {
            let algorithm = signing.algorithm;
            let key = DecodingKey::from_jwk(&signing.jwk()).unwrap();
            let signature = crypto::sign(b"message", &signing.key, algorithm).unwrap();
            assert!(crypto::verify(&signature, b"message", &key, algorithm).unwrap(), "{algorithm:?}");
            assert!(!crypto::verify(&signature, b"massage", &key, algorithm).unwrap(), "{algorithm:?}");
            let of_signer = (PROVIDER.signer_factory)(&algorithm, &signing.key).unwrap().algorithm();
            let of_verifier = (PROVIDER.verifier_factory)(&algorithm, &key).unwrap().algorithm();
            assert_eq!((of_signer, of_verifier), (algorithm, algorithm));
        }
    }

    #[test]
    fn public_key_of_a_curve_names_it_and_has_both_coordinates() {
        for (signing, curve, bytes) in
            [(Signing::es256("k"), EllipticCurve::P256, 32), (Signing::es384("k"), EllipticCurve::P384, 48)]
        {
            let AlgorithmParameters::EllipticCurve(public) = signing.jwk().algorithm else {
                panic!("a key of another type")
            };
            assert_eq!(public.curve, curve);
            let base64url = (bytes * 4_usize).div_ceil(3);
            assert_eq!((public.x.len(), public.y.len()), (base64url, base64url));
        }
    }

    #[test]
    fn thumbprints_have_the_length_of_their_hash() {
        let jwk = Signing::es256("k").jwk();
        for (hash, bytes) in
            [(ThumbprintHash::SHA256, 32), (ThumbprintHash::SHA384, 48), (ThumbprintHash::SHA512, 64)]
        {
            let base64url = (bytes * 4_usize).div_ceil(3);
            assert_eq!(jwk.thumbprint(hash).unwrap().len(), base64url);
        }
    }

    #[test]
    fn symmetric_algorithms_are_unsupported() {
        install();
        let secret = b"secret";
        for algorithm in [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512] {
            assert!(crypto::sign(b"m", &EncodingKey::from_secret(secret), algorithm).is_err());
            assert!(crypto::verify("AAAA", b"m", &DecodingKey::from_secret(secret), algorithm).is_err());
        }
        // A key of one family never serves an algorithm of another.
        let ec = DecodingKey::from_jwk(&Signing::es256("k").jwk()).unwrap();
        assert!(crypto::verify("AAAA", b"m", &ec, Algorithm::RS256).is_err());
    }
}
