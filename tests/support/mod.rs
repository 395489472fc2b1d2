//! What the tests share.
#![allow(dead_code, unreachable_pub, reason = "every test binary uses its own part")]
#![expect(clippy::needless_pass_by_value, reason = "claims are written in place")]
#![expect(clippy::struct_field_names, reason = "`fire_at` is the contract's word")]

pub mod agent;
pub mod cluster;
pub mod database;
pub mod jwt;
pub mod nats;
pub mod portal;
pub mod proxy;
pub mod raw_agent;
pub mod service;
pub mod time;
pub mod world;
