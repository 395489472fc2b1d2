//! What the tests share.
#![expect(dead_code, reason = "every test binary uses its own part")]

pub mod database;
