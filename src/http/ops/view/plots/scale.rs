//! Scales: from values to heights and labels.

/// Height of the drawing, in its own units.
pub(super) const HEIGHT: f64 = 100.0;

/// A scale whose height is found from a value.
pub(super) trait Scale {
    /// Returns the distance from the top, between 0 and [`HEIGHT`].
    fn y(&self, value: f64) -> f64;
}

/// From 0 to a round number.
pub(super) struct Linear {
    top: i64,
}

impl Linear {
    /// Returns the scale up to the next number with one round digit: 1, 2 or 5 times a power of ten.
    pub(super) fn up_to(most: i64) -> Self {
        let mut top = 2;
        while top < most {
            top = match leading_digit(top) {
                2 => top / 2 * 5,
                _ => top * 2,
            };
        }
        Self { top }
    }

    /// Returns the labels from the top to the bottom, at equal distances.
    pub(super) fn labels(&self) -> Vec<String> {
        // Half of 5 is not a whole number.
        if self.top == 5 {
            return vec![number(5), number(0)];
        }
        vec![number(self.top), number(self.top / 2), number(0)]
    }
}

impl Scale for Linear {
    fn y(&self, value: f64) -> f64 {
        HEIGHT * (1.0 - value / as_f64(self.top))
    }
}

fn leading_digit(mut number: i64) -> i64 {
    while number >= 10 {
        number /= 10;
    }
    number
}

/// From one power of ten to another.
pub(super) struct Logarithmic {
    bottom: i32,
    top: i32,
}

impl Logarithmic {
    /// Returns the scale over the powers of ten that enclose these values.
    #[expect(clippy::cast_possible_truncation, reason = "a logarithm is small")]
    pub(super) fn over(least: f64, most: f64) -> Self {
        let bottom = least.max(1e-3).log10().floor() as i32;
        let top = most.max(1e-3).log10().ceil() as i32;
        Self { bottom, top: top.max(bottom + 1) }
    }

    /// Returns the labels from the top to the bottom, at equal distances: one for each power of ten, in milliseconds.
    pub(super) fn labels(&self) -> Vec<String> {
        (self.bottom..=self.top).rev().map(|power| lateness(10_f64.powi(power))).collect()
    }
}

impl Scale for Logarithmic {
    fn y(&self, value: f64) -> f64 {
        let share = (value.max(1e-3).log10() - f64::from(self.bottom)) / f64::from(self.top - self.bottom);
        HEIGHT * (1.0 - share.clamp(0.0, 1.0))
    }
}

/// Formats milliseconds with two digits: "0.85 ms", "12 ms", "3.4 s".
pub(super) fn lateness(milliseconds: f64) -> String {
    let (value, unit) = if milliseconds < 1e3 { (milliseconds, "ms") } else { (milliseconds / 1e3, "s") };
    let digits = if value < 1.0 { 2 } else { usize::from(value < 10.0) };
    let text = format!("{value:.digits$}");
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text} {unit}")
}

/// Formats a number with separators between thousands.
pub(in crate::http::ops) fn number(number: i64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
pub(super) fn as_f64(count: i64) -> f64 {
    count as f64
}
