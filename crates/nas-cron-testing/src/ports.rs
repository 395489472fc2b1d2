//! Ports for programs that cannot listen on port 0 and say where they are.

use std::collections::HashSet;
use std::net::{SocketAddr, TcpListener};
use std::sync::Mutex;

/// Returns an address of this machine where nobody listens, and that no other test of this process is given.
///
/// It is below the ports that the system hands out by itself: nobody else's connection takes it before the program
/// starts, or while a test keeps it down.
pub fn free_address() -> SocketAddr {
    static GIVEN: Mutex<Option<HashSet<u16>>> = Mutex::new(None);
    let mut given = GIVEN.lock().unwrap();
    let given = given.get_or_insert_default();
    loop {
        let port = rand::random_range(12_000..32_000);
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        if TcpListener::bind(address).is_ok() && given.insert(port) {
            return address;
        }
    }
}
