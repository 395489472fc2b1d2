//! Parses the shell blocks of a Markdown page and the comments that control how they run.

/// A page's shell blocks, in order.
#[derive(Debug, Default)]
pub struct Page {
    /// Names of the preludes in `tests/docs` that run before the first block, separated by commas.
    pub setup: Option<String>,
    pub blocks: Vec<Block>,
}

/// One ```` ```sh ```` block.
#[derive(Debug)]
pub struct Block {
    /// Line of the first command, from 1.
    pub line: usize,
    pub commands: Vec<String>,
    pub mode: Mode,
}

/// The way in which a block is executed.
#[derive(Debug, PartialEq)]
pub enum Mode {
    /// Every command runs to its end.
    Run,
    /// The last command does not end by itself: it is killed when the shell condition holds.
    Until(String),
    /// The block is not executed, for the reason given.
    Skip(String),
    /// An assertion or step that readers do not see.
    Hidden,
}

impl Page {
    /// Parses the page; fails with what is wrong and the line.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut page = Self::default();
        let mut next = Mode::Run;
        let mut hidden = false;
        let mut lines = text.lines().enumerate().map(|(index, line)| (index + 1, line));
        while let Some((number, line)) = lines.next() {
            let trimmed = line.trim_start();
            if let Some(comment) = trimmed.strip_prefix("<!-- ") {
                let (comment, closed) = match comment.strip_suffix("-->") {
                    Some(comment) => (comment.trim(), true),
                    None => (comment.trim(), false),
                };
                match (comment.split_once(": "), closed) {
                    (Some(("setup", name)), true) => page.setup = Some(name.to_owned()),
                    (Some(("not executed", reason)), true) => next = Mode::Skip(reason.to_owned()),
                    (Some(("until", condition)), true) => next = Mode::Until(condition.to_owned()),
                    (None, false) if comment == "hidden" => hidden = true,
                    (Some(("setup" | "not executed" | "until", _)), false) => {
                        return Err(format!("line {number}: the comment must end on its own line"));
                    }
                    _ if matches!(comment, "not executed" | "not executed:") => {
                        return Err(format!("line {number}: a block that is not executed needs a reason"));
                    }
                    _ => {}
                }
            } else if hidden && trimmed == "-->" {
                hidden = false;
            } else if let Some(language) = trimmed.strip_prefix("```") {
                let indentation = line.len() - trimmed.len();
                let mut block = Vec::new();
                loop {
                    let (_, line) = lines.next().ok_or(format!("line {number}: the block does not end"))?;
                    if line.trim() == "```" {
                        break;
                    }
                    block.push(line.get(indentation..).unwrap_or_default().to_owned());
                }
                let mode = std::mem::replace(&mut next, Mode::Run);
                match language.trim() {
                    "sh" if hidden && mode != Mode::Run => {
                        return Err(format!("line {number}: a hidden block always runs to its end"));
                    }
                    "sh" => page.blocks.push(Block {
                        line: number + 1,
                        commands: block,
                        mode: if hidden { Mode::Hidden } else { mode },
                    }),
                    "bash" | "shell" | "zsh" => {
                        return Err(format!("line {number}: use `sh` for commands, `console` for output"));
                    }
                    _ if mode != Mode::Run => {
                        return Err(format!(
                            "line {number}: a comment for a shell block precedes another block"
                        ));
                    }
                    _ => {}
                }
            } else if !trimmed.is_empty() && next != Mode::Run {
                return Err(format!("line {number}: the comment above must stand directly before its block"));
            }
        }
        Ok(page)
    }

    /// Returns the blocks that run.
    pub fn executed(&self) -> impl Iterator<Item = &Block> {
        self.blocks.iter().filter(|block| !matches!(block.mode, Mode::Skip(_)))
    }
}

#[test]
fn page_parser_reads_blocks_and_their_comments() {
    let page = "\
<!-- setup: service -->
```sh
one
```
<!-- not executed: needs two machines -->
```sh
two
```
<!-- until: test -s ran -->
  ```sh
  three
    tail -F ran
  ```
```json
{}
```
<!-- hidden
```sh
test -s ran
```
-->
```sh
four
```
";
    let page = Page::parse(page).unwrap();
    assert_eq!(page.setup.as_deref(), Some("service"));
    let blocks: Vec<_> =
        page.blocks.iter().map(|block| (block.line, block.commands.join("|"), &block.mode)).collect();
    let until = Mode::Until("test -s ran".to_owned());
    let skip = Mode::Skip("needs two machines".to_owned());
    let expected = [
        (3, "one".to_owned(), &Mode::Run),
        (7, "two".to_owned(), &skip),
        (11, "three|  tail -F ran".to_owned(), &until),
        (19, "test -s ran".to_owned(), &Mode::Hidden),
        (23, "four".to_owned(), &Mode::Run),
    ];
    assert_eq!(blocks, expected);
    assert_eq!(page.executed().count(), 4);
}

#[test]
fn page_parser_rejects_comments_without_effect() {
    for (page, problem) in [
        ("<!-- not executed: -->\n```sh\nx\n```\n", "needs a reason"),
        ("<!-- not executed -->\n```sh\nx\n```\n", "needs a reason"),
        ("<!-- not executed: slow -->\nText.\n```sh\nx\n```\n", "directly before"),
        ("<!-- until: true -->\n```json\n{}\n```\n", "another block"),
        ("<!-- until: true\n-->\n", "own line"),
        ("```bash\nx\n```\n", "use `sh`"),
        ("```sh\nx\n", "does not end"),
    ] {
        let error = Page::parse(page).unwrap_err();
        assert!(error.contains(problem), "{page}: {error}");
    }
}
