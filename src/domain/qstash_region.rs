//! Regions of QStash: each has its own accounts, tokens and signing keys.

use nas_cron_protocol::words;

words!(
    /// A region of QStash.
    pub enum QstashRegion {
        /// Europe.
        EuCentral1 = "eu-central-1",
        /// United States.
        UsEast1 = "us-east-1",
    }
);

impl QstashRegion {
    /// Returns the region of a delivery by its `Upstash-Region` header. As in the official SDK, case and the kind of the
    /// separators do not count; `None` for any other text.
    pub fn of_header(text: &str) -> Option<Self> {
        text.to_ascii_lowercase().replace('_', "-").parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_is_read_as_the_official_sdk_reads_it() {
        for text in ["us-east-1", "US-EAST-1", "US_EAST_1", "us_East-1"] {
            assert_eq!(QstashRegion::of_header(text), Some(QstashRegion::UsEast1), "{text}");
        }
        for text in ["", " us-east-1", "us-east-2", "us-east-1, us-east-1", "EU"] {
            assert_eq!(QstashRegion::of_header(text), None, "{text}");
        }
    }
}
