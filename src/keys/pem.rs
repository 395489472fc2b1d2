//! Private keys from PEM. Accepts the formats that OpenSSL writes (PKCS#8, PKCS#1, SEC1) and converts them to one form,
//! with an error for each common mistake.

use rsa::pkcs8::der::asn1::{BitStringRef, ContextSpecific, ObjectIdentifier, OctetStringRef};
use rsa::pkcs8::der::{AnyRef, Decode, Encode, Reader, SliceReader, TagNumber};
use rsa::pkcs8::spki::AlgorithmIdentifierRef;
use rsa::pkcs8::{ObjectIdentifier as Oid, PrivateKeyInfo};
use rustls::pki_types::pem::{PemObject, SectionKind};
use secrecy::SecretSlice;
use secrecy::zeroize::Zeroizing;

use crate::domain::SigningAlg;

const RSA_ENCRYPTION: Oid = Oid::new_unwrap("1.2.840.113549.1.1.1");
const EC_PUBLIC_KEY: Oid = Oid::new_unwrap("1.2.840.10045.2.1");
const P_256: Oid = Oid::new_unwrap("1.2.840.10045.3.1.7");
const MIN_RSA_BITS: usize = 2048;

/// Reasons for which a PEM is unusable. The texts name the fix.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum PemError {
    /// The text contains no `-----BEGIN`.
    #[error("not a PEM file: it contains no `-----BEGIN … PRIVATE KEY-----`")]
    NotPem,
    /// The frame is there, but the content is damaged.
    #[error("the PEM is damaged: its lines are not base64, or its end is missing")]
    Damaged,
    /// The key is encrypted with a passphrase.
    #[error(
        "the private key is encrypted with a passphrase: remove it with `openssl pkey -in FILE -out PLAIN`"
    )]
    Encrypted,
    /// The key is in OpenSSH's own format.
    #[error("this is an OpenSSH private key: convert it with `ssh-keygen -p -m PKCS8 -f FILE`")]
    OpenSsh,
    /// The PEM contains only a public key.
    #[error("this is a public key: use the private key, which is needed to sign")]
    PublicKey,
    /// The PEM contains only a certificate.
    #[error("this is a certificate: use its private key, which is needed to sign")]
    Certificate,
    /// The PEM contains no key or certificate.
    #[error("no private key in this PEM: it must contain a `-----BEGIN … PRIVATE KEY-----`")]
    NoPrivateKey,
    /// The PEM contains several private keys.
    #[error("{0} private keys in this PEM: use one file per key")]
    Several(usize),
    /// The DER content does not match its label.
    #[error("invalid private key: {0}")]
    Unreadable(String),
    /// Ed25519, DSA, RSA-PSS, …
    #[error("unsupported kind of key {0}: use an RSA (RS256) or P-256 (ES256) key")]
    UnsupportedKind(String),
    /// An EC key on another curve.
    #[error("unsupported curve {0}: ES256 needs P-256 (prime256v1)")]
    UnsupportedCurve(String),
    /// An RSA key that RFC 7518 (3.3) forbids.
    #[error("the RSA key has {0} bits: RS256 needs at least 2048 (RFC 7518, 3.3)")]
    RsaTooShort(usize),
    /// An EC key without its public half.
    #[error("the EC key contains no public half: add it with `openssl ec -in FILE -out COMPLETE`")]
    NoPublicHalf,
}

/// Parses a PEM, and returns the algorithm and the PKCS#8 DER of its private key.
pub(super) fn parse(pem: &[u8]) -> Result<(SigningAlg, SecretSlice<u8>), PemError> {
    let text = String::from_utf8_lossy(pem);
    if !text.contains("-----BEGIN ") {
        return Err(PemError::NotPem);
    }
    if text.contains("BEGIN ENCRYPTED PRIVATE KEY") || text.contains("Proc-Type: 4,ENCRYPTED") {
        return Err(PemError::Encrypted);
    }
    if text.contains("BEGIN OPENSSH PRIVATE KEY") {
        return Err(PemError::OpenSsh);
    }
    let mut keys = Vec::new();
    let mut others = Vec::new();
    for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(pem) {
        let (kind, der) = section.map_err(|_| PemError::Damaged)?;
        match kind {
            SectionKind::PrivateKey | SectionKind::RsaPrivateKey | SectionKind::EcPrivateKey => {
                keys.push((kind, Zeroizing::new(der)));
            }
            other => others.push(other),
        }
    }
    let [(kind, der)] = keys.as_slice() else {
        return Err(match keys.len() {
            0 if others.contains(&SectionKind::Certificate) => PemError::Certificate,
            0 if others.contains(&SectionKind::PublicKey) || text.contains("BEGIN RSA PUBLIC KEY") => {
                PemError::PublicKey
            }
            0 => PemError::NoPrivateKey,
            several => PemError::Several(several),
        });
    };
    match kind {
        SectionKind::RsaPrivateKey => pkcs1(der),
        SectionKind::EcPrivateKey => sec1(der, None),
        _ => pkcs8(der),
    }
}

fn pkcs8(der: &[u8]) -> Result<(SigningAlg, SecretSlice<u8>), PemError> {
    let info = PrivateKeyInfo::from_der(der).map_err(unreadable)?;
    match info.algorithm.oid {
        RSA_ENCRYPTION => pkcs1(info.private_key),
        EC_PUBLIC_KEY => {
            let curve = info
                .algorithm
                .parameters_oid()
                .map_err(|_| PemError::UnsupportedCurve("with explicit parameters".to_owned()))?;
            sec1(info.private_key, Some(curve))
        }
        other => Err(PemError::UnsupportedKind(kind_name(other))),
    }
}

fn pkcs1(der: &[u8]) -> Result<(SigningAlg, SecretSlice<u8>), PemError> {
    let key = rsa::pkcs1::RsaPrivateKey::from_der(der).map_err(unreadable)?;
    let modulus = key.modulus.as_bytes();
    let leading = modulus.first().map_or(0, |first| first.leading_zeros() as usize);
    let bits = modulus.len() * 8 - leading;
    if bits < MIN_RSA_BITS {
        return Err(PemError::RsaTooShort(bits));
    }
    wrap(SigningAlg::Rs256, der)
}

/// `outer` is the curve that the PKCS#8 frame names. SEC1 without a frame names the curve itself.
fn sec1(der: &[u8], outer: Option<Oid>) -> Result<(SigningAlg, SecretSlice<u8>), PemError> {
    let (inner, has_public) = sec1_fields(der)?;
    match outer.or(inner) {
        Some(P_256) => {}
        Some(other) => return Err(PemError::UnsupportedCurve(curve_name(other))),
        None => return Err(PemError::UnsupportedCurve("without a name".to_owned())),
    }
    if !has_public {
        return Err(PemError::NoPublicHalf);
    }
    wrap(SigningAlg::Es256, der)
}

/// Returns the curve of an `ECPrivateKey` (RFC 5915), and true if it contains the public half.
fn sec1_fields(der: &[u8]) -> Result<(Option<Oid>, bool), PemError> {
    let mut reader = SliceReader::new(der).map_err(unreadable)?;
    reader
        .sequence(|fields| {
            u8::decode(fields)?;
            OctetStringRef::decode(fields)?;
            // A named curve is an object identifier; explicit parameters are a sequence.
            let curve = ContextSpecific::<AnyRef<'_>>::decode_explicit(fields, TagNumber::N0)?;
            let public = ContextSpecific::<BitStringRef<'_>>::decode_explicit(fields, TagNumber::N1)?;
            let curve = curve.map(|field| field.value.decode_as::<ObjectIdentifier>()).transpose();
            Ok((curve, public.is_some()))
        })
        .map_err(unreadable)
        .and_then(|(curve, public)| {
            let curve =
                curve.map_err(|_| PemError::UnsupportedCurve("with explicit parameters".to_owned()))?;
            Ok((curve, public))
        })
}

/// Wraps a key in the form that is stored and loaded: PKCS#8, version 1.
fn wrap(alg: SigningAlg, inner: &[u8]) -> Result<(SigningAlg, SecretSlice<u8>), PemError> {
    let algorithm = match alg {
        SigningAlg::Rs256 => AlgorithmIdentifierRef { oid: RSA_ENCRYPTION, parameters: Some(AnyRef::NULL) },
        SigningAlg::Es256 => AlgorithmIdentifierRef { oid: EC_PUBLIC_KEY, parameters: Some((&P_256).into()) },
    };
    let der = PrivateKeyInfo::new(algorithm, inner).to_der().map_err(unreadable)?;
    Ok((alg, SecretSlice::from(der)))
}

fn unreadable(error: impl std::fmt::Display) -> PemError {
    PemError::Unreadable(error.to_string())
}

fn kind_name(oid: Oid) -> String {
    match oid.to_string().as_str() {
        "1.3.101.112" => "Ed25519".to_owned(),
        "1.3.101.113" => "Ed448".to_owned(),
        "1.3.101.110" => "X25519".to_owned(),
        "1.2.840.113549.1.1.10" => "RSA-PSS".to_owned(),
        "1.2.840.10040.4.1" => "DSA".to_owned(),
        other => other.to_owned(),
    }
}

fn curve_name(oid: Oid) -> String {
    match oid.to_string().as_str() {
        "1.3.132.0.34" => "P-384".to_owned(),
        "1.3.132.0.35" => "P-521".to_owned(),
        "1.3.132.0.10" => "secp256k1".to_owned(),
        "1.3.132.0.33" => "P-224".to_owned(),
        other => other.to_owned(),
    }
}
