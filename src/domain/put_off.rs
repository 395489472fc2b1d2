//! Attempts that this service could not make, by its own fault.

use nas_cron_protocol::words;

words!(
    /// Why an attempt was put off. The agent has no part in any of these, so no attempt is counted.
    pub enum PutOff {
        /// No file descriptor was free, in the process or on the machine.
        Descriptors = "descriptors",
        /// No local port was free for another connection to the agent's address.
        Ports = "ports",
        /// The system had no memory or no thread.
        Memory = "memory",
        /// No key could sign.
        SigningKey = "signing_key",
        /// The database did not confirm the attempt.
        Database = "database",
        /// No slot in flight came free before the lease ended, of the replica or of the instance.
        Slots = "slots",
        /// Too little of its lease was left.
        Lease = "lease",
        /// The process stood still while it connected.
        Stalled = "stalled",
        /// A defect: the row cannot be read, or no request can be made of it.
        Defect = "defect",
    }
);
