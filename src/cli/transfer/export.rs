//! `nas-cron export`.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use nas_cron_base::terminal::counted;

use crate::audit::Act;
use crate::cli::audited::Audited;
use crate::db::Db;
use crate::db::transfer::Snapshot;
use crate::domain::transfer::ExportPart;

/// Lines of one statement.
const PAGE: i64 = 1_000;

/// Export agents, logins, auth profiles and one-shots as JSON Lines.
///
/// The export is a view of one moment, also while the service runs. It contains no secret, and neither the history nor
/// signing keys, admin tokens, webhooks, holds and quotas: a dump of the database has them. Delivered one-shots are left out.
/// A file is complete when it exists; until then, its name ends with `.partial`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  nas-cron export state.jsonl
  nas-cron export - | zstd > state.jsonl.zst
  nas-cron hold --all --reason move && nas-cron export - | ssh new-host nas-cron import -")]
pub struct ExportArgs {
    /// File that is written; `-` writes stdout.
    file: PathBuf,
}

impl Audited for ExportArgs {
    fn act(&self) -> Option<Act> {
        Some(Act::new("export_state"))
    }
}

/// Runs the command. `out` is stdout.
pub async fn run(args: ExportArgs, db: &Db, out: &mut dyn Write) -> anyhow::Result<()> {
    if args.file == Path::new("-") {
        return write(db, out).await;
    }
    let partial = PathBuf::from(format!("{}.partial", args.file.display()));
    let created = File::create(&partial);
    let file = created.with_context(|| format!("creating {} failed; check the path", partial.display()))?;
    let mut file = BufWriter::new(file);
    write(db, &mut file).await?;
    let written = file.into_inner().map_err(io::IntoInnerError::into_error).and_then(|file| file.sync_all());
    let written = written.and_then(|()| fs::rename(&partial, &args.file));
    written.with_context(|| format!("writing {} failed", args.file.display()))
}

async fn write(db: &Db, out: &mut dyn Write) -> anyhow::Result<()> {
    let mut snapshot = Snapshot::begin(db).await.context("reading the database failed")?;
    let counts = snapshot.counts().await.context("counting failed")?;
    let style = ProgressStyle::with_template("{bar:40} {human_pos} of {human_len} lines, {eta} left");
    // Drawn on stderr, and only if that is a terminal.
    let bar = ProgressBar::new(counts.lines).with_style(style?);
    let mut lines = 0;
    for part in ExportPart::ALL {
        let mut after = None;
        loop {
            let page =
                snapshot.page(part, after.as_ref(), PAGE).await.context("reading the database failed")?;
            for line in &page.lines {
                serde_json::to_writer(&mut *out, line)?;
                out.write_all(b"\n")?;
            }
            lines += page.lines.len() as u64;
            bar.set_position(lines);
            after = page.next;
            if after.is_none() {
                break;
            }
        }
    }
    out.flush()?;
    bar.finish_and_clear();
    let dead = match counts.dead {
        0 => String::new(),
        dead => {
            format!(", of which {} armed only by `nas-cron import --dead-letters`", many(dead, "is", "are"))
        }
    };
    eprintln_quietly(&format!(
        "{} exported{dead}.",
        counted(i64::try_from(lines).unwrap_or(i64::MAX), "line")
    ));
    Ok(())
}

fn many(count: u64, one: &str, several: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { several })
}

/// Prints a line on stderr. A closed stderr is not a failure.
fn eprintln_quietly(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}
