//! The process, under the names that Prometheus's own clients use. They are read at each scrape.

use std::fmt::Write;
use std::sync::OnceLock;

use nas_cron_base::clock::{Clock, SystemClock};
use nas_cron_base::descriptors;
use rustix::time::{ClockId, clock_gettime};

/// Returns the time at which the metrics were installed, at the start of the process, in seconds since 1970.
pub(super) fn started() -> f64 {
    static STARTED: OnceLock<f64> = OnceLock::new();
    *STARTED.get_or_init(|| {
        let now = SystemClock.now();
        as_f64(now.timestamp()) + f64::from(now.timestamp_subsec_millis()) / 1_000.0
    })
}

/// Returns the metrics of this process in the text format of Prometheus. What the system does not tell is left out.
pub(super) fn page() -> String {
    let mut page = String::with_capacity(1_024);
    let mut add = |name: &str, kind: &str, help: &str, value: f64| {
        let _ = write!(page, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n\n");
    };
    add("process_start_time_seconds", "gauge", "Start of the process, in seconds since 1970.", started());
    let cpu = clock_gettime(ClockId::ProcessCPUTime);
    let cpu = as_f64(cpu.tv_sec) + as_f64(cpu.tv_nsec) / 1e9;
    add(
        "process_cpu_seconds_total",
        "counter",
        "CPU time of the process, in the user and the system mode.",
        cpu,
    );
    add(
        "process_max_fds",
        "gauge",
        "Maximum number of open file descriptors.",
        count(descriptors::soft_limit()),
    );
    if let Some(open) = open_descriptors() {
        add("process_open_fds", "gauge", "Open file descriptors.", count(open));
    }
    if let Some((virtual_bytes, resident)) = memory() {
        add("process_virtual_memory_bytes", "gauge", "Size of the address space.", count(virtual_bytes));
        add("process_resident_memory_bytes", "gauge", "Memory of the process in RAM.", count(resident));
    }
    page
}

/// Returns the number of open descriptors, without the one that the count itself needs.
fn open_descriptors() -> Option<u64> {
    let entries = std::fs::read_dir("/proc/self/fd").ok()?;
    Some((entries.count() as u64).saturating_sub(1))
}

/// Returns the virtual and the resident size, in bytes.
fn memory() -> Option<(u64, u64)> {
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    let mut pages = text.split(' ').map_while(|pages| pages.parse::<u64>().ok());
    let bytes = |pages: u64| pages.saturating_mul(rustix::param::page_size() as u64);
    Some((bytes(pages.next()?), bytes(pages.next()?)))
}

#[expect(clippy::cast_precision_loss, reason = "a metric is a float")]
fn as_f64(value: i64) -> f64 {
    value as f64
}

#[expect(clippy::cast_precision_loss, reason = "a metric is a float")]
fn count(value: u64) -> f64 {
    value as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(page: &str, name: &str) -> f64 {
        let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name} in {page}")).parse().expect("a number")
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn process_metrics_follow_the_process() {
        let before = page();
        let resident = value(&before, "process_resident_memory_bytes");
        assert!(resident > 1e6 && resident <= value(&before, "process_virtual_memory_bytes"), "{before}");
        let descriptors = value(&before, "process_open_fds");
        assert!(descriptors >= 3.0 && descriptors <= value(&before, "process_max_fds"), "{before}");
        assert!(value(&before, "process_start_time_seconds") > 1.7e9, "{before}");
        let cpu = value(&before, "process_cpu_seconds_total");
        let after = std::iter::repeat_with(page).find(|page| value(page, "process_cpu_seconds_total") > cpu);
        assert_eq!(
            value(&after.expect("endless"), "process_start_time_seconds").to_bits(),
            value(&before, "process_start_time_seconds").to_bits()
        );
    }
}
