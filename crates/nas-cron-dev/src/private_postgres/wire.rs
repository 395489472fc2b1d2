//! The part of the Postgres protocol that is needed to probe a server and to create a database. It works without sqlx
//! and without an async runtime.
//!
//! <https://www.postgresql.org/docs/current/protocol-message-formats.html>

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use super::{PrivatePostgresError, Result, SUPERUSER};

/// Protocol 3.0.
const PROTOCOL: u32 = 3 << 16;
const PROBE_LIMIT: Duration = Duration::from_secs(2);
/// Timeout of a statement. Creating a database copies a template and waits for a checkpoint.
const STATEMENT_LIMIT: Duration = Duration::from_secs(30);
/// `duplicate_database`, and `unique_violation` for concurrent creations.
const EXISTS: [&str; 2] = ["42P04", "23505"];

/// The result of a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Probe {
    /// The server accepts statements.
    Ready,
    /// The server is not running, or it is starting, recovering or shutting down.
    NotYet,
}

/// Checks if the server behind `socket` accepts statements.
pub(super) fn probe(socket: &Path) -> Probe {
    match Session::open(socket, PROBE_LIMIT) {
        Ok(_) => Probe::Ready,
        Err(_) => Probe::NotYet,
    }
}

/// Creates a database. Returns false if it existed.
pub(super) fn create_database(socket: &Path, name: &str) -> Result<bool> {
    let failed = |error: Failure| PrivatePostgresError::Statement(error.to_string());
    let mut session = Session::open(socket, STATEMENT_LIMIT).map_err(failed)?;
    match session.execute(&format!("CREATE DATABASE \"{}\"", name.replace('"', "\"\""))) {
        Ok(()) => Ok(true),
        Err(Failure::Server { code, .. }) if EXISTS.contains(&code.as_str()) => Ok(false),
        Err(error) => Err(failed(error)),
    }
}

/// Runs a statement and discards its rows.
pub(super) fn execute(socket: &Path, statement: &str) -> Result<()> {
    let failed = |error: Failure| PrivatePostgresError::Statement(error.to_string());
    Session::open(socket, STATEMENT_LIMIT).map_err(failed)?.execute(statement).map_err(failed)
}

/// A connection that is ready for a query. Dropping it closes the socket.
#[derive(Debug)]
pub(super) struct Session(UnixStream);

/// A failed exchange.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("{message} ({code})")]
    Server { code: String, message: String },
}

impl Session {
    pub(super) fn open(socket: &Path, limit: Duration) -> std::result::Result<Self, Failure> {
        let stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(limit))?;
        stream.set_write_timeout(Some(limit))?;
        let mut session = Self(stream);
        let mut startup = PROTOCOL.to_be_bytes().to_vec();
        for text in ["user", SUPERUSER, "database", SUPERUSER, ""] {
            startup.extend_from_slice(text.as_bytes());
            startup.push(0);
        }
        session.send(None, &startup)?;
        session.until_ready()?;
        Ok(session)
    }

    fn execute(&mut self, statement: &str) -> std::result::Result<(), Failure> {
        self.send(Some(b'Q'), &[statement.as_bytes(), b"\0"].concat())?;
        self.until_ready()
    }

    fn send(&mut self, tag: Option<u8>, body: &[u8]) -> io::Result<()> {
        let length = u32::try_from(body.len() + 4).map_err(io::Error::other)?;
        let mut message = Vec::from_iter(tag);
        message.extend(length.to_be_bytes());
        message.extend_from_slice(body);
        self.0.write_all(&message)
    }

    /// Reads until the server is ready for a query. Returns the error that it sent, if any.
    pub(super) fn until_ready(&mut self) -> std::result::Result<(), Failure> {
        let mut result = Ok(());
        loop {
            let mut head = [0; 5];
            match self.0.read_exact(&mut head) {
                // A fatal error is the last message.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof && result.is_err() => {
                    return result;
                }
                read => read?,
            }
            let [tag, length @ ..] = head;
            let mut body = Vec::new();
            let length = u64::from(u32::from_be_bytes(length)).saturating_sub(4);
            (&self.0).take(length).read_to_end(&mut body)?;
            match tag {
                b'Z' => return result,
                b'E' => result = Err(server_error(&body)),
                _ => {}
            }
        }
    }
}

/// Parses the fields of an `ErrorResponse`: a letter, a text, a zero.
fn server_error(body: &[u8]) -> Failure {
    let field = |letter: u8| {
        let fields = body.split(|&byte| byte == 0);
        let text = fields.filter_map(|field| field.split_first()).find(|(first, _)| **first == letter);
        text.map(|(_, text)| String::from_utf8_lossy(text).into_owned()).unwrap_or_default()
    };
    Failure::Server { code: field(b'C'), message: field(b'M') }
}
