//! Closed sets of words that are spelled the same in SQL, Rust, JSON, metrics and docs.

/// Declares an enum whose variants are words on the wire, with `ALL`, `as_str`, `Display`, `FromStr` and serde.
///
/// `ALL` keeps the order of the variants, which is that of a life cycle or of a precedence.
// `$text` is a `tt` because `utoipa` does not see the rename to a captured `literal`: a schema would list the variants.
#[macro_export]
macro_rules! words {
    ($(#[$doc:meta])* $vis:vis enum $name:ident { $($(#[$vdoc:meta])* $variant:ident = $text:tt),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
        $vis enum $name {
            $($(#[$vdoc])* #[serde(rename = $text)] $variant),+
        }

        impl $name {
            /// All variants, in their order.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];
            /// All words, in the order of `ALL`.
            pub const WORDS: &'static [&'static str] = &[$($text),+];

            /// The word on the wire.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text),+
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl std::str::FromStr for $name {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                Self::ALL.iter().copied().find(|one| one.as_str() == text).ok_or_else(|| {
                    let known: Vec<_> = Self::ALL.iter().map(|one| one.as_str()).collect();
                    format!("unknown value `{text}`: one of {}", known.join(", "))
                })
            }
        }
    };
}
