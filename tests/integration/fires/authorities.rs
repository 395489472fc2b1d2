//! Agents with a certificate of a private authority.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use nas_cron_testing::service::client;
use nas_cron_testing::world::World;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;

/// Starts an agent at 127.0.0.1 whose certificate is of a new authority. Returns its port, the authority as PEM, and the
/// fires that it accepts.
async fn agent() -> (u16, String, mpsc::UnboundedReceiver<String>) {
    let authority_key = KeyPair::generate().unwrap();
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let root = authority.self_signed(&authority_key).unwrap();
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(vec!["127.0.0.1".to_owned()])
        .unwrap()
        .signed_by(&key, &Issuer::new(authority, authority_key))
        .unwrap();
    let config =
        rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![leaf.der().clone()], PrivateKeyDer::try_from(key.serialize_der()).unwrap())
            .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (fires, received) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            // A client that does not trust the certificate ends the handshake.
            let Ok(mut stream) = acceptor.accept(socket).await else { continue };
            let mut request = Vec::new();
            while !request.ends_with(b"}") && stream.read_buf(&mut request).await.is_ok_and(|read| read > 0) {
            }
            let answer = b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
            let _ = stream.write_all(answer).await;
            let _ = stream.shutdown().await;
            let _ = fires.send(String::from_utf8_lossy(&request).into_owned());
        }
    });
    let pem =
        format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", STANDARD.encode(root.der()));
    (port, pem, received)
}

async fn provision(world: &World, callback: &str) {
    let body = json!({"job_id": "job", "fire_at": "2020-01-01T00:00:00Z", "agent_callback_url": callback,
                      "dedup_key": "job:1"});
    let url = format!("{}/api/agent-cron/provision", world.service.url);
    let response = client().post(url).bearer_auth(&world.token).json(&body).send().await.unwrap();
    assert_eq!(response.status(), 200);
}

#[tokio::test]
async fn callback_ca_file_adds_authorities_to_those_of_the_system() {
    let (port, authority, mut fires) = agent().await;
    let file = std::env::temp_dir().join(format!("{}.pem", uuid::Uuid::new_v4()));
    std::fs::write(&file, authority).unwrap();
    let world = World::with(|s| s.with("NAS_CRON_CALLBACK_CA_FILE", file.to_str().unwrap())).await;
    provision(&world, &format!("https://127.0.0.1:{port}")).await;
    let fire = fires.recv().await.unwrap();
    assert!(fire.starts_with("POST /api/cron/fire HTTP/1.1\r\n"), "{fire}");
    world.delivered("job").await;
    std::fs::remove_file(&file).unwrap();

    // Without the file, the certificate is not trusted.
    let (port, _, _fires) = agent().await;
    let world = World::new().await;
    provision(&world, &format!("https://127.0.0.1:{port}")).await;
    let attempt = &world.ended("job", 1).await[0];
    assert_eq!(attempt.outcome, "failed");
    assert!(attempt.error.as_deref().unwrap().contains("certificate"), "{attempt:?}");
}

#[tokio::test]
async fn unusable_callback_ca_file_is_named_at_the_start() {
    let world = World::new().await;
    let file = std::env::temp_dir().join(format!("{}.pem", uuid::Uuid::new_v4()));
    let settings = world.settings.clone().with("NAS_CRON_CALLBACK_CA_FILE", file.to_str().unwrap());
    for (content, fault) in
        [(None, "No such file"), (Some(""), "no usable certificate"), (Some("-----BEGIN"), "as PEM")]
    {
        if let Some(content) = content {
            std::fs::write(&file, content).unwrap();
        }
        let (status, _, said) = settings.run(&["serve"]).await;
        assert!(!status.success());
        assert!(said.contains("callback_ca_file") && said.contains(fault), "{said}");
    }
    std::fs::remove_file(&file).unwrap();
}
