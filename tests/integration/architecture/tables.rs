//! Tables of Markdown pages, as rows of cells.

/// Returns the rows of the first table below `heading`, without its header. Panics if no table is found.
pub(crate) fn below(page: &str, heading: &str) -> Vec<Vec<String>> {
    let after = page.lines().skip_while(|line| line.trim() != heading).skip(1);
    let section = after.take_while(|line| !line.starts_with('#'));
    let lines = section.skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|'));
    let rows: Vec<_> = lines.skip(2).map(cells).collect();
    assert!(!rows.is_empty(), "no table below {heading:?}");
    rows
}

fn cells(line: &str) -> Vec<String> {
    line.trim().trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect()
}

/// Returns what stands between backticks in a cell.
pub(super) fn names(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}
