//! Panics that were caught.

use metrics::{counter, describe_counter};

const PANICS: &str = "nas_cron_panics_total";

pub(super) fn describe() {
    describe_counter!(PANICS, "Panics that were caught, by place");
    for place in [PanicPlace::Http, PanicPlace::Fire, PanicPlace::Background] {
        counter!(PANICS, "place" => place.as_str()).increment(0);
    }
}

/// Where a panic was caught.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PanicPlace {
    /// In the handler of a request.
    Http,
    /// In an attempt.
    Fire,
    /// In a loop or a sweep.
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

/// A panic was caught.
pub fn panicked(place: PanicPlace) {
    counter!(PANICS, "place" => place.as_str()).increment(1);
}
