//! The reasons for which JSON is refused though its syntax is valid (docs/contract.md#json).

/// A part of JSON that two readers could read differently. The text is a sentence that repeats nothing of the JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// A known name occurs twice in the outermost object.
    #[error("a field occurs more than once")]
    RepeatedField,
    /// Any other name occurs twice in an object.
    #[error("a field occurs more than once")]
    RepeatedName,
    /// A name is a known one but for the case of its letters. Some readers ignore the case.
    #[error("the name differs in upper and lower case")]
    Case,
    /// A `\u` escape is half of a surrogate pair.
    #[error("a text has half of a surrogate pair")]
    Surrogate,
    /// A text contains U+0000, which ends texts for some readers.
    #[error("a text has a NUL character")]
    Nul,
    /// An integer lies beyond ±(2⁵³ − 1).
    #[error("an integer is beyond ±9007199254740991")]
    Integer,
    /// A number with a fraction or an exponent is not one of a double.
    #[error("a number has more digits or a larger exponent than a double")]
    Double,
    /// A number is zero with a minus.
    #[error("a number is negative zero")]
    NegativeZero,
    /// Objects and arrays are nested deeper than [`MAX_DEPTH`](super::MAX_DEPTH).
    #[error("it is nested deeper than 64 levels")]
    Depth,
    /// An array stands for an object.
    #[error("it is an array, not an object")]
    Array,
}

/// The error for JSON that two readers could read differently, with its position.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{problem} at line {line} column {column}")]
pub struct Unsound {
    /// The reason.
    pub problem: Problem,
    /// Name in the outermost object that contains it. The sender may have chosen it.
    pub field: Option<String>,
    /// Index in the array that is the field's value.
    pub index: Option<usize>,
    /// Line, from 1.
    pub line: usize,
    /// Column in bytes, from 1.
    pub column: usize,
}
