//! The scheduler backend of a run, and its faults.

use std::net::SocketAddr;

use tokio::time::sleep;

use super::fault::Fault;
use super::schedule::Step;
use crate::nats::NatsServers;
use crate::qstash_emulator::faults::{ApiFault, DeliveryFault};
use crate::qstash_emulator::{self, Emulator};
use crate::service::Settings;

/// The stream of the service.
const STREAM: &str = "NAS_CRON";

/// A scheduler backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// The Postgres loop of the service.
    Postgres,
    /// A cluster of three real NATS servers.
    Nats,
    /// The `QStash` emulator.
    Qstash,
}

impl Backend {
    /// All backends.
    pub const ALL: [Self; 3] = [Self::Postgres, Self::Nats, Self::Qstash];

    /// Returns the name, as the service's settings spell it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::Nats => "nats",
            Self::Qstash => "qstash",
        }
    }

    /// Returns the faults of this backend.
    pub fn faults(self) -> &'static [Fault] {
        match self {
            Self::Postgres => &[],
            Self::Nats => &Fault::NATS,
            Self::Qstash => &Fault::QSTASH,
        }
    }
}

/// A backend with everything that it needs. Dropping it stops it.
pub(super) enum RunningBackend {
    Postgres,
    Nats(Box<NatsServers>),
    Qstash(Box<Emulator>),
}

impl RunningBackend {
    /// Starts a backend, whose wake-ups arrive at `relay`. Returns it and the replicas' settings with it.
    pub(super) async fn start(backend: Backend, relay: SocketAddr, settings: Settings) -> (Self, Settings) {
        match backend {
            Backend::Postgres => (Self::Postgres, settings),
            Backend::Nats => {
                let servers = NatsServers::cluster_of_hosts().await;
                let settings = settings
                    .with("NAS_CRON_BACKEND", backend.name())
                    .with("NAS_CRON_NATS_URLS", servers.urls().join(","))
                    .with("NAS_CRON_NATS_REPLICAS", "3");
                (Self::Nats(Box::new(servers)), settings)
            }
            Backend::Qstash => {
                let emulator = Emulator::start(qstash_emulator::Settings::default()).await;
                let emulator = emulator.expect("a free port");
                let account = emulator.settings();
                let settings = settings
                    .with("NAS_CRON_BACKEND", backend.name())
                    .with("NAS_CRON_RELAY_URL", format!("http://{relay}/api/agent-cron/relay"))
                    .with("NAS_CRON_QSTASH_URL", emulator.url())
                    .with("NAS_CRON_QSTASH_TOKEN", &account.token)
                    .with("NAS_CRON_QSTASH_CURRENT_SIGNING_KEY", &account.current_key)
                    .with("NAS_CRON_QSTASH_NEXT_SIGNING_KEY", &account.next_key);
                (Self::Qstash(Box::new(emulator)), settings)
            }
        }
    }

    /// Returns the reason to skip a fault, if it cannot be injected on this machine.
    pub(super) fn skip_reason(&self, fault: Fault) -> Option<&'static str> {
        match self {
            Self::Nats(servers) if fault == Fault::NatsPartition => servers.why_no_partition(),
            _ => None,
        }
    }

    /// Injects a fault, and waits until it is over.
    pub(super) async fn inject(&mut self, step: &Step) {
        match self {
            Self::Postgres => unreachable!("{:?} is a fault of another backend", step.fault),
            Self::Nats(servers) => inject_into_nats(servers, step).await,
            Self::Qstash(emulator) => {
                match api_fault(step.fault) {
                    Some(fault) => emulator.misbehave(fault, None),
                    None => emulator.misdeliver(DeliveryFault::Twice),
                }
                sleep(step.length).await;
                emulator.behave();
            }
        }
    }
}

async fn inject_into_nats(servers: &mut NatsServers, step: &Step) {
    match step.fault {
        Fault::NatsPaused => {
            let server = step.dice as usize % servers.urls().len();
            servers.pause(server);
            sleep(step.length).await;
            servers.resume(server);
            servers.recovered(server).await;
        }
        Fault::NatsPartition => {
            let leader = servers.leader(STREAM).await;
            servers.partition(leader);
            sleep(step.length).await;
            servers.reunite(leader);
            servers.recovered(leader).await;
        }
        _ => {
            let leader = servers.leader(STREAM).await;
            servers.kill(leader).await;
            sleep(step.length).await;
            servers.restart(leader).await;
        }
    }
}

/// Returns the fault of the emulator's API, or `None` for one of its deliveries.
fn api_fault(fault: Fault) -> Option<ApiFault> {
    Some(match fault {
        Fault::QstashGarbage => ApiFault::Garbage,
        Fault::QstashWrongShape => ApiFault::WrongShape,
        Fault::QstashTruncated => ApiFault::Truncated,
        Fault::QstashSlow => ApiFault::Drip,
        Fault::QstashErrors => ApiFault::Status(503),
        Fault::QstashTooMany => ApiFault::TooMany(2),
        Fault::QstashLostAnswers => ApiFault::LoseAnswer,
        _ => return None,
    })
}
