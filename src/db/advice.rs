//! Database errors in words for an operator: what failed, and the next step.

use super::DbError;

impl DbError {
    /// Returns what failed, without the words of the driver, and the next step.
    pub fn advice(&self) -> Advice {
        match self {
            Self::Unavailable(cause) | Self::Contended(cause) | Self::Defect(cause) => {
                match cause.downcast_ref::<sqlx::Error>() {
                    Some(error) => driver(error),
                    // The address and the operating system's reason.
                    None => Advice { failure: cause.to_string(), fix: NETWORK },
                }
            }
            Self::Conflict { .. } => Advice { failure: self.to_string(), fix: SERVER_LOG },
            Self::TransactionPooler => Advice {
                failure: "database_url names a connection pooler in transaction mode (such as PgBouncer with pool_mode = \
                          transaction), and nas-cron needs sessions"
                    .to_owned(),
                fix: "connect to Postgres directly, or through a pool with pool_mode = session",
            },
            Self::PostgresTooOld(_) => Advice {
                failure: self.to_string(),
                fix: "upgrade the server with pg_upgrade, or point database_url to a newer one",
            },
        }
    }
}

/// A database error in words for an operator. It displays as one sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advice {
    /// The failure, without secrets.
    pub failure: String,
    /// The next step.
    pub fix: &'static str,
}

impl std::fmt::Display for Advice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}; {}", self.failure, self.fix)
    }
}

const NETWORK: &str = "check that Postgres is running, that host and port in database_url are right, and that this \
                       machine may connect to it";
const SERVER_LOG: &str = "the log of Postgres may show the cause";

fn driver(error: &sqlx::Error) -> Advice {
    let (failure, fix) = match error {
        sqlx::Error::Database(refusal) => {
            let code = refusal.code().unwrap_or_default();
            (format!("{} (SQLSTATE {code})", refusal.message()), next_step(&code))
        }
        sqlx::Error::Tls(cause) => (
            format!("TLS failed: {cause}"),
            "check sslmode and sslrootcert in database_url, and the server's certificate",
        ),
        sqlx::Error::Configuration(cause) => (
            format!("invalid database_url: {cause}"),
            "the form is postgres://USER:PASSWORD@HOST:PORT/DATABASE",
        ),
        sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed | sqlx::Error::WorkerCrashed => {
            ("no connection to the database became free".to_owned(), NETWORK)
        }
        sqlx::Error::Io(cause) => (cause.to_string(), NETWORK),
        other => (other.to_string(), SERVER_LOG),
    };
    Advice { failure, fix }
}

/// Returns the next step for an error of the server, by its SQLSTATE.
fn next_step(code: &str) -> &'static str {
    match code {
        "28P01" | "28000" => {
            "check the user (without one in database_url: PGUSER, else the operating system's user), the password, and \
             pg_hba.conf of the server"
        }
        "3D000" => "create the database with `createdb`, or correct its name in database_url",
        "42501" => {
            "grant the privilege to the user in database_url: `nas-cron migrate` needs CREATE on the schema public, \
             everything else SELECT, INSERT, UPDATE and DELETE on its tables"
        }
        "53300" => "close other sessions, or raise max_connections of the server",
        "25006" => "point database_url to the primary server: this one is read-only",
        code if code.starts_with("53") => "free the resource on the server, and try again",
        code if code.starts_with("57") || code.starts_with("08") => {
            "the server is starting, stopping or overloaded: try again in a few seconds"
        }
        // Tables or columns that are missing, or differ.
        code if code.starts_with("42") => {
            "`nas-cron migrate --dry-run` shows whether the schema is the one of this release"
        }
        code if code.starts_with("40") || code == "55P03" => "another statement was in the way: try again",
        _ => SERVER_LOG,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advice_names_the_next_step_without_the_drivers_words() {
        let refused = DbError::Unavailable("cannot connect to db:5432: Connection refused".into());
        let advice = refused.advice().to_string();
        assert!(advice.starts_with("cannot connect to db:5432: Connection refused; check"), "{advice}");
        for error in [sqlx::Error::PoolTimedOut, sqlx::Error::WorkerCrashed] {
            let advice = DbError::from(error).advice().to_string();
            assert!(!advice.contains("pool") && advice.contains("database_url"), "{advice}");
        }
        let tls = DbError::from(sqlx::Error::Tls("no".into())).advice().to_string();
        assert!(tls.starts_with("TLS failed: no; check sslmode"), "{tls}");
        assert!(next_step("28P01").contains("password"));
        assert!(next_step("42501").contains("grant"));
        assert!(next_step("42P01").contains("nas-cron migrate"));
    }
}
