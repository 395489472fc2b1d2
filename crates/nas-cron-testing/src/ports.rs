//! Ports for programs that cannot listen on port 0 and report their address.

use std::collections::HashSet;
use std::net::{SocketAddr, TcpListener};
use std::sync::Mutex;

/// Returns a free address of this machine that no other test of this process gets.
///
/// Its port is below those that the system assigns to outgoing connections, so that none of them takes it before the
/// program starts or while a test keeps the program stopped.
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
