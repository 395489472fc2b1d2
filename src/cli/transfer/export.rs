//! `nas-cron export`.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use nas_cron_base::terminal::counted;

use super::partial::{Partial, Written};
use crate::audit::Act;
use crate::cli::audited::Audited;
use crate::db::Db;
use crate::db::transfer::Snapshot;
use crate::domain::transfer::{END, ExportPart, ExportPlace};

/// Lines of one statement.
const PAGE: i64 = 1_000;

/// Export agents, logins, auth profiles and one-shots as JSON Lines.
///
/// The export is a view of one moment, also while the service runs. It contains no secret, and neither the history nor
/// signing keys, admin tokens, webhooks, holds and quotas: a dump of the database has them. Delivered one-shots are left out.
/// A file is complete when it exists; until then, its name ends with `.partial`. Only its owner can read it.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  nas-cron export state.jsonl
  nas-cron export state.jsonl --resume                    After it was interrupted
  nas-cron export - | zstd > state.jsonl.zst
  nas-cron hold --all --reason move && nas-cron export - | ssh new-host nas-cron import -

The last line is {\"kind\":\"end\"}, so that an import from stdin notices an export that broke off.")]
pub struct ExportArgs {
    /// File that is written; `-` writes stdout.
    file: PathBuf,
    /// Go on after the last line of an interrupted export to this file.
    ///
    /// The lines that were written stay as they were at the moment when that export began. The others are of now.
    #[arg(long)]
    resume: bool,
}

impl Audited for ExportArgs {
    fn act(&self) -> Option<Act> {
        Some(Act::new("export_state"))
    }
}

/// Runs the command. `out` is stdout.
pub async fn run(args: ExportArgs, db: &Db, out: &mut dyn Write) -> anyhow::Result<()> {
    if args.file == Path::new("-") {
        ensure!(!args.resume, "--resume goes on with a file: stdout has no lines to go on after");
        return write(db, None, out).await;
    }
    let (mut partial, written) = if args.resume {
        let (partial, written) = Partial::resume(&args.file)?;
        let lines = written.as_ref().map_or(0, |written| written.lines);
        eprintln_quietly(&format!("Going on after line {lines}, with what the database has now."));
        (partial, written)
    } else {
        (Partial::create(&args.file)?, None)
    };
    write(db, written, &mut partial).await?;
    partial.finish(&args.file)
}

/// Writes an export, or what follows the lines that were written before.
async fn write(db: &Db, written: Option<Written>, out: &mut dyn Write) -> anyhow::Result<()> {
    let mut snapshot = Snapshot::begin(db).await.context("reading the database failed")?;
    let counts = snapshot.counts().await.context("counting failed")?;
    let style = ProgressStyle::with_template("{bar:40} {human_pos} of {human_len} lines, {eta} left");
    // Drawn on stderr, and only if that is a terminal.
    let bar = ProgressBar::new(counts.lines).with_style(style?);
    let mut lines = written.as_ref().map_or(0, |written| written.lines);
    for (part, mut after) in rest(written.map(|written| written.last)) {
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
    writeln!(out, "{END}")?;
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

/// Returns the parts that are left after `last`, and the place in each after which it goes on.
fn rest(last: Option<ExportPlace>) -> Vec<(ExportPart, Option<[String; 3]>)> {
    let Some(ExportPlace { part, key }) = last else {
        return ExportPart::ALL.map(|part| (part, None)).into();
    };
    let mut rest = Vec::new();
    match part {
        ExportPart::Agents => {}
        // Later lines may belong to agents that were registered meanwhile. Importing an agent twice changes nothing.
        ExportPart::Logins | ExportPart::Auth => rest.push((ExportPart::Agents, None)),
        // They are ordered by agent, and that of the last one is written.
        ExportPart::OneShots => {
            let [instance_id, ..] = &key;
            rest.push((ExportPart::Agents, Some([instance_id.clone(), String::new(), String::new()])));
        }
    }
    let later = ExportPart::ALL.into_iter().skip_while(|one| *one != part).skip(1);
    rest.push((part, Some(key)));
    rest.extend(later.map(|part| (part, None)));
    rest
}

fn many(count: u64, one: &str, several: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { several })
}

/// Prints a line on stderr. A closed stderr is not a failure.
fn eprintln_quietly(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}
