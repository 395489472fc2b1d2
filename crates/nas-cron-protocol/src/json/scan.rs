//! Scans JSON for what two readers could read differently, in one pass.

use std::borrow::Cow;
use std::ops::Range;

use super::names::{Names, equal_but_for_case};
use super::numbers;
use super::unsound::{Problem, Unsound};

/// Maximum nesting of objects and arrays, the outermost one included.
pub const MAX_DEPTH: usize = 64;

/// The reason for which a scan ended early.
#[derive(Debug)]
enum Stop {
    /// The text is not JSON.
    Syntax,
    /// Two readers could read it differently.
    Unsound(Problem),
}

type Scan<T = ()> = Result<T, Stop>;

/// Scans all of `text`. `known` are the names that the reader knows in the outermost object. The error is `None` if the
/// text is not JSON.
pub(super) fn scan(text: &str, known: &[&str]) -> Result<(), Option<Unsound>> {
    let mut scanner = Scanner { text, at: 0, depth: 0, known, field: None, index: None };
    scanner.document().map_err(|stop| match stop {
        Stop::Syntax => None,
        Stop::Unsound(problem) => Some(scanner.unsound(problem)),
    })
}

struct Scanner<'a, 'k> {
    text: &'a str,
    /// Position of the next byte.
    at: usize,
    depth: usize,
    known: &'k [&'k str],
    /// The name in the outermost object, with its quotes, whose value is being read.
    field: Option<Range<usize>>,
    /// The index in the array that is the value of `field`.
    index: Option<usize>,
}

impl<'a> Scanner<'a, '_> {
    fn document(&mut self) -> Scan {
        self.value()?;
        if self.peek().is_none() { Ok(()) } else { Err(Stop::Syntax) }
    }

    /// Returns the next byte that is not white space.
    fn peek(&mut self) -> Option<u8> {
        let rest = &self.text.as_bytes()[self.at..];
        self.at += rest.iter().take_while(|byte| b" \t\r\n".contains(byte)).count();
        self.text.as_bytes().get(self.at).copied()
    }

    /// Takes this byte, or returns false if the next one is another.
    fn takes(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn value(&mut self) -> Scan {
        match self.peek() {
            Some(b'{') => self.nested(Self::object),
            Some(b'[') => self.nested(Self::array),
            Some(b'"') => self.string().map(drop),
            Some(b'-' | b'0'..=b'9') => self.number(),
            _ => ["true", "false", "null"].into_iter().find_map(|word| self.word(word)).ok_or(Stop::Syntax),
        }
    }

    fn word(&mut self, word: &str) -> Option<()> {
        self.text[self.at..].starts_with(word).then(|| self.at += word.len())
    }

    fn nested(&mut self, read: impl FnOnce(&mut Self) -> Scan) -> Scan {
        if self.depth == MAX_DEPTH {
            return Err(Stop::Unsound(Problem::Depth));
        }
        self.at += 1;
        self.depth += 1;
        read(self)?;
        self.depth -= 1;
        Ok(())
    }

    fn object(&mut self) -> Scan {
        if self.takes(b'}') {
            return Ok(());
        }
        let mut names = Names::new();
        loop {
            if self.peek() != Some(b'"') {
                return Err(Stop::Syntax);
            }
            let start = self.at;
            if self.depth == 1 {
                self.field = None;
            }
            let name = self.string()?;
            if self.depth == 1 {
                self.field = Some(start..self.at);
                self.check_field(&name)?;
            }
            let is_known = self.depth == 1 && self.known.contains(&name.as_ref());
            if !names.insert(name) {
                let problem = if is_known { Problem::RepeatedField } else { Problem::RepeatedName };
                return Err(Stop::Unsound(problem));
            }
            if !self.takes(b':') {
                return Err(Stop::Syntax);
            }
            self.value()?;
            if self.takes(b'}') {
                return Ok(());
            }
            if !self.takes(b',') {
                return Err(Stop::Syntax);
            }
        }
    }

    /// Checks that a name of the outermost object is not almost a known one.
    fn check_field(&self, name: &str) -> Scan {
        if self.known.iter().any(|known| equal_but_for_case(known, name)) {
            return Err(Stop::Unsound(Problem::Case));
        }
        Ok(())
    }

    fn array(&mut self) -> Scan {
        if self.takes(b']') {
            return Ok(());
        }
        let is_field = self.depth == 2 && self.field.is_some();
        for index in 0.. {
            if is_field {
                self.index = Some(index);
            }
            self.value()?;
            if self.takes(b']') {
                break;
            }
            if !self.takes(b',') {
                return Err(Stop::Syntax);
            }
        }
        if is_field {
            self.index = None;
        }
        Ok(())
    }

    /// Reads a string. The result has no escapes.
    fn string(&mut self) -> Scan<Cow<'a, str>> {
        let start = self.at;
        self.at += 1;
        let mut has_escapes = false;
        loop {
            let rest = &self.text.as_bytes()[self.at..];
            self.at += rest.iter().take_while(|byte| !matches!(byte, b'"' | b'\\' | 0..=0x1f)).count();
            match self.text.as_bytes().get(self.at) {
                Some(b'"') => break,
                Some(b'\\') => self.escape()?,
                _ => return Err(Stop::Syntax),
            }
            has_escapes = true;
        }
        self.at += 1;
        let quoted = &self.text[start..self.at];
        if has_escapes {
            // Valid: every escape was checked.
            return serde_json::from_str(quoted).map(Cow::Owned).map_err(|_| Stop::Syntax);
        }
        Ok(Cow::Borrowed(&quoted[1..quoted.len() - 1]))
    }

    fn escape(&mut self) -> Scan {
        let Some(kind) = self.text.as_bytes().get(self.at + 1) else { return Err(Stop::Syntax) };
        if *kind != b'u' {
            self.at += 2;
            return if br#""\/bfnrt"#.contains(kind) { Ok(()) } else { Err(Stop::Syntax) };
        }
        let unit = self.unit(self.at).ok_or(Stop::Syntax)?;
        match unit {
            0 => Err(Stop::Unsound(Problem::Nul)),
            0xD800..=0xDBFF => {
                let low = self.unit(self.at + 6).is_some_and(|unit| (0xDC00..=0xDFFF).contains(&unit));
                self.at += 12;
                if low { Ok(()) } else { Err(Stop::Unsound(Problem::Surrogate)) }
            }
            0xDC00..=0xDFFF => Err(Stop::Unsound(Problem::Surrogate)),
            _ => {
                self.at += 6;
                Ok(())
            }
        }
    }

    /// Returns the UTF-16 code unit of the escape `\uXXXX` at a position.
    fn unit(&self, at: usize) -> Option<u16> {
        let escape = self.text.as_bytes().get(at..at + 6)?;
        let digits = escape.strip_prefix(br"\u")?;
        digits.iter().try_fold(0, |unit, digit| {
            let digit = char::from(*digit).to_digit(16)?;
            Some(unit << 4 | u16::try_from(digit).ok()?)
        })
    }

    fn number(&mut self) -> Scan {
        let start = self.at;
        self.at += usize::from(self.text.as_bytes()[start] == b'-');
        let integer = self.digits()?;
        if integer.len() > 1 && integer.starts_with('0') {
            return Err(Stop::Syntax);
        }
        if self.is_at(b".") {
            self.at += 1;
            self.digits()?;
        }
        if self.is_at(b"eE") {
            self.at += 1;
            self.at += usize::from(self.is_at(b"+-"));
            self.digits()?;
        }
        numbers::check(&self.text[start..self.at]).map_err(Stop::Unsound)
    }

    fn is_at(&self, bytes: &[u8]) -> bool {
        self.text.as_bytes().get(self.at).is_some_and(|byte| bytes.contains(byte))
    }

    /// Reads one or more digits.
    fn digits(&mut self) -> Scan<&'a str> {
        let start = self.at;
        let rest = &self.text.as_bytes()[start..];
        self.at += rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        if self.at == start { Err(Stop::Syntax) } else { Ok(&self.text[start..self.at]) }
    }

    fn unsound(&self, problem: Problem) -> Unsound {
        let before = &self.text.as_bytes()[..self.at.min(self.text.len())];
        let line_start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let name: Option<String> =
            self.field.clone().and_then(|field| serde_json::from_str(&self.text[field]).ok());
        Unsound {
            problem,
            // A name in the wrong case is reported as the known one.
            field: name.map(|name| {
                let known = self.known.iter().find(|known| equal_but_for_case(known, &name));
                known.map_or(name, |known| (*known).to_owned())
            }),
            index: self.index,
            line: before.split(|byte| *byte == b'\n').count(),
            column: before.len() - line_start + 1,
        }
    }
}
