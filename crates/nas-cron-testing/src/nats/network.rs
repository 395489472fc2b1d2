//! A network of hosts: a network namespace for each NATS server, so that one can lose its network.
//!
//! The hosts hang on a bridge of this machine, which needs root. The namespaces have no name: each lasts as long as its
//! keeper, a shell that waits for the end of a pipe that this process holds.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::time::PATIENCE;

/// The hosts of a cluster. Dropping this removes them.
pub(super) struct Network {
    /// Name of the bridge.
    bridge: String,
    /// Third byte of the addresses, which begin with 198.18: networks for measurements have that range.
    number: u8,
    /// The shells whose namespaces the hosts are.
    keepers: Vec<Child>,
}

impl Network {
    /// Creates hosts. Fails with the reason if this machine permits none.
    pub(super) fn new(hosts: usize) -> Result<Self, &'static str> {
        if !rustix::process::geteuid().is_root() {
            return Err("only root can create network namespaces");
        }
        let bridge = format!("nascron{:06x}", rand::random::<u32>() >> 8);
        let mut network = Self { bridge, number: rand::random(), keepers: Vec::new() };
        network.build(hosts).ok_or("network namespaces, or the command ip, are missing")?;
        Ok(network)
    }

    fn build(&mut self, hosts: usize) -> Option<()> {
        let (bridge, number) = (self.bridge.clone(), self.number);
        run("ip", &["link", "add", &bridge, "type", "bridge"])?;
        run("ip", &["address", "add", &format!("198.18.{number}.1/24"), "dev", &bridge])?;
        run("ip", &["link", "set", &bridge, "up"])?;
        for host in 0..hosts {
            let process = self.keep()?.to_string();
            let (link, address) = (self.link(host), format!("{}/24", self.address(host)));
            run("ip", &["link", "add", &link, "type", "veth", "peer", "name", "eth0", "netns", &process])?;
            run("ip", &["link", "set", &link, "master", &bridge, "up"])?;
            let inside = format!("--net=/proc/{process}/ns/net");
            run("nsenter", &[&inside, "ip", "address", "add", &address, "dev", "eth0"])?;
            run("nsenter", &[&inside, "ip", "link", "set", "eth0", "up"])?;
            run("nsenter", &[&inside, "ip", "link", "set", "lo", "up"])?;
        }
        Some(())
    }

    /// Starts a keeper and returns its process ID when it is in a namespace of its own.
    fn keep(&mut self) -> Option<u32> {
        let mut command = Command::new("unshare");
        command.args(["--net", "/bin/sh", "-c", "read -r end"]).stdin(Stdio::piped());
        let process = command.spawn().ok().map(|keeper| {
            let process = keeper.id();
            self.keepers.push(keeper);
            process
        })?;
        let namespace = |of: &str| fs::read_link(format!("/proc/{of}/ns/net")).ok();
        let (own, deadline) = (namespace("self")?, Instant::now() + PATIENCE);
        // `unshare` becomes the shell: its process stays the same.
        while namespace(&process.to_string())? == own {
            if Instant::now() > deadline {
                return None;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Some(process)
    }

    /// Returns the address of a host.
    pub(super) fn address(&self, host: usize) -> IpAddr {
        let last = 10 + u8::try_from(host).expect("a few hosts");
        Ipv4Addr::new(198, 18, self.number, last).into()
    }

    /// Returns a command that runs a program on a host.
    pub(super) fn command(&self, host: usize, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/proc/{}/ns/net", self.keepers[host].id())).arg(program);
        command
    }

    /// Disconnects a host from all others and from this machine.
    pub(super) fn cut(&self, host: usize) {
        self.set(host, "down");
    }

    /// Connects a host again.
    pub(super) fn restore(&self, host: usize) {
        self.set(host, "up");
    }

    fn set(&self, host: usize, state: &str) {
        run("ip", &["link", "set", &self.link(host), state]).expect("it could be created");
    }

    /// Returns the name of this machine's end of a host's link: at most 15 bytes.
    fn link(&self, host: usize) -> String {
        format!("{}-{host}", self.bridge)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for keeper in &mut self.keepers {
            let _ = keeper.kill();
            let _ = keeper.wait();
        }
        // The links end with their namespaces.
        run("ip", &["link", "delete", &self.bridge]);
    }
}

fn run(program: &str, arguments: &[&str]) -> Option<()> {
    let output = Command::new(program).args(arguments).output();
    output.is_ok_and(|output| output.status.success()).then_some(())
}
