//! The faults: names, lengths, what they are.

use std::time::Duration;

/// One kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Fault {
    /// See [`Fault::means`], as for the others.
    Kill,
    /// SIGSTOP.
    Stop,
    /// SIGTERM.
    Rolling,
    /// A clean restart.
    DatabaseRestart,
    /// SIGKILL to the server.
    DatabaseCrash,
    /// `pg_terminate_backend`.
    TerminatedBackends,
    /// Half-open connections.
    HoleExisting,
    /// No network.
    HoleAll,
    /// One way only.
    HoleReplies,
    /// Slow network.
    Latency100,
    /// Very slow network.
    Latency200,
    /// SIGSTOP to the server.
    DatabasePaused,
    /// No space left on device.
    DiskFull,
    /// As during a demotion.
    ReadOnly,
    /// `max_connections`.
    NoSlots,
    /// The primary dies.
    FailoverKilled,
    /// The primary falls silent.
    FailoverFrozen,
    /// A wrong clock, in seconds.
    Clock(i8),
}

impl Fault {
    /// Every kind, in the order of the table.
    pub const ALL: [Self; 23] = [
        Self::Kill,
        Self::Stop,
        Self::Rolling,
        Self::DatabaseRestart,
        Self::DatabaseCrash,
        Self::TerminatedBackends,
        Self::HoleExisting,
        Self::HoleAll,
        Self::HoleReplies,
        Self::Latency100,
        Self::Latency200,
        Self::DatabasePaused,
        Self::DiskFull,
        Self::ReadOnly,
        Self::NoSlots,
        Self::FailoverKilled,
        Self::FailoverFrozen,
        Self::Clock(5),
        Self::Clock(-5),
        Self::Clock(40),
        Self::Clock(-40),
        Self::Clock(90),
        Self::Clock(-90),
    ];

    /// What `--only` takes.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Stop => "stop",
            Self::Rolling => "rolling-restart",
            Self::DatabaseRestart => "database-restart",
            Self::DatabaseCrash => "database-crash",
            Self::TerminatedBackends => "terminated-backends",
            Self::HoleExisting => "black-hole-existing",
            Self::HoleAll => "black-hole-all",
            Self::HoleReplies => "black-hole-replies",
            Self::Latency100 => "latency-100ms",
            Self::Latency200 => "latency-200ms",
            Self::DatabasePaused => "database-paused",
            Self::DiskFull => "disk-full",
            Self::ReadOnly => "read-only",
            Self::NoSlots => "exhausted-slots",
            Self::FailoverKilled => "failover-killed",
            Self::FailoverFrozen => "failover-frozen",
            Self::Clock(5) => "clock+5s",
            Self::Clock(-5) => "clock-5s",
            Self::Clock(40) => "clock+40s",
            Self::Clock(-40) => "clock-40s",
            Self::Clock(90) => "clock+90s",
            Self::Clock(_) => "clock-90s",
        }
    }

    /// What happens, in a sentence.
    pub fn means(self) -> &'static str {
        match self {
            Self::Kill => "`kill -9` of a replica, which is started again at once",
            Self::Stop => "SIGSTOP of a replica, for longer than its leases last",
            Self::Rolling => "SIGTERM, drain and start of one replica after the other",
            Self::DatabaseRestart => "fast shutdown of the database, and its start",
            Self::DatabaseCrash => "`kill -9` of the database, and its recovery",
            Self::TerminatedBackends => "`pg_terminate_backend` of every session",
            Self::HoleExisting => {
                "connections to the database carry nothing any more and stay open; new ones work"
            }
            Self::HoleAll => "nothing reaches the database or comes back; new connections hang",
            Self::HoleReplies => "requests reach the database, its replies get lost",
            Self::Latency100 => "100 ms round-trip time to the database",
            Self::Latency200 => "200 ms round-trip time to the database",
            Self::DatabasePaused => "SIGSTOP of every process of the database",
            Self::DiskFull => "the database's file system (tmpfs) shrinks to what is in use",
            Self::ReadOnly => "`default_transaction_read_only`, as during a demotion",
            Self::NoSlots => "all sessions end, and others take every slot of `max_connections`",
            Self::FailoverKilled => {
                "the primary is killed, its synchronous standby promoted, the address led there"
            }
            Self::FailoverFrozen => "the same with a primary that falls silent: its connections stay open",
            Self::Clock(_) => "a replica runs with a wrong clock (libfaketime)",
        }
    }

    /// How long it lasts in a long run; what takes its own time has none.
    pub fn length(self) -> Duration {
        Duration::from_secs(match self {
            // The lease of a started attempt: 30 s for the attempt, and 10 s.
            Self::Stop => 45,
            Self::DatabaseRestart => 5,
            Self::DatabaseCrash => 2,
            Self::HoleAll | Self::HoleReplies | Self::DatabasePaused => 10,
            Self::Latency100 | Self::Latency200 => 60,
            Self::DiskFull => 20,
            Self::ReadOnly | Self::NoSlots => 8,
            Self::Clock(_) => 25,
            _ => 0,
        })
    }

    /// Whether provisions must not fail however long it lasts.
    pub fn spares_provisions(self) -> bool {
        matches!(self, Self::Latency100 | Self::Latency200 | Self::Clock(_) | Self::Rolling)
    }

    /// Whether provisions may fail however short it is: a replica that was stopped answers nobody.
    pub fn fails_provisions(self) -> bool {
        self == Self::Stop
    }

    /// Upper bound on the 99th percentile of lateness while it lasts.
    pub fn lateness_reach(self) -> Option<Duration> {
        match self {
            Self::Latency100 => Some(Duration::from_secs(1)),
            Self::Latency200 => Some(Duration::from_secs(3)),
            _ => None,
        }
    }
}
