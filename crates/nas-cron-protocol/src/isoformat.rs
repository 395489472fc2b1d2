//! Formats instants as real agents do.

use chrono::{DateTime, FixedOffset, Utc};

/// Formats an instant like Python's `datetime.isoformat()`: with a numeric offset, never `Z`, and with six fraction
/// digits, or none if they are zero. Nanoseconds are cut off.
pub fn isoformat(instant: DateTime<Utc>, offset: FixedOffset) -> String {
    let form = if instant.timestamp_subsec_micros() == 0 {
        "%Y-%m-%dT%H:%M:%S%:z"
    } else {
        "%Y-%m-%dT%H:%M:%S%.6f%:z"
    };
    instant.with_timezone(&offset).format(form).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn client_1_as_python_writes_it() {
        let utc = FixedOffset::east_opt(0).unwrap();
        let india = FixedOffset::east_opt(19_800).unwrap();
        let whole = DateTime::from_timestamp(1_781_786_096, 0).unwrap();
        let fine = DateTime::from_timestamp(1_781_786_096, 120_000_000).unwrap();
        assert_eq!(isoformat(whole, utc), "2026-06-18T12:34:56+00:00");
        assert_eq!(isoformat(fine, utc), "2026-06-18T12:34:56.120000+00:00");
        assert_eq!(isoformat(fine, india), "2026-06-18T18:04:56.120000+05:30");
    }
}
