//! Imports: reads a file line by line with a progress bar, and reports the result of every line.

mod report;

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use nas_cron_base::terminal;
use nas_cron_protocol::Fields;
use serde_json::{Map, Value};

pub(super) use self::report::{Remark, Report, broke_off};

/// Maximum rows per statement.
pub(super) const BATCH: usize = 1_000;
/// Maximum length of a JSON line, in bytes.
const MAX_LINE: u64 = 64 * 1024;

/// Format of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Format {
    /// JSON Lines: one object per line.
    Jsonl,
    /// CSV: the first line names the columns.
    Csv,
}

/// Fields of a file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Columns {
    /// All known names.
    pub(super) known: &'static [&'static str],
    /// Names that a CSV header must contain.
    pub(super) required: &'static [&'static str],
    /// Names of Boolean fields.
    pub(super) flags: &'static [&'static str],
}

/// One line of a file.
#[derive(Debug)]
pub(super) struct Line {
    /// Line number, from 1.
    pub(super) number: u64,
    /// Fields of the line, or the problem with it.
    pub(super) fields: Result<Fields, String>,
}

/// A file under import.
pub(super) struct Lines {
    reader: Source,
    columns: Columns,
    bar: ProgressBar,
}

enum Source {
    Jsonl { input: Box<dyn BufRead>, number: u64 },
    Csv { input: Box<csv::Reader<Box<dyn BufRead>>>, header: Vec<String> },
}

impl Lines {
    /// Opens a file, or stdin for `-`. The progress bar is drawn on stderr, and only if it is a terminal.
    pub(super) fn open(path: &Path, format: Option<Format>, columns: Columns) -> anyhow::Result<Self> {
        if path == Path::new("-") {
            let style = ProgressStyle::with_template("{spinner} {bytes} read, {bytes_per_sec}");
            let bar = ProgressBar::new_spinner().with_style(style?);
            return Self::new(bar.wrap_read(io::stdin()), format, columns, bar);
        }
        let file = File::open(path).map_err(|error| {
            anyhow!("opening {} failed: {error}; check the path and its permissions", path.display())
        })?;
        let bytes = file.metadata()?.len();
        let style = ProgressStyle::with_template("{bar:40} {bytes} of {total_bytes}, {eta} left");
        let bar = ProgressBar::new(bytes).with_style(style?);
        Self::new(bar.wrap_read(file), format.or_else(|| by_extension(path)), columns, bar)
            .with_context(|| format!("importing {} failed", path.display()))
    }

    /// Reads `input` in this format, or in the one that its first character shows.
    pub(super) fn new(
        input: impl Read + 'static,
        format: Option<Format>,
        columns: Columns,
        bar: ProgressBar,
    ) -> anyhow::Result<Self> {
        let mut input: Box<dyn BufRead> = Box::new(BufReader::with_capacity(1 << 16, input));
        if input.fill_buf()?.starts_with(b"\xef\xbb\xbf") {
            // A byte order mark, as spreadsheets write it.
            input.consume(3);
        }
        let format = match format {
            Some(format) => format,
            None => by_content(&mut input)?,
        };
        let reader = match format {
            Format::Jsonl => Source::Jsonl { input, number: 0 },
            Format::Csv => {
                let mut input =
                    csv::ReaderBuilder::new().flexible(true).trim(csv::Trim::Headers).from_reader(input);
                let header = input.headers().context("reading the header failed")?;
                let header: Vec<String> = header.iter().map(str::to_owned).collect();
                check_header(&header, &columns)?;
                Source::Csv { input: Box::new(input), header }
            }
        };
        Ok(Self { reader, columns, bar })
    }

    /// Returns the next line that is not blank, or `None` at the end.
    pub(super) fn next(&mut self) -> anyhow::Result<Option<Line>> {
        match &mut self.reader {
            Source::Jsonl { input, number } => next_json(input, number),
            Source::Csv { input, header } => next_record(input, header, &self.columns),
        }
        .context("reading the file failed")
    }

    /// Removes the progress bar. Call it before printing.
    pub(super) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

fn by_extension(path: &Path) -> Option<Format> {
    match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
        "csv" => Some(Format::Csv),
        "jsonl" | "ndjson" | "json" => Some(Format::Jsonl),
        _ => None,
    }
}

fn by_content(input: &mut dyn BufRead) -> anyhow::Result<Format> {
    loop {
        let buffer = input.fill_buf()?;
        let Some(&first) = buffer.first() else { return Ok(Format::Jsonl) };
        match first {
            b'{' => return Ok(Format::Jsonl),
            b'[' => bail!(
                "the file is one JSON array, but JSON Lines has one object per line; convert it with: jq -c '.[]'"
            ),
            // Leading blank lines are allowed, and not counted.
            b' ' | b'\t' | b'\r' | b'\n' => input.consume(1),
            _ => return Ok(Format::Csv),
        }
    }
}

fn check_header(header: &[String], columns: &Columns) -> anyhow::Result<()> {
    let known = columns.known.join(",");
    let found = terminal::shortened(&terminal::printable(&header.join(",")), 80);
    if let Some(missing) = columns.required.iter().find(|name| !header.iter().any(|h| h == *name)) {
        bail!(
            "column {missing} is missing in the header `{found}`: the first line of a CSV must name its columns, separated by \
             commas; known columns are {known}"
        );
    }
    for (index, name) in header.iter().enumerate() {
        let shown = terminal::printable(name);
        ensure!(
            columns.known.contains(&name.as_str()),
            "unknown column `{shown}`; known columns are {known}"
        );
        ensure!(!header[..index].contains(name), "duplicate column `{shown}`");
    }
    Ok(())
}

fn next_json(input: &mut dyn BufRead, number: &mut u64) -> anyhow::Result<Option<Line>> {
    loop {
        let mut line = Vec::new();
        if Read::take(&mut *input, MAX_LINE).read_until(b'\n', &mut line)? == 0 {
            return Ok(None);
        }
        *number += 1;
        if line.len() as u64 == MAX_LINE && line.last() != Some(&b'\n') {
            skip_line(input)?;
            let fields = Err(format!("longer than {MAX_LINE} bytes"));
            return Ok(Some(Line { number: *number, fields }));
        }
        let line = line.trim_ascii();
        if !line.is_empty() {
            let fields = Fields::parse(line).map_err(|error| error.to_string());
            return Ok(Some(Line { number: *number, fields }));
        }
    }
}

fn skip_line(input: &mut dyn BufRead) -> io::Result<()> {
    loop {
        let buffer = input.fill_buf()?;
        if buffer.is_empty() {
            return Ok(());
        }
        let end = buffer.iter().position(|&byte| byte == b'\n');
        let skipped = end.map_or(buffer.len(), |end| end + 1);
        input.consume(skipped);
        if end.is_some() {
            return Ok(());
        }
    }
}

fn next_record(
    input: &mut csv::Reader<Box<dyn BufRead>>,
    header: &[String],
    columns: &Columns,
) -> anyhow::Result<Option<Line>> {
    let mut record = csv::ByteRecord::new();
    if !input.read_byte_record(&mut record)? {
        return Ok(None);
    }
    let number = record.position().map_or(0, csv::Position::line);
    Ok(Some(Line { number, fields: cells(&record, header, columns) }))
}

/// Returns the fields of a CSV line. An empty cell is an absent field. Texts are not trimmed, as in the other formats.
fn cells(record: &csv::ByteRecord, header: &[String], columns: &Columns) -> Result<Fields, String> {
    if record.len() != header.len() {
        return Err(format!("the header has {} columns, this line has {}", header.len(), record.len()));
    }
    let mut fields = Map::new();
    for (name, cell) in header.iter().zip(record) {
        let cell = std::str::from_utf8(cell).map_err(|_| format!("{name}: must be UTF-8"))?;
        if cell.is_empty() {
            continue;
        }
        let value = if columns.flags.contains(&name.as_str()) {
            match cell.trim().to_ascii_lowercase().as_str() {
                "true" | "yes" | "1" => Value::Bool(true),
                "false" | "no" | "0" => Value::Bool(false),
                _ => return Err(format!("{name}: must be true or false")),
            }
        } else {
            Value::String(cell.to_owned())
        };
        fields.insert(name.clone(), value);
    }
    Ok(Fields::from_map(fields))
}

/// Arguments of all imports.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct ImportArgs {
    /// File to import; `-` reads stdin.
    pub(super) file: PathBuf,
    /// Format of the file [default: recognised by its name or content].
    #[arg(long, value_enum)]
    pub(super) format: Option<Format>,
    /// Check all lines, also against the database, without changing anything.
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Print JSON: the counts, and each invalid line as {"line", "problem"}.
    #[arg(long)]
    pub(super) json: bool,
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;

    const COLUMNS: Columns = Columns { known: &["a", "b", "on"], required: &["a"], flags: &["on"] };

    fn open(content: &'static [u8], format: Option<Format>) -> anyhow::Result<Lines> {
        Lines::new(content, format, COLUMNS, ProgressBar::hidden())
    }

    fn all(content: &'static [u8]) -> String {
        let mut lines = open(content, None).unwrap();
        let mut text = String::new();
        while let Some(Line { number, fields }) = lines.next().unwrap() {
            let read = fields.and_then(|mut fields| {
                let a = fields.text("a").map_err(|error| error.to_string())?;
                let on = fields.flag("on").map_err(|error| error.to_string())?;
                fields.finish(COLUMNS.known).map_err(|error| error.to_string())?;
                Ok((a, on))
            });
            writeln!(text, "{number} {read:?}").unwrap();
        }
        text
    }

    #[test]
    fn json_lines_are_recognised_by_their_first_character() {
        insta::assert_snapshot!(
            all(b"\xef\xbb\xbf{\"a\":\"x\"}\r\n\n  {\"a\":\"y\",\"on\":false}  \n{\"a\":7}\nnonsense\n{\"c\":1}\n\xff\n{\"a\":\"last\"}"),
            @r#"
            1 Ok((Some("x"), None))
            3 Ok((Some("y"), Some(false)))
            4 Err("a: must be a string, not a number")
            5 Err("not a JSON object: expected ident at column 2")
            6 Err("c: unknown field; known are a, b, on")
            7 Err("not a JSON object: expected value at column 1")
            8 Ok((Some("last"), None))
            "#
        );
        assert_eq!(all(b""), "");
    }

    #[test]
    fn other_content_is_read_as_csv() {
        insta::assert_snapshot!(
            all(b"a,on\nx,yes\n\"y,\"\"z\",\n w , 0 \nx\nx,maybe\n\n\xff,1\n,true\n"),
            @r#"
            2 Ok((Some("x"), Some(true)))
            3 Ok((Some("y,\"z"), None))
            4 Ok((Some(" w "), Some(false)))
            5 Err("the header has 2 columns, this line has 1")
            6 Err("on: must be true or false")
            7 Err("a: must be UTF-8")
            9 Ok((None, Some(true)))
        "#
        );
    }

    #[test]
    fn overlong_line_is_one_invalid_line() {
        let mut content = vec![b'x'; 200_000];
        content.splice(..0, *b"{\"a\":\"");
        content.extend_from_slice(b"\n{\"a\":\"after\"}\n");
        let mut lines = open(content.leak(), None).unwrap();
        assert!(lines.next().unwrap().unwrap().fields.unwrap_err().contains("longer than 65536 bytes"));
        let after = lines.next().unwrap().unwrap();
        assert_eq!(
            (after.number, after.fields.unwrap().text("a").unwrap().unwrap()),
            (2, "after".to_owned())
        );
        assert!(lines.next().unwrap().is_none());
    }

    #[test]
    fn malformed_file_is_rejected_as_a_whole() {
        let refused = |content| open(content, None).err().map(|error| error.to_string()).unwrap();
        insta::assert_snapshot!(refused(b"[{}]"), @"the file is one JSON array, but JSON Lines has one object per line; convert it with: jq -c '.[]'");
        insta::assert_snapshot!(refused(b"x,1\n"), @"column a is missing in the header `x,1`: the first line of a CSV must name its columns, separated by commas; known columns are a,b,on");
        insta::assert_snapshot!(refused(b"a;b\n1;2\n"), @"column a is missing in the header `a;b`: the first line of a CSV must name its columns, separated by commas; known columns are a,b,on");
        insta::assert_snapshot!(refused(b"a,c\n1,2\n"), @"unknown column `c`; known columns are a,b,on");
        insta::assert_snapshot!(refused(b"a,a\n1,2\n"), @"duplicate column `a`");
    }
}
