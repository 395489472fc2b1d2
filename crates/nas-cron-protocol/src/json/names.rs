//! The names of one object, to find one that occurs twice.

use std::borrow::Cow;
use std::collections::HashSet;

/// Number of names that are compared one by one, without an allocation.
const FEW: usize = 16;

/// The names of an object so far. Linear also for many names, because the sender chooses their number.
pub(super) struct Names<'a> {
    few: [&'a str; FEW],
    filled: usize,
    more: HashSet<Cow<'a, str>>,
}

impl<'a> Names<'a> {
    pub(super) fn new() -> Self {
        Self { few: [""; FEW], filled: 0, more: HashSet::new() }
    }

    /// Adds a name. Returns false if it is there already.
    pub(super) fn insert(&mut self, name: Cow<'a, str>) -> bool {
        if self.few[..self.filled].contains(&name.as_ref()) {
            return false;
        }
        match name {
            Cow::Borrowed(name) if self.filled < FEW && self.more.is_empty() => {
                self.few[self.filled] = name;
                self.filled += 1;
                true
            }
            name => self.more.insert(name),
        }
    }
}

/// True if the names are equal for readers that ignore the case of letters.
pub(super) fn equal_but_for_case(one: &str, other: &str) -> bool {
    // Two other characters have the lower case of an ASCII letter.
    let folded = |c: char| match c {
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        c => c.to_ascii_lowercase(),
    };
    one != other && one.chars().map(folded).eq(other.chars().map(folded))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn second_of_two_equal_names_is_found_among_few_and_many() {
        for count in [0, 1, 15, 16, 17, 1_000] {
            let texts: Vec<String> = (0..count).map(|number| format!("n{number}")).collect();
            let mut names = Names::new();
            assert!(names.insert(Cow::Owned("owned".to_owned())) && !names.insert(Cow::Borrowed("owned")));
            for text in &texts {
                assert!(names.insert(Cow::Borrowed(text)), "{text}");
            }
            for text in &texts {
                assert!(!names.insert(Cow::Owned(text.clone())), "{text}");
            }
        }
    }

    #[test]
    fn case_of_letters_is_ignored() {
        for other in ["KIDS", "Kids", "\u{212a}ids", "kid\u{17f}"] {
            assert!(equal_but_for_case("kids", other), "{other}");
        }
        for other in ["kids", "kid", "kíds", "kids "] {
            assert!(!equal_but_for_case("kids", other), "{other}");
        }
    }
}
