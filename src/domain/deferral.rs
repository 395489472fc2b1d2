//! Deferred attempts: attempts that the service itself could not make.

use nas_cron_protocol::words;

words!(
    /// The reason for which an attempt was deferred. None of these is caused by the agent, so the attempt is not counted
    /// against the retry budget.
    pub enum Deferral {
        /// No file descriptor was free, in the process or on the machine.
        Descriptors = "descriptors",
        /// No local port was free for another connection to the agent's address.
        Ports = "ports",
        /// The system had no memory or no thread.
        Memory = "memory",
        /// No signing key was usable.
        SigningKey = "signing_key",
        /// The database did not confirm the attempt.
        Database = "database",
        /// No slot in flight, of the replica or of the instance, became free before the lease ended.
        Slots = "slots",
        /// The rest of the lease was shorter than the attempt's timeout.
        Lease = "lease",
        /// The process was stopped while it connected.
        Stalled = "stalled",
        /// A defect: the row is unreadable, or no request can be built from it.
        Defect = "defect",
    }
);
