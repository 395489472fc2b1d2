//! `nas-cron import`.

use std::collections::HashSet;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use nas_cron_protocol::{Fields, FieldsError, InstanceId};

use super::lines;
use crate::audit::Act;
use crate::cli::agents::import as agents;
use crate::cli::audited::Audited;
use crate::cli::import_file::{self, BATCH, Columns, Format, Line, Lines, Remark, Report};
use crate::cli::jobs::import as jobs;
use crate::db::{Db, hints, transfer};
use crate::directory;
use crate::domain::job::{Import, Imported};
use crate::domain::registration::{Registration, Verdict};
use crate::domain::transfer::{END, StoredAuth, StoredLogin, Taken};

/// The kinds of lines.
const KINDS: &str = "agent, login, auth_profile, auth_default, job_auth or one_shot";
const COLUMNS: Columns = Columns { known: &[], required: &[], flags: &[] };

/// Import agents, logins, auth profiles and one-shots that `nas-cron export` has written.
///
/// What is there already is kept: an agent's one-shot is never replaced. Overdue one-shots fire at once, so put everything
/// on hold first if agents should wait. Valid lines are imported and invalid lines are reported, with exit code 1.
/// Importing a file again changes nothing.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  nas-cron import state.jsonl --dry-run
  nas-cron import state.jsonl --from-line 120001      Resume an import that was interrupted")]
pub struct ImportArgs {
    /// File to import; `-` reads stdin.
    file: PathBuf,
    /// Skip the lines before this one.
    #[arg(long, value_name = "LINE", default_value_t = 1)]
    from_line: u64,
    /// Arm dead letters and stuck one-shots, too.
    #[arg(long)]
    dead_letters: bool,
    /// Check all lines, also against the database, without changing anything.
    #[arg(long)]
    dry_run: bool,
    /// Print JSON: the counts, and each invalid line as {"line", "problem"}.
    #[arg(long)]
    json: bool,
}

impl Audited for ImportArgs {
    fn act(&self) -> Option<Act> {
        (!self.dry_run).then(|| Act::new("import_state"))
    }
}

/// A line that was read.
pub(in crate::cli) enum Record {
    Agent(Registration),
    Login(StoredLogin),
    Auth(StoredAuth),
    OneShot(Import),
    /// A dead letter, which is not armed.
    Dead,
    /// The end of a complete export.
    End,
}

impl Record {
    /// Reads a line. Dead letters are read as one-shots only if `dead_letters` is true.
    pub(in crate::cli) fn read(mut fields: Fields, dead_letters: bool) -> Result<Self, FieldsError> {
        match fields.required_text("kind")?.as_str() {
            "agent" => Ok(Self::Agent(directory::registration(fields, None)?)),
            "login" => lines::login(fields).map(Self::Login),
            "auth_profile" => lines::auth_profile(fields).map(Self::Auth),
            "auth_default" => lines::auth_default(fields).map(Self::Auth),
            "job_auth" => lines::job_auth(fields).map(Self::Auth),
            "one_shot" => {
                let state = fields.text("state")?;
                let is_dead = matches!(state.as_deref(), Some("dead" | "stuck"));
                let one_shot = jobs::one_shot(fields)?;
                Ok(if is_dead && !dead_letters { Self::Dead } else { Self::OneShot(one_shot) })
            }
            "end" => fields.finish(&[]).map(|()| Self::End),
            _ => Err(nas_cron_protocol::InvalidField::new("kind", format!("must be {KINDS}")).into()),
        }
    }
}

/// The lines of one statement: all of them of the same table.
#[derive(Default)]
struct Batch {
    numbers: Vec<u64>,
    agents: Vec<Registration>,
    logins: Vec<StoredLogin>,
    auth: Vec<StoredAuth>,
    one_shots: Vec<Import>,
    /// Agents and jobs of this batch: a statement takes each once.
    keys: HashSet<String>,
}

impl Batch {
    /// Adds a line. Returns it if it belongs to the next batch.
    fn push(&mut self, number: u64, record: Record) -> Option<Record> {
        let filled = [self.agents.len(), self.logins.len(), self.auth.len(), self.one_shots.len()];
        let (place, key) = match &record {
            Record::Agent(one) => (0, one.instance_id.as_str().to_owned()),
            Record::Login(one) => (1, one.instance_id.as_str().to_owned()),
            Record::Auth(one) => (2, format!("{one:?}")),
            Record::OneShot(one) => (3, format!("{}\u{0}{}", one.instance_id, one.job_id)),
            Record::Dead | Record::End => return None,
        };
        let is_other = filled.iter().enumerate().any(|(index, count)| index != place && *count > 0);
        if is_other || self.numbers.len() == BATCH || self.keys.contains(&key) {
            return Some(record);
        }
        self.keys.insert(key);
        self.numbers.push(number);
        match record {
            Record::Agent(one) => self.agents.push(one),
            Record::Login(one) => self.logins.push(one),
            Record::Auth(one) => self.auth.push(one),
            Record::OneShot(one) => self.one_shots.push(one),
            Record::Dead | Record::End => {}
        }
        None
    }
}

/// An import under way.
struct Importing<'a> {
    db: &'a Db,
    report: Report,
    /// The agents of this file: in a dry run, what follows them would find them.
    agents: HashSet<InstanceId>,
    batch: Batch,
    /// The last line that is done.
    done: u64,
}

impl Importing<'_> {
    async fn add(&mut self, number: u64, record: Record) -> anyhow::Result<()> {
        if matches!(record, Record::Dead) {
            let problem = "a dead letter; --dead-letters arms it".to_owned();
            self.report.skipped.push(Remark { line: number, problem });
            return Ok(());
        }
        if let Some(record) = self.batch.push(number, record) {
            self.flush().await?;
            self.batch.push(number, record);
        }
        Ok(())
    }

    async fn flush(&mut self) -> anyhow::Result<()> {
        let batch = std::mem::take(&mut self.batch);
        let Some(&last) = batch.numbers.last() else { return Ok(()) };
        let done = self.done;
        self.import(batch).await.with_context(|| import_file::broke_off(done))?;
        self.done = last;
        Ok(())
    }

    async fn import(&mut self, batch: Batch) -> anyhow::Result<()> {
        let Batch { numbers, agents, logins, auth, one_shots, .. } = batch;
        let (db, dry_run) = (self.db, self.report.dry_run);
        if !agents.is_empty() {
            let verdicts = directory::register_all(db, &agents, false, dry_run).await?;
            for ((number, agent), verdict) in numbers.iter().zip(agents).zip(verdicts) {
                if !matches!(verdict, Verdict::OtherOrg(_) | Verdict::SessionTaken(_)) {
                    self.agents.insert(agent.instance_id);
                }
                agents::judge(&mut self.report, *number, &verdict);
            }
        }
        if !logins.is_empty() {
            let taken = transfer::add_logins(db, &logins, dry_run).await?;
            for ((number, login), taken) in numbers.iter().zip(logins).zip(taken) {
                self.judge(
                    *number,
                    Some(&login.instance_id),
                    taken,
                    "the agent has another open login, which is kept",
                );
            }
        }
        if !auth.is_empty() {
            let taken = transfer::add_auth(db, &auth, dry_run).await?;
            for ((number, auth), taken) in numbers.iter().zip(auth).zip(taken) {
                self.judge(*number, auth.instance_id(), taken, "another value is set, which is kept");
            }
        }
        if !one_shots.is_empty() {
            let results = jobs::import_again(db, &one_shots, dry_run).await?;
            // Overdue one-shots fire at once, before the rest of the file is imported.
            if results.contains(&Imported::Armed) && !dry_run {
                hints::announce(db).await?;
            }
            for ((number, one_shot), result) in numbers.iter().zip(one_shots).zip(results) {
                let is_new_here = dry_run && self.agents.contains(&one_shot.instance_id);
                let result = match result {
                    Imported::UnknownInstance if is_new_here => Imported::Armed,
                    result => result,
                };
                jobs::judge(&mut self.report, *number, &one_shot, result);
            }
        }
        Ok(())
    }

    fn judge(&mut self, number: u64, instance_id: Option<&InstanceId>, taken: Taken, kept: &str) {
        let is_new_here =
            self.report.dry_run && instance_id.is_some_and(|instance_id| self.agents.contains(instance_id));
        match taken {
            Taken::Added => self.report.count("added"),
            Taken::UnknownInstance if is_new_here => self.report.count("added"),
            Taken::Unchanged => self.report.count("unchanged"),
            Taken::Kept => {
                self.report.count("kept");
                self.report.skipped.push(Remark { line: number, problem: kept.to_owned() });
            }
            Taken::UnknownInstance => {
                let id = instance_id.map_or("", InstanceId::as_str);
                self.report.bad(number, format!("agent `{id}` is not registered; import the agents first"));
            }
        }
    }
}

/// Runs the command, and writes its report to `out`.
pub async fn run(args: ImportArgs, db: &Db, out: &mut dyn Write) -> anyhow::Result<()> {
    let mut lines = Lines::open(&args.file, Some(Format::Jsonl), COLUMNS)?;
    let mut importing = Importing {
        db,
        report: Report::new(args.dry_run, &["added", "updated", "armed", "unchanged", "kept"]),
        agents: HashSet::new(),
        batch: Batch::default(),
        done: args.from_line.saturating_sub(1),
    };
    let (mut last, mut has_end) = (0, false);
    while let Some(Line { number, fields }) = lines.next()? {
        last = number;
        if number < args.from_line {
            continue;
        }
        importing.report.lines += 1;
        let record = fields
            .and_then(|fields| Record::read(fields, args.dead_letters).map_err(|error| error.to_string()));
        match record {
            Err(problem) => importing.report.bad(number, problem),
            Ok(Record::End) => {
                importing.report.lines -= 1;
                has_end = true;
            }
            Ok(record) => importing.add(number, record).await?,
        }
    }
    importing.flush().await?;
    lines.finish();
    // A file gets its name when it is complete. Of a pipe, nothing else tells.
    if args.file == Path::new("-") && !has_end {
        let problem = format!("the export broke off: its last line must be {END}; export again");
        importing.report.bad(last + 1, problem);
    } else if args.from_line > last.max(1) {
        let problem = format!("--from-line {}: the file has {last} lines", args.from_line);
        importing.report.bad(args.from_line, problem);
    }
    importing.report.end(args.json, out)
}
