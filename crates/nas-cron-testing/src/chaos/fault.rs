//! The faults: names, lengths and descriptions.

use std::time::Duration;

/// One kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Fault {
    /// SIGKILL to a replica. [`Fault::description`] describes all kinds.
    Kill,
    /// SIGSTOP to a replica.
    Stop,
    /// SIGTERM to each replica in turn.
    Rolling,
    /// A clean restart of the database.
    DatabaseRestart,
    /// SIGKILL to the server.
    DatabaseCrash,
    /// `pg_terminate_backend`.
    TerminatedBackends,
    /// Half-open connections.
    HoleExisting,
    /// No network to the database.
    HoleAll,
    /// No replies from the database.
    HoleReplies,
    /// Slow network.
    Latency100,
    /// Very slow network.
    Latency200,
    /// SIGSTOP to the server.
    DatabasePaused,
    /// No space left on device.
    DiskFull,
    /// Read-only transactions.
    ReadOnly,
    /// No free connection slots.
    NoSlots,
    /// The primary is killed.
    FailoverKilled,
    /// The primary is frozen.
    FailoverFrozen,
    /// A wrong clock of a replica, by an offset in seconds.
    Clock(i8),
    /// SIGKILL to the NATS server that leads the stream.
    NatsLeaderKilled,
    /// SIGSTOP to a NATS server.
    NatsPaused,
    /// No network to the NATS server that leads the stream.
    NatsPartition,
    /// HTML instead of JSON from `QStash`.
    QstashGarbage,
    /// JSON of another shape.
    QstashWrongShape,
    /// Responses that end early.
    QstashTruncated,
    /// Responses that take minutes.
    QstashSlow,
    /// Server errors.
    QstashErrors,
    /// Rate limits.
    QstashTooMany,
    /// Calls with an effect, without a response.
    QstashLostAnswers,
    /// Repeated deliveries.
    QstashTwice,
}

impl Fault {
    /// All kinds that every deployment can suffer, in the order of the table.
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

    /// Kinds of a cluster of NATS servers.
    pub const NATS: [Self; 3] = [Self::NatsLeaderKilled, Self::NatsPaused, Self::NatsPartition];

    /// Kinds of `QStash`.
    pub const QSTASH: [Self; 8] = [
        Self::QstashGarbage,
        Self::QstashWrongShape,
        Self::QstashTruncated,
        Self::QstashSlow,
        Self::QstashErrors,
        Self::QstashTooMany,
        Self::QstashLostAnswers,
        Self::QstashTwice,
    ];

    /// Returns the name, as `--only` accepts it.
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
            Self::NatsLeaderKilled => "nats-leader-killed",
            Self::NatsPaused => "nats-paused",
            Self::NatsPartition => "nats-partition",
            Self::QstashGarbage => "qstash-garbage",
            Self::QstashWrongShape => "qstash-wrong-shape",
            Self::QstashTruncated => "qstash-truncated",
            Self::QstashSlow => "qstash-slow",
            Self::QstashErrors => "qstash-errors",
            Self::QstashTooMany => "qstash-rate-limit",
            Self::QstashLostAnswers => "qstash-lost-answers",
            Self::QstashTwice => "qstash-twice",
        }
    }

    /// Returns a description of the fault, in a sentence.
    pub fn description(self) -> &'static str {
        match self {
            Self::Kill => "`kill -9` of a replica, which restarts at once",
            Self::Stop => "SIGSTOP of a replica, for longer than its leases",
            Self::Rolling => "SIGTERM, drain and restart of one replica after the other",
            Self::DatabaseRestart => "fast shutdown and restart of the database",
            Self::DatabaseCrash => "`kill -9` of the database and crash recovery",
            Self::TerminatedBackends => "`pg_terminate_backend` of every session",
            Self::HoleExisting => {
                "existing connections to the database stay open but lose all data; new ones work"
            }
            Self::HoleAll => "all data to and from the database is lost; new connections hang",
            Self::HoleReplies => "requests reach the database, its replies are lost",
            Self::Latency100 => "100 ms round-trip time to the database",
            Self::Latency200 => "200 ms round-trip time to the database",
            Self::DatabasePaused => "SIGSTOP of every process of the database",
            Self::DiskFull => "the database's file system (tmpfs) shrinks to the space in use",
            Self::ReadOnly => "`default_transaction_read_only`, as during a demotion",
            Self::NoSlots => "all sessions end, and other clients occupy every slot of `max_connections`",
            Self::FailoverKilled => {
                "the primary is killed, its synchronous standby is promoted, and its address moves there"
            }
            Self::FailoverFrozen => "the same with a frozen primary, whose connections stay open",
            Self::Clock(_) => "the clock of a replica is wrong (libfaketime)",
            Self::NatsLeaderKilled => "`kill -9` of the NATS server that leads the stream, and its restart",
            Self::NatsPaused => "SIGSTOP of a NATS server",
            Self::NatsPartition => {
                "the NATS server that leads the stream loses its network: it has a network namespace of its own"
            }
            Self::QstashGarbage => "QStash answers every call with 200 and HTML",
            Self::QstashWrongShape => "QStash answers with JSON of another shape",
            Self::QstashTruncated => "QStash's answers end in the middle",
            Self::QstashSlow => "QStash's answers arrive byte by byte, and never end",
            Self::QstashErrors => "QStash answers with 503",
            Self::QstashTooMany => "QStash answers with 429 and `Retry-After`",
            Self::QstashLostAnswers => {
                "calls to QStash have an effect, but the connection closes without an answer"
            }
            Self::QstashTwice => "QStash delivers every wake-up twice at once",
        }
    }

    /// Returns the length of the fault in a long run: zero if the fault itself determines it.
    pub fn length(self) -> Duration {
        Duration::from_secs(match self {
            // Longer than the lease of a started attempt: 30 s for the attempt and 10 s of margin.
            Self::Stop => 45,
            Self::DatabaseRestart => 5,
            Self::DatabaseCrash => 2,
            Self::HoleAll | Self::HoleReplies | Self::DatabasePaused => 10,
            Self::Latency100 | Self::Latency200 => 60,
            Self::DiskFull => 20,
            Self::ReadOnly | Self::NoSlots => 8,
            Self::Clock(_) => 25,
            fault if fault.is_of_backend() => 15,
            _ => 0,
        })
    }

    /// True if provisions must not fail, however long the fault lasts.
    pub fn spares_provisions(self) -> bool {
        matches!(self, Self::Latency100 | Self::Latency200 | Self::Clock(_) | Self::Rolling)
            || self.is_of_backend()
    }

    /// True if the fault is one of an external scheduler backend.
    pub fn is_of_backend(self) -> bool {
        Self::NATS.contains(&self) || Self::QSTASH.contains(&self)
    }

    /// True if provisions may fail, however short the fault is: a stopped replica answers no request.
    pub fn fails_provisions(self) -> bool {
        self == Self::Stop
    }

    /// Returns the maximum p99 lateness during the fault, if it is limited.
    pub fn lateness_limit(self) -> Option<Duration> {
        match self {
            Self::Latency100 => Some(Duration::from_secs(1)),
            Self::Latency200 => Some(Duration::from_secs(3)),
            _ => None,
        }
    }
}
