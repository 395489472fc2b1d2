//! Private keys from PEM: what OpenSSL writes (PKCS#8, PKCS#1, SEC1), brought into one form, with an
//! answer for each thing that people put there by mistake.

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

/// Why a PEM cannot be used. Each says what it is and what would be right.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum PemError {
    /// Nothing that begins with `-----BEGIN`.
    #[error("this is not PEM: there is no `-----BEGIN … PRIVATE KEY-----` in it")]
    NotPem,
    /// The frame is there, the content is damaged.
    #[error("the PEM is damaged: its lines are not base64, or its end is missing")]
    Damaged,
    /// A passphrase would be needed.
    #[error(
        "the private key is encrypted with a passphrase: take that off with `openssl pkey -in FILE -out PLAIN`"
    )]
    Encrypted,
    /// OpenSSH's own format.
    #[error("this is an OpenSSH private key: convert it with `ssh-keygen -p -m PKCS8 -f FILE`")]
    OpenSsh,
    /// Only the public half.
    #[error("this is a public key: the private key is needed to sign")]
    PublicKey,
    /// A certificate and no key.
    #[error("this is a certificate: the private key that belongs to it is needed to sign")]
    Certificate,
    /// PEM of some other kind.
    #[error("there is no private key in this PEM")]
    NoPrivateKey,
    /// Which one is meant?
    #[error("there are {0} private keys in this PEM: give one file per key")]
    Several(usize),
    /// The DER inside is not what its label says.
    #[error("the private key cannot be read: {0}")]
    Unreadable(String),
    /// Ed25519, DSA, RSA-PSS, …
    #[error(
        "keys of the kind {0} are not supported: agents accept RSA (RS256) and P-256 (ES256) keys from here"
    )]
    UnsupportedKind(String),
    /// An EC key on another curve.
    #[error("the curve {0} is not supported: ES256 needs P-256 (prime256v1)")]
    UnsupportedCurve(String),
    /// An RSA key that RFC 7518 (3.3) forbids.
    #[error("the RSA key has {0} bits: RS256 needs at least 2048 (RFC 7518, 3.3)")]
    RsaTooShort(usize),
    /// An EC key that leaves its public half out.
    #[error("the EC key carries no public half: add it with `openssl ec -in FILE -out COMPLETE`")]
    NoPublicHalf,
}

/// A private key out of a PEM: its algorithm and its PKCS#8 DER.
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

/// `outer` is the curve that a PKCS#8 frame names; alone, SEC1 names it itself.
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

/// The curve and whether the public half is there: `ECPrivateKey` of RFC 5915.
fn sec1_fields(der: &[u8]) -> Result<(Option<Oid>, bool), PemError> {
    let mut reader = SliceReader::new(der).map_err(unreadable)?;
    reader
        .sequence(|fields| {
            u8::decode(fields)?;
            OctetStringRef::decode(fields)?;
            // Explicit parameters are a sequence where a name would be an object identifier.
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

/// Into the one form that is sealed and loaded: PKCS#8, version 1.
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
