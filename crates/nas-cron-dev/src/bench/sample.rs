//! Verifies the sample of fires that the sink puts aside.

use tokio::sync::mpsc;

use super::fleet::Fleet;
use super::sink::Sample;
use crate::dev::fire_verifier::FireVerifier;
use crate::dev::fire_verifier::Unverified;

/// What came of the sample.
#[derive(Debug, Default)]
pub(super) struct Verified {
    /// As they must be.
    pub(super) good: usize,
    /// Not.
    pub(super) bad: usize,
    /// Why the first one was not.
    pub(super) first_fault: Option<String>,
}

impl Verified {
    /// Takes samples while they come. Cancel-safe: what was counted stays.
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

    /// Takes what has come, and does not wait for more.
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
        claims.check_fire(&sample.job_id, &sample.fire_at, sample.auth.as_deref())
    };
    verify().await.map_err(|why| why.to_string())?;
    let Sample { fire_at, expected_fire_at, .. } = sample;
    if fire_at == expected_fire_at {
        Ok(())
    } else {
        Err(format!("fire_at is {fire_at}, and {expected_fire_at} was provisioned"))
    }
}
