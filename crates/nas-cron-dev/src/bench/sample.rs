//! Verifies the fires that the sink has sampled.

use tokio::sync::mpsc;

use super::fleet::Fleet;
use super::sink::Sample;
use crate::dev::fire_verifier::FireVerifier;
use crate::dev::fire_verifier::Unverified;

/// Results of the verified samples.
#[derive(Debug, Default)]
pub(super) struct Verified {
    /// Samples that verified.
    pub(super) good: usize,
    /// Samples that failed.
    pub(super) bad: usize,
    /// Reason of the first failure.
    pub(super) first_fault: Option<String>,
}

impl Verified {
    /// Verifies samples until the sink is dropped. Cancel-safe: counts are kept.
    pub(super) async fn follow(
        &mut self,
        samples: &mut mpsc::Receiver<Sample>,
        verifier: &FireVerifier,
        fleet: &Fleet,
    ) {
        while let Some(sample) = samples.recv().await {
            self.take(&sample, verifier, fleet).await;
        }
    }

    /// Verifies the samples that have arrived, without waiting for more.
    pub(super) async fn finish(
        &mut self,
        samples: &mut mpsc::Receiver<Sample>,
        verifier: &FireVerifier,
        fleet: &Fleet,
    ) {
        while let Ok(sample) = samples.try_recv() {
            self.take(&sample, verifier, fleet).await;
        }
    }

    async fn take(&mut self, sample: &Sample, verifier: &FireVerifier, fleet: &Fleet) {
        match judge(sample, verifier, fleet).await {
            Ok(()) => self.good += 1,
            Err(why) => {
                self.bad += 1;
                self.first_fault.get_or_insert(why);
            }
        }
    }
}

async fn judge(sample: &Sample, verifier: &FireVerifier, fleet: &Fleet) -> Result<(), String> {
    let verify = async || {
        let token = sample.token.as_deref().ok_or(Unverified::Missing)?;
        let audience = fleet.agents.get(sample.agent).and_then(|agent| agent.audience.as_deref());
        let claims = verifier.verify(token, audience).await?;
        claims.check_fire(&sample.job_id, &sample.fire_at, sample.auth.as_ref())
    };
    verify().await.map_err(|why| why.to_string())?;
    let Sample { fire_at, expected_fire_at, .. } = sample;
    if fire_at == expected_fire_at {
        Ok(())
    } else {
        Err(format!("fire_at is {fire_at}, but {expected_fire_at} was provisioned"))
    }
}
