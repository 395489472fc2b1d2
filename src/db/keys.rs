//! Statements about `signing_keys`.
