//! What the tests share.
#![allow(dead_code, unreachable_pub, reason = "every test binary uses its own part")]

pub mod agent;
pub mod cluster;
pub mod database;
pub mod jwt;
pub mod portal;
pub mod proxy;
pub mod raw_agent;
pub mod service;
pub mod time;
pub mod world;
