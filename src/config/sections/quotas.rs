//! Quotas of armed jobs.

use crate::config::reader::Reader;
use crate::config::setting::Preset;
use crate::config::typed_key::{Key, settings};
use crate::config::values;
use crate::domain::quota::DefaultQuotas;

settings! { Quotas:
    JOBS_PER_INSTANCE: Key<u32> = "jobs_per_instance", values::count::<u32>(1, 10_000_000),
        Preset::Value("10000"),
        "Maximum armed jobs of one agent instance. A new job beyond it is answered with 429; jobs that are known are always armed again.";
    JOBS_PER_ORG: Key<u32> = "jobs_per_org", values::count::<u32>(1, 100_000_000),
        Preset::Value("1000000"),
        "Maximum armed jobs of all agent instances of one org together.";
}

pub(in crate::config) fn read(reader: &mut Reader<'_>) -> DefaultQuotas {
    DefaultQuotas { instance: reader.value(&JOBS_PER_INSTANCE), org: reader.value(&JOBS_PER_ORG) }
}
