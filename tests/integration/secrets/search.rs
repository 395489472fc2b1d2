//! Searches texts for secrets, in every form in which a program could show them.

use base64::Engine;
use base64::alphabet::{STANDARD, URL_SAFE};
use base64::engine::general_purpose::{GeneralPurpose, NO_PAD};
use percent_encoding::{NON_ALPHANUMERIC, percent_encode};

/// Texts that were seen, with the place of each.
#[derive(Default)]
pub(super) struct Seen(Vec<(String, String)>);

impl Seen {
    pub(super) fn add(&mut self, place: impl Into<String>, text: impl Into<String>) {
        self.0.push((place.into(), text.into()));
    }

    /// Returns the number of places.
    pub(super) fn places(&self) -> usize {
        self.0.len()
    }

    /// Returns the places that have a secret, with its name and its form.
    pub(super) fn leaks(&self, secrets: &[Secret]) -> Vec<String> {
        let mut leaks = Vec::new();
        for Secret { name, forms } in secrets {
            for (place, text) in &self.0 {
                let found = forms.iter().find(|(_, form)| text.contains(form.as_str()));
                leaks.extend(found.map(|(form, _)| format!("{name} is in {place}, {form}")));
            }
        }
        leaks
    }
}

/// A secret, in all of its forms.
pub(super) struct Secret {
    name: &'static str,
    forms: Vec<(&'static str, String)>,
}

impl Secret {
    pub(super) fn new(name: &'static str, secret: impl AsRef<[u8]>) -> Self {
        let secret = secret.as_ref();
        assert!(secret.len() >= 8, "{name} is too short to be searched");
        let mut forms = vec![
            ("in hex", hex::encode(secret)),
            ("in upper hex", hex::encode_upper(secret)),
            ("percent-encoded", percent_encode(secret, NON_ALPHANUMERIC).to_string()),
            ("as a list of bytes", format!("{secret:?}").trim_matches(['[', ']']).to_owned()),
        ];
        forms.extend(str::from_utf8(secret).ok().map(|text| ("as it is", text.to_owned())));
        for (form, alphabet) in [("in base64", &STANDARD), ("in base64url", &URL_SAFE)] {
            let base64 = GeneralPurpose::new(alphabet, NO_PAD);
            // Wherever it begins within the encoded text: the characters that depend on it alone.
            forms.extend((0..3).map(|offset| {
                let encoded = base64.encode([&vec![0; offset][..], secret].concat());
                let (from, to) = ((offset * 8).div_ceil(6), (offset + secret.len()) * 8 / 6);
                (form, encoded[from..to].to_owned())
            }));
        }
        Self { name, forms }
    }

    /// Returns the claims and the signature of a JWT. Its header is public.
    pub(super) fn jwt(name: &'static str, token: &str) -> impl Iterator<Item = Self> {
        let parts: Vec<_> =
            token.split('.').skip(1).filter(|part| part.len() > 20).map(str::to_owned).collect();
        parts.into_iter().map(move |part| Self::new(name, part))
    }
}

#[test]
fn every_form_is_found_and_nothing_else() {
    let secret = [Secret::new("the secret", "correct horse/battery")];
    let base64 = GeneralPurpose::new(&STANDARD, NO_PAD);
    for text in [
        "a correct horse/battery b".to_owned(),
        hex::encode("a correct horse/battery"),
        hex::encode_upper("correct horse/battery b"),
        "token=correct%20horse%2Fbattery&x".to_owned(),
        format!("Key({:?})", b"correct horse/battery"),
        base64.encode("correct horse/battery"),
        base64.encode("a correct horse/battery staple"),
        base64.encode("ab correct horse/battery"),
        GeneralPurpose::new(&URL_SAFE, NO_PAD).encode("abc:correct horse/battery"),
    ] {
        let mut seen = Seen::default();
        seen.add("a place", text.clone());
        assert_eq!(seen.leaks(&secret).len(), 1, "{text}");
    }
    let mut seen = Seen::default();
    seen.add("a place", "incorrect horse, battery");
    assert!(seen.leaks(&secret).is_empty());
}
