//! Keys that agents call with, beside the portal's tokens.

use std::time::Duration;

use crate::config::reader::Reader;
use crate::config::setting::Preset;
use crate::config::typed_key::{Key, settings};
use crate::config::values;

/// Keys that agents call with, beside the portal's tokens.
#[derive(Clone, Copy, Debug)]
pub struct Identity {
    /// Whether there are any.
    pub on: bool,
    /// How long a task lives without use.
    pub task_lifetime: Duration,
    /// Whether a task's name is answered so that only its agent can read it.
    pub task_ids_encrypted: bool,
}

settings! { Identity:
    AGENT_IDENTITY: Key<bool> = "agent_identity", values::SWITCH,
        Preset::Value("false"),
        "Whether agents may register an Ed25519 key and call with `Authorization: AgentAssertion` beside the portal's tokens. See docs/agent-identity.md.";
    AGENT_TASK_LIFETIME: Key<Duration> = "agent_task_lifetime", values::duration(values::s(15 * 60), values::YEAR),
        Preset::Value("24h"),
        "How long a task that an agent has registered lives without being used; every use renews it.";
    AGENT_TASK_IDS_ENCRYPTED: Key<bool> = "agent_task_ids_encrypted", values::SWITCH,
        Preset::Value("false"),
        "Answer a task's name as `encrypted_task_id`: a sealed box that only the agent's own key opens.";
}

pub(in crate::config) fn read(reader: &mut Reader<'_>) -> Identity {
    Identity {
        on: reader.value(&AGENT_IDENTITY),
        task_lifetime: reader.value(&AGENT_TASK_LIFETIME),
        task_ids_encrypted: reader.value(&AGENT_TASK_IDS_ENCRYPTED),
    }
}
