//! Recognition of texts that may be credentials.

/// Minimum run of ASCII letters and digits that counts as a key rather than as a word.
const SECRET_RUN: usize = 24;
/// Minimum number of ASCII letters and digits for [`is_randomly_mixed`] to apply.
const SECRET_MIX: usize = 28;

/// Prefixes of well-known issuers' keys and tokens. Lower-case prefixes match in any case.
const SECRET_PREFIXES: [&str; 27] = [
    "sk-",
    "sk_live_",
    "sk_test_",
    "rk_live_",
    "rk_test_",
    "whsec_",
    "ghp_",
    "gho_",
    "ghu_",
    "ghs_",
    "ghr_",
    "github_pat_",
    "glpat-",
    "hf_",
    "npm_",
    "pypi-",
    "shpat_",
    "xapp-",
    "xoxa-",
    "xoxb-",
    "xoxp-",
    "xoxr-",
    "xoxs-",
    "ya29.",
    "AIza",
    "AKIA",
    "eyJ",
];

/// True if the value may be a credential instead of a name: a part between colons has a known prefix, a long run of letters
/// and digits, or a random mix of them.
pub(super) fn looks_secret(text: &str) -> bool {
    let begins = |part: &str, prefix: &str| {
        part.get(..prefix.len()).is_some_and(|start| {
            start == prefix
                || (start.eq_ignore_ascii_case(prefix) && !prefix.contains(|c: char| c.is_ascii_uppercase()))
        })
    };
    text.split(':').map(str::trim).any(|part| {
        SECRET_PREFIXES.iter().any(|prefix| begins(part, prefix))
            || begins(part, "bearer ")
            || part.starts_with("-----BEGIN")
            || longest_run(part) >= SECRET_RUN
            || is_randomly_mixed(part)
    })
}

fn longest_run(part: &str) -> usize {
    part.split(|c: char| !c.is_ascii_alphanumeric()).map(str::len).max().unwrap_or(0)
}

/// True if upper case, lower case and digits alternate as in base64 of random bytes: nearly every second character is of
/// another kind than the one before it. Words of names change their kind once or twice.
fn is_randomly_mixed(part: &str) -> bool {
    let kinds: Vec<u8> = part
        .bytes()
        .filter(u8::is_ascii_alphanumeric)
        .map(|byte| match byte {
            b'A'..=b'Z' => 0,
            b'a'..=b'z' => 1,
            _ => 2,
        })
        .collect();
    let changes = kinds.windows(2).filter(|pair| pair[0] != pair[1]).count();
    kinds.len() >= SECRET_MIX && (0..3).all(|kind| kinds.contains(&kind)) && changes * 20 >= kinds.len() * 9
}
