//! The material of `deploy/`: rules, dashboard, chart and units, each with the real program that reads it.

mod book;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod chart;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod image;
mod monitoring;
mod release;
#[cfg(target_os = "linux")]
mod systemd;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod yaml;
