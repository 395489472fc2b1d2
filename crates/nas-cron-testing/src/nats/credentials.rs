//! Credentials of servers and clients: certificates, accounts, users.

use std::fmt::Write as _;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use nkeys::KeyPair;
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer};
use serde_json::{Value, json};

/// Writes `ca.pem`, the certificates that it signed for server and client, their keys, and `foreign-ca.pem`.
pub(super) fn write_certificates(dir: &Path) {
    let write = |name: &str, kind: &str, der: &[u8]| {
        let mut pem = format!("-----BEGIN {kind}-----\n");
        for line in STANDARD.encode(der).as_bytes().chunks(64) {
            pem.push_str(std::str::from_utf8(line).unwrap());
            pem.push('\n');
        }
        let _ = writeln!(pem, "-----END {kind}-----");
        std::fs::write(dir.join(name), pem).unwrap();
    };
    let authority = |name: &str| {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        let certificate = params.self_signed(&key).unwrap();
        write(&format!("{name}.pem"), "CERTIFICATE", certificate.der());
        Issuer::new(params, key)
    };
    let _foreign = authority("foreign-ca");
    let issuer = authority("ca");
    for (name, usage) in
        [("server", ExtendedKeyUsagePurpose::ServerAuth), ("client", ExtendedKeyUsagePurpose::ClientAuth)]
    {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        params.extended_key_usages = vec![usage];
        let certificate = params.signed_by(&key, &issuer).unwrap();
        write(&format!("{name}.pem"), "CERTIFICATE", certificate.der());
        write(&format!("{name}.key"), "PRIVATE KEY", &key.serialize_der());
    }
}

/// Writes `user.creds`, of an account in the returned part of the configuration, and `foreign.creds`, of an unknown
/// account.
pub(super) fn write_credentials(dir: &Path) -> String {
    let operator = KeyPair::new_operator();
    let operator_jwt = jwt(&operator, &operator, "operator", json!({ "type": "operator" }));
    let system = KeyPair::new_account();
    let limits = json!({
        "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "conn": -1, "leaf": -1,
        "wildcards": true, "mem_storage": -1, "disk_storage": -1, "streams": -1, "consumer": -1,
    });
    let system_jwt = jwt(&operator, &system, "system", json!({ "type": "account" }));
    let (known, unknown) = (KeyPair::new_account(), KeyPair::new_account());
    let known_jwt = jwt(&operator, &known, "tests", json!({ "type": "account", "limits": limits }));
    for (name, account) in [("user", &known), ("foreign", &unknown)] {
        let user = KeyPair::new_user();
        let claims = json!({ "type": "user", "subs": -1, "data": -1, "payload": -1 });
        let file = format!(
            "-----BEGIN NATS USER JWT-----\n{}\n------END NATS USER JWT------\n\n\
             -----BEGIN USER NKEY SEED-----\n{}\n------END USER NKEY SEED------\n",
            jwt(account, &user, name, claims),
            user.seed().unwrap()
        );
        std::fs::write(dir.join(format!("{name}.creds")), file).unwrap();
    }
    let (system, known) = (system.public_key(), known.public_key());
    format!(
        "operator: \"{operator_jwt}\"\nsystem_account: {system}\nresolver: MEMORY\n\
         resolver_preload: {{\n{system}: \"{system_jwt}\"\n{known}: \"{known_jwt}\"\n}}\n"
    )
}

/// Signs a JWT in the format of NATS.
fn jwt(issuer: &KeyPair, subject: &KeyPair, name: &str, mut claims: Value) -> String {
    claims["version"] = json!(2);
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let claims = json!({
        "iss": issuer.public_key(), "sub": subject.public_key(), "name": name, "iat": crate::time::now().timestamp(),
        "jti": format!("{:032x}", rand::random::<u128>()), "nats": claims,
    });
    let signed = format!("{}.{}", part(&json!({ "typ": "JWT", "alg": "ed25519-nkey" })), part(&claims));
    let signature = issuer.sign(signed.as_bytes()).unwrap();
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}
