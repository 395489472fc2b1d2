//! The descriptors of a replica by kind: connections of callers, to agents and to the database, and the others.

use std::collections::HashSet;
use std::fs;

use procfs_core::net::{TcpNetEntries, TcpState};
use procfs_core::{ExplicitSystemInfo, FromReadSI};

/// The table of connections has addresses in the machine's byte order; nothing else of it is read.
const SYSTEM: ExplicitSystemInfo = ExplicitSystemInfo {
    boot_time_secs: 0,
    ticks_per_second: 0,
    page_size: 0,
    is_little_endian: cfg!(target_endian = "little"),
};

/// The ports that tell the connections of a replica apart.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ports {
    /// The replica's own, for callers.
    pub(super) replica: u16,
    /// That of the agents.
    pub(super) agents: u16,
    /// That of the database.
    pub(super) database: u16,
}

/// The descriptors of a process.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Descriptors {
    /// All of them.
    pub(super) all: usize,
    /// Connections that callers have opened.
    pub(super) callers: usize,
    /// Connections to agents.
    pub(super) agents: usize,
    /// Sessions at the database.
    pub(super) database: usize,
}

/// Reads the descriptors of a process. Returns `None` if it has ended.
pub(super) fn read(process: u32, ports: Ports) -> Option<Descriptors> {
    let mut read = Descriptors::default();
    let mut sockets = HashSet::new();
    for descriptor in fs::read_dir(format!("/proc/{process}/fd")).ok()? {
        read.all += 1;
        // One that was closed meanwhile has no target any more.
        let target = descriptor.ok().and_then(|entry| fs::read_link(entry.path()).ok()).unwrap_or_default();
        let inode =
            target.to_str().and_then(|text| text.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok());
        sockets.extend::<Option<u64>>(inode);
    }
    for table in ["tcp", "tcp6"] {
        let connections = TcpNetEntries::from_file(format!("/proc/{process}/net/{table}"), &SYSTEM).ok()?.0;
        for connection in connections {
            if connection.state == TcpState::Listen || !sockets.contains(&connection.inode) {
                continue;
            }
            let (local, remote) = (connection.local_address.port(), connection.remote_address.port());
            read.callers += usize::from(local == ports.replica);
            read.agents += usize::from(remote == ports.agents);
            read.database += usize::from(remote == ports.database);
        }
    }
    Some(read)
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn each_connection_counts_by_its_port() {
        let listen = || TcpListener::bind("127.0.0.1:0").expect("a free port");
        let (replica, agents, database) = (listen(), listen(), listen());
        let port = |listener: &TcpListener| listener.local_addr().expect("it listens").port();
        let ports = Ports { replica: port(&replica), agents: port(&agents), database: port(&database) };
        let connect = |port| TcpStream::connect(("127.0.0.1", port)).expect("it accepts");
        let before = read(std::process::id(), ports).expect("this process runs");
        assert_eq!((before.callers, before.agents, before.database), (0, 0, 0));
        let _callers: Vec<_> = (0..3).map(|_| connect(ports.replica)).collect();
        // In this process, both ends count: the accepted one is that of a caller.
        let _accepted = replica.accept().expect("a caller");
        let _agents = [connect(ports.agents), connect(ports.agents)];
        let _database = connect(ports.database);
        let after = read(std::process::id(), ports).expect("this process runs");
        assert_eq!((after.callers, after.agents, after.database), (1, 2, 1));
        assert!(after.all >= before.all + 7, "{after:?}");
    }
}
