//! Callers of the agent API, and agents: both send prepared bytes, and receive into buffers on the stack.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nas_cron_testing::time::PATIENCE;
use serde_json::Value;

/// Maximum length of a request or a response, in bytes.
const LONGEST: usize = 16 * 1024;
const ACCEPTED: &[u8] =
    b"HTTP/1.1 202 Accepted\r\ncontent-type: application/json\r\ncontent-length: 21\r\n\r\n{\"status\":\"accepted\"}";

/// A prepared request.
pub(crate) struct Request(Vec<u8>);

impl Request {
    /// A POST of JSON with a token.
    pub(crate) fn new(path: &str, token: &str, body: &Value) -> Self {
        Self::with_method("POST", path, token, body)
    }

    /// A PUT of JSON with a token.
    pub(crate) fn put(path: &str, token: &str, body: &Value) -> Self {
        Self::with_method("PUT", path, token, body)
    }

    fn with_method(method: &str, path: &str, token: &str, body: &Value) -> Self {
        let body = body.to_string();
        let length = body.len();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: nas-cron\r\nauthorization: Bearer {token}\r\n\
             content-type: application/json\r\ncontent-length: {length}\r\n\r\n"
        );
        Self([head.into_bytes(), body.into_bytes()].concat())
    }
}

/// Sends the requests over so many connections. Each must succeed.
pub(crate) fn send_all(address: SocketAddr, requests: &[Request], connections: usize) {
    thread::scope(|scope| {
        for part in requests.chunks(requests.len().div_ceil(connections)) {
            scope.spawn(move || {
                let mut stream = connect(address);
                let mut buffer = [0; LONGEST];
                for Request(bytes) in part {
                    stream.write_all(bytes).expect("a request is sent");
                    let length = receive(&mut stream, &mut buffer).expect("a response");
                    let response = String::from_utf8_lossy(&buffer[..length]);
                    assert!(response.starts_with("HTTP/1.1 20"), "{response}");
                }
            });
        }
    });
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("the service listens");
    stream.set_nodelay(true).expect("an option of every socket");
    stream.set_read_timeout(Some(PATIENCE)).expect("an option of every socket");
    stream
}

/// Agents that accept every fire.
pub(crate) struct Agents {
    address: SocketAddr,
    fires: Arc<AtomicUsize>,
}

impl Agents {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("a bound address");
        let fires = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&fires);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let fires = Arc::clone(&counted);
                thread::spawn(move || answer(stream, &fires));
            }
        });
        Self { address, fires }
    }

    pub(crate) fn callback(&self, instance: usize) -> String {
        format!("http://{}/{instance}", self.address)
    }

    /// Waits until so many fires have arrived.
    pub(crate) fn wait_for(&self, fires: usize) {
        let begun = Instant::now();
        while self.fires.load(Ordering::SeqCst) < fires {
            assert!(begun.elapsed() < PATIENCE, "{:?} of {fires} fires", self.fires);
            thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Accepts the fires of a connection until the service closes it.
fn answer(mut stream: TcpStream, fires: &AtomicUsize) {
    let mut buffer = [0; LONGEST];
    while receive(&mut stream, &mut buffer).is_ok() {
        fires.fetch_add(1, Ordering::SeqCst);
        if stream.write_all(ACCEPTED).is_err() {
            return;
        }
    }
}

/// Reads one message to the end of its body, and returns its length. Nothing may follow it before it is answered.
fn receive(stream: &mut TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
    let mut length = 0;
    loop {
        match stream.read(&mut buffer[length..])? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            more => length += more,
        }
        if is_complete(&buffer[..length]) {
            return Ok(length);
        }
    }
}

fn is_complete(message: &[u8]) -> bool {
    let Some(head) = message.windows(4).position(|window| window == b"\r\n\r\n") else { return false };
    let lines = message[..head].split(|byte| *byte == b'\n');
    let lengths = lines.filter_map(|line| {
        let (name, value) = line.split_at_checked(b"content-length:".len())?;
        let value = name.eq_ignore_ascii_case(b"content-length:").then(|| str::from_utf8(value).ok())??;
        value.trim().parse::<usize>().ok()
    });
    message.len() >= head + 4 + lengths.sum::<usize>()
}
