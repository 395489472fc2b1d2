//! The grammar of times on the wire (docs/contract.md#times).

use chrono::{DateTime, FixedOffset, NaiveDate, NaiveTime, TimeDelta, Utc};
use serde::{Deserialize, Deserializer, de};

/// Problem of a text that the grammar does not have.
const FORM: &str = "must be an ISO 8601 date-time with an offset, such as 2026-06-18T12:34:56+00:00";
/// Problem of an offset such as `+0200`, which the extended format does not have.
const COLON: &str = "must have a colon in its offset, such as 2026-06-18T12:34:56+00:00";
/// Problem of a text that fits the grammar.
const RANGE: &str = "must be a date and a time that exist: hours 00 to 23, minutes and seconds 00 to 59";

/// Parses an ISO 8601 date-time in the extended format, with two digits per field and an offset. The result has whole
/// microseconds: finer fractions are rounded up, so that nothing is early.
///
/// The error is the problem and the fix, as a phrase that follows the field's name.
pub fn parse(text: &str) -> Result<DateTime<FixedOffset>, &'static str> {
    let mut rest = Rest(text.as_bytes());
    let read = read(&mut rest).ok_or(FORM)?;
    match rest.0 {
        [] => read.to_date_time().ok_or(RANGE),
        [b'0'..=b'9', b'0'..=b'9'] if read.offset.is_some_and(|offset| offset.minutes.is_none()) => {
            Err(COLON)
        }
        _ => Err(FORM),
    }
}

/// Deserializes an optional time. Requires `#[serde(default)]` on the field.
pub fn optional<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<DateTime<Utc>>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    text.map(|text| parse(&text).map(|at| at.to_utc()).map_err(de::Error::custom)).transpose()
}

/// The fields of a date-time, in any range that their digits allow.
struct Read {
    date: [u32; 3],
    time: [u32; 3],
    micros: i64,
    /// `None` stands for `Z`.
    offset: Option<Offset>,
}

#[derive(Clone, Copy)]
struct Offset {
    is_negative: bool,
    hours: u32,
    minutes: Option<u32>,
}

/// Reads the longest prefix that fits the grammar.
fn read(rest: &mut Rest<'_>) -> Option<Read> {
    let year = rest.number(4)?;
    rest.one_of(b"-")?;
    let month = rest.number(2)?;
    rest.one_of(b"-")?;
    let day = rest.number(2)?;
    rest.one_of(b"Tt ")?;
    let hour = rest.number(2)?;
    rest.one_of(b":")?;
    let minute = rest.number(2)?;
    let (mut second, mut micros) = (0, 0);
    if rest.one_of(b":").is_some() {
        second = rest.number(2)?;
        if rest.one_of(b".,").is_some() {
            micros = rest.fraction()?;
        }
    }
    let offset = match rest.one_of(b"Zz+-")? {
        sign @ (b'+' | b'-') => {
            let hours = rest.number(2)?;
            let minutes = if rest.one_of(b":").is_some() { Some(rest.number(2)?) } else { None };
            Some(Offset { is_negative: sign == b'-', hours, minutes })
        }
        _ => None,
    };
    Some(Read { date: [year, month, day], time: [hour, minute, second], micros, offset })
}

impl Read {
    /// Returns `None` if a field is out of range.
    fn to_date_time(&self) -> Option<DateTime<FixedOffset>> {
        let ([year, month, day], [hour, minute, second]) = (self.date, self.time);
        let date = NaiveDate::from_ymd_opt(i32::try_from(year).ok()?, month, day)?;
        let local = date.and_time(NaiveTime::from_hms_opt(hour, minute, second)?);
        let seconds = self.offset.map_or(Some(0), Offset::seconds)?;
        let at = local.and_local_timezone(FixedOffset::east_opt(seconds)?).single()?;
        at.checked_add_signed(TimeDelta::microseconds(self.micros))
    }
}

impl Offset {
    fn seconds(self) -> Option<i32> {
        let minutes = self.minutes.unwrap_or_default();
        if self.hours > 23 || minutes > 59 {
            return None;
        }
        let seconds = i32::try_from((self.hours * 60 + minutes) * 60).ok()?;
        Some(if self.is_negative { -seconds } else { seconds })
    }
}

/// The bytes that are not read yet.
struct Rest<'a>(&'a [u8]);

impl Rest<'_> {
    /// Takes one byte, if it is one of these.
    fn one_of(&mut self, bytes: &[u8]) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        bytes.contains(first).then(|| {
            self.0 = rest;
            *first
        })
    }

    fn digit(&mut self) -> Option<u32> {
        self.one_of(b"0123456789").map(|digit| u32::from(digit - b'0'))
    }

    /// Takes exactly this many digits.
    fn number(&mut self, digits: usize) -> Option<u32> {
        (0..digits).try_fold(0, |number, _| Some(number * 10 + self.digit()?))
    }

    /// Takes one or more digits of a fraction of a second, and returns microseconds, rounded up.
    fn fraction(&mut self) -> Option<i64> {
        let mut micros = i64::from(self.digit()?) * 100_000;
        let (mut unit, mut is_finer) = (10_000, false);
        while let Some(digit) = self.digit() {
            micros += i64::from(digit) * unit;
            is_finer |= unit == 0 && digit != 0;
            unit /= 10;
        }
        Some(micros + i64::from(is_finer))
    }
}

#[cfg(test)]
mod tests;
