//! `not_after` (`docs/contract.md#not_after`): no attempt starts later, and the one-shot becomes a visible dead letter.

mod rules;
mod wire;
