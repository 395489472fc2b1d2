//! Caught panics.

use metrics::{counter, describe_counter};

const PANICS: &str = "nas_cron_panics_total";

pub(super) fn describe() {
    describe_counter!(PANICS, "Caught panics, by place: http, fire, background");
    for place in [PanicPlace::Http, PanicPlace::Fire, PanicPlace::Background] {
        counter!(PANICS, "place" => place.as_str()).increment(0);
    }
}

/// Place at which a panic was caught.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PanicPlace {
    /// The handler of a request.
    Http,
    /// A delivery attempt.
    Fire,
    /// A background loop or sweep.
    Background,
}

impl PanicPlace {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Fire => "fire",
            Self::Background => "background",
        }
    }
}

/// Records a caught panic.
pub fn panicked(place: PanicPlace) {
    counter!(PANICS, "place" => place.as_str()).increment(1);
}
