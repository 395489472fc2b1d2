//! Released migrations never change: databases store their checksums.

use std::collections::BTreeMap;
use std::path::Path;

use ring::digest::{SHA256, digest};

/// The SHA-256 of every released migration. A release adds its own; no line changes.
const RELEASED: [(&str, &str); 5] = [
    // 0.1.0
    ("0001_one_shots.sql", "bda63a0cdeed1c66730498aa645c0953934f6871e7324d9d61ea3a0b007639e2"),
    ("0002_transitions.sql", "df65a7cf94654866854588a0027195b941d3e55c9921aec32d943922adbf2aed"),
    ("0003_auth_profiles.sql", "3cf716a9232632abdb096b176eb63be9227be5a67a8d845b29825d96efd10093"),
    ("0004_agent_identity.sql", "976ca999ed8554d716fbe2a7c51a54e1ff547e6b6bba33c8a16e8cfb762aadb3"),
    ("0005_built_in_portal.sql", "4788368bf027c7b527da3aa8dd0304bab3f0d2672857f925a238505104a005f2"),
];

#[test]
fn released_migrations_are_unchanged() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations");
    let files: BTreeMap<_, _> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            let hash = hex::encode(digest(&SHA256, &std::fs::read(entry.path()).unwrap()));
            (entry.file_name().into_string().unwrap(), hash)
        })
        .collect();
    for (name, hash) in RELEASED {
        assert_eq!(
            files.get(name).map(String::as_str),
            Some(hash),
            "add a migration instead of changing {name}"
        );
    }
}
