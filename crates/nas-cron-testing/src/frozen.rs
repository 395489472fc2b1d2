//! Freezes a private Postgres with SIGSTOP: its sockets stay open, but it does not respond.

use std::fs;

use nas_cron_dev::private_postgres::PrivatePostgres;
use rustix::process::{Pid, Signal, kill_process};

/// Stops every process of the server. Connections stay open, and new ones are accepted by the kernel alone.
pub fn freeze(server: &PrivatePostgres) {
    let postmaster = postmaster(server);
    // The postmaster first, so that it starts no further processes.
    signal(postmaster, Signal::STOP);
    for child in children(postmaster) {
        signal(child, Signal::STOP);
    }
}

/// Resumes every process of the server.
pub fn thaw(server: &PrivatePostgres) {
    let postmaster = postmaster(server);
    for child in children(postmaster) {
        signal(child, Signal::CONT);
    }
    signal(postmaster, Signal::CONT);
}

/// Returns the process id of the postmaster: the first line of `postmaster.pid`.
fn postmaster(server: &PrivatePostgres) -> i32 {
    let path = server.data_dir().join("cluster/postmaster.pid");
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.lines().next().and_then(|line| line.trim().parse().ok()).expect("a process number")
}

/// Returns the child processes.
fn children(parent: i32) -> Vec<i32> {
    let processes = fs::read_dir("/proc").expect("freezing needs /proc");
    let numbers = processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    numbers.filter(|number| parent_of(*number) == Some(parent)).collect()
}

/// Returns the parent of a process: the second field after the name, which is in parentheses and may contain any
/// character, as in `7 (postgres: a) b) S 1 …`.
fn parent_of(process: i32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

fn signal(process: i32, signal: Signal) {
    // A process that has just ended needs no signal.
    let _ = kill_process(Pid::from_raw(process).expect("a process number"), signal);
}
