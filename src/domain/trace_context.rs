//! The place of a span in a distributed trace, in the forms of W3C Trace Context.

use std::fmt;

use uuid::Uuid;

/// Flag of the header: the caller may have recorded the span.
const SAMPLED: u8 = 1;

/// A span and its trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceContext {
    /// Id of the trace.
    pub trace_id: u128,
    /// Id of the span.
    pub span_id: u64,
    /// True if the trace is recorded.
    pub sampled: bool,
}

impl TraceContext {
    /// Parses a `traceparent` header (W3C Trace Context, section 3.2). `None` if it is invalid, which means that there is
    /// none.
    pub fn parse(header: &str) -> Option<Self> {
        let mut parts = header.split('-');
        let [version, trace_id, span_id, flags] =
            [parts.next()?, parts.next()?, parts.next()?, parts.next()?];
        let version = u8::try_from(lower_hex(version, 2)?).ok()?;
        // A later version may add parts; the first one has exactly these.
        if version == 0xff || (version == 0 && parts.next().is_some()) {
            return None;
        }
        let context = Self {
            trace_id: lower_hex(trace_id, 32)?,
            span_id: u64::try_from(lower_hex(span_id, 16)?).ok()?,
            sampled: u8::try_from(lower_hex(flags, 2)?).ok()? & SAMPLED != 0,
        };
        (context.trace_id != 0 && context.span_id != 0).then_some(context)
    }

    /// Returns the span of a delivery attempt. Its trace has the attempt's id, so that nothing else has to be stored to
    /// find it again: neither for a link from its retry, nor by whoever reads the history.
    pub const fn of_attempt(attempt_id: Uuid, sampled: bool) -> Self {
        let (span_id, _) = attempt_id.as_u64_pair();
        Self { trace_id: attempt_id.as_u128(), span_id, sampled }
    }

    /// Returns the span of an attempt's request to the agent, a child of the attempt's.
    pub const fn of_callback(attempt_id: Uuid, sampled: bool) -> Self {
        let (_, span_id) = attempt_id.as_u64_pair();
        Self { span_id, ..Self::of_attempt(attempt_id, sampled) }
    }

    /// Returns the ids for storing them. Only recorded spans are stored.
    pub fn to_bytes(self) -> [u8; 24] {
        let mut bytes = [0; 24];
        bytes[..16].copy_from_slice(&self.trace_id.to_be_bytes());
        bytes[16..].copy_from_slice(&self.span_id.to_be_bytes());
        bytes
    }

    /// Reads what [`Self::to_bytes`] returned.
    pub fn stored(bytes: &[u8]) -> Option<Self> {
        let (trace_id, span_id) = bytes.split_first_chunk()?;
        let span_id = u64::from_be_bytes(span_id.try_into().ok()?);
        Some(Self { trace_id: u128::from_be_bytes(*trace_id), span_id, sampled: true })
    }
}

/// Formats the `traceparent` header.
impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace_id, self.span_id, u8::from(self.sampled))
    }
}

/// Parses hex digits, which the standard wants in lower case.
fn lower_hex(text: &str, digits: usize) -> Option<u128> {
    let is_valid = text.len() == digits && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    if is_valid { u128::from_str_radix(text, 16).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HEADER: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn traceparent_is_read_and_written() {
        let context = TraceContext::parse(HEADER).unwrap();
        assert_eq!(context.trace_id, 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736);
        assert_eq!((context.span_id, context.sampled), (0x00f0_67aa_0ba9_02b7, true));
        assert_eq!(context.to_string(), HEADER);
        assert_eq!(TraceContext::stored(&context.to_bytes()), Some(context));
        let later = "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-08-what-comes";
        assert_eq!(TraceContext::parse(later).map(|context| context.sampled), Some(false));
    }

    #[test]
    fn invalid_traceparent_counts_as_none() {
        for invalid in [
            "",
            "00",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-1",
            "00-+bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ] {
            assert_eq!(TraceContext::parse(invalid), None, "{invalid:?}");
        }
    }

    #[test]
    fn attempt_has_the_trace_of_its_id() {
        let attempt_id = Uuid::parse_str("7f3f0c5e-0d5a-4f0a-9d1a-3f8f5f0c5e0d").unwrap();
        let context = TraceContext::of_attempt(attempt_id, false);
        assert_eq!(context.to_string(), "00-7f3f0c5e0d5a4f0a9d1a3f8f5f0c5e0d-7f3f0c5e0d5a4f0a-00");
        let callback = TraceContext::of_callback(attempt_id, true);
        assert_eq!(callback.to_string(), "00-7f3f0c5e0d5a4f0a9d1a3f8f5f0c5e0d-9d1a3f8f5f0c5e0d-01");
    }

    proptest! {
        #[test]
        fn nothing_panics(text in ".{0,80}", bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let _ = (TraceContext::parse(&text), TraceContext::stored(&bytes));
        }
    }
}
