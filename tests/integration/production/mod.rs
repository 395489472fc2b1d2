//! The material of `deploy/`: rules, dashboard, chart and units, each with the real program that reads it.

mod book;
mod chart;
mod monitoring;
#[cfg(target_os = "linux")]
mod systemd;
