//! The finding about the key-encryption key and its fallbacks.

use nas_cron_base::terminal::counted;

use super::Finding;
use crate::domain::sealed::KeyUse;

/// Maximum number of secrets that are named.
const NAMED: usize = 5;

/// Reports what still needs a fallback, and what none of the keys decrypts. `has_fallbacks`: there are any.
pub fn encryption(used: &KeyUse, has_fallbacks: bool) -> Finding {
    let many = |count: u64, one: &str| counted(i64::try_from(count).unwrap_or(i64::MAX), one);
    if !used.unreadable.is_empty() {
        let mut named = used.unreadable[..used.unreadable.len().min(NAMED)].join(", ");
        if used.unreadable.len() > NAMED {
            named.push_str(" and others");
        }
        return Finding::wrong(
            format!("neither the key-encryption key nor a fallback decrypts: {named}"),
            "set the key that encrypted it in NAS_CRON_KEY_ENCRYPTION_KEY_FALLBACKS, then run `nas-cron keys rewrap`",
        );
    }
    if used.fallback > 0 {
        return Finding::warning(
            format!("{} still encrypted with a fallback", many(used.fallback, "secret")),
            "when every replica has the new NAS_CRON_KEY_ENCRYPTION_KEY, run `nas-cron keys rewrap`",
        );
    }
    if used.logins_fallback > 0 {
        return Finding::warning(
            format!("{} with a refresh token of a fallback", many(used.logins_fallback, "login")),
            "keep the fallback until these agents refresh their tokens, or enroll them again with --new-login",
        );
    }
    let all = format!("{} of the key-encryption key", many(used.current, "secret"));
    if has_fallbacks {
        Finding::ok(format!(
            "{all}; the fallback decrypts nothing, and can be removed unless it is the next key"
        ))
    } else {
        Finding::ok(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnosis::Status;

    #[test]
    fn secrets_of_a_fallback_are_reported_with_the_next_step() {
        let current = KeyUse { current: 3, logins_current: 2, ..KeyUse::default() };
        for (used, has_fallbacks, status, part) in [
            (current.clone(), false, Status::Ok, "3 secrets of the key-encryption key"),
            (current.clone(), true, Status::Ok, "can be removed"),
            (KeyUse { fallback: 1, ..current.clone() }, true, Status::Warning, "1 secret still"),
            (KeyUse { logins_fallback: 2, ..current.clone() }, true, Status::Warning, "2 logins with"),
            (
                KeyUse { unreadable: vec!["x".to_owned(); 7], ..current },
                true,
                Status::Wrong,
                "x, x, x, x, x and others",
            ),
        ] {
            let finding = encryption(&used, has_fallbacks);
            assert_eq!(finding.status, status, "{finding:?}");
            assert!(finding.found.contains(part), "{finding:?}");
            assert_eq!(finding.fix.is_some(), status != Status::Ok);
        }
    }
}
