//! Agent identities: keys that agents call with instead of the portal's tokens.

use std::time::Duration;

use crate::config::reader::Reader;
use crate::config::setting::Preset;
use crate::config::typed_key::{Key, settings};
use crate::config::values;

/// Agent identities: keys that agents call with instead of the portal's tokens.
#[derive(Clone, Copy, Debug)]
pub struct Identity {
    /// True if agent identities are enabled.
    pub on: bool,
    /// Lifetime of a task since its last use.
    pub task_lifetime: Duration,
    /// True if a task's id is returned encrypted to the agent's key.
    pub task_ids_encrypted: bool,
}

settings! { Identity:
    AGENT_IDENTITY: Key<bool> = "agent_identity", values::SWITCH,
        Preset::Value("false"),
        "Allow agents to register an Ed25519 key and to call with `Authorization: AgentAssertion` as an alternative to the portal's tokens. See docs/agent-identity.md.";
    AGENT_TASK_LIFETIME: Key<Duration> = "agent_task_lifetime", values::duration(values::s(15 * 60), values::YEAR),
        Preset::Value("24h"),
        "Lifetime of a registered agent task since its last use. Each use renews it.";
    AGENT_TASK_IDS_ENCRYPTED: Key<bool> = "agent_task_ids_encrypted", values::SWITCH,
        Preset::Value("false"),
        "Return a task's id as `encrypted_task_id`, a sealed box that only the agent's own key can open.";
}

pub(in crate::config) fn read(reader: &mut Reader<'_>) -> Identity {
    Identity {
        on: reader.value(&AGENT_IDENTITY),
        task_lifetime: reader.value(&AGENT_TASK_LIFETIME),
        task_ids_encrypted: reader.value(&AGENT_TASK_IDS_ENCRYPTED),
    }
}
