//! `nas-cron jobs import`: takes over the one-shots of another service, so that recurring jobs survive the cut-over.

use std::collections::HashSet;
use std::io::Write;

use anyhow::Context;
use nas_cron_protocol::{
    AuthChoice, CallbackUrl, DedupKey, Fields, FieldsError, FireAt, InstanceId, InvalidField, JobId, NotAfter,
};
use serde_json::Value;

use crate::cli::import_file::{self, BATCH, Columns, Format, ImportArgs, Line, Lines, Remark, Report};
use crate::db::{Db, DbError, DbResult, hints, jobs};
use crate::domain::job::{Import, Imported};

const COLUMNS: Columns = Columns {
    known: &["instance_id", "job_id", "fire_at", "agent_callback_url", "dedup_key", "auth", "not_after"],
    required: &["instance_id", "job_id", "fire_at", "agent_callback_url"],
    flags: &[],
};

/// Maximum tries of rows that lose to concurrent statements.
const RACES: usize = 8;

/// Parses the one-shot of one line. A missing `dedup_key` is made of the job and its time, byte for byte, as real agents
/// do; the agent's own next provision then finds the one-shot armed.
pub(in crate::cli) fn one_shot(mut fields: Fields) -> Result<Import, FieldsError> {
    let instance_id = InstanceId::new(fields.required_text("instance_id")?)?;
    let job_id = JobId::new(fields.required_text("job_id")?)?;
    let fire_at = FireAt::parse(&fields.required_text("fire_at")?)?;
    let callback_url = CallbackUrl::parse(&fields.required_text("agent_callback_url")?)?;
    let dedup_key = fields.text("dedup_key")?.unwrap_or_else(|| format!("{job_id}:{}", fire_at.as_str()));
    let dedup_key = DedupKey::new(dedup_key)?;
    let auth = fields.clearable("auth").value().map(auth).transpose()?;
    let not_after = fields.text("not_after")?.map(|text| NotAfter::parse(&text, &fire_at)).transpose()?;
    fields.finish(COLUMNS.known)?;
    Ok(Import { instance_id, job_id, fire_at, callback_url, dedup_key, auth, not_after })
}

/// Parses `auth`. A cell of a CSV has text only: `none`, or profiles separated by commas.
fn auth(value: &Value) -> Result<AuthChoice, InvalidField> {
    match value {
        Value::String(text) if text == "none" => Ok(AuthChoice::NoProfile),
        Value::String(text) if text.contains(',') => {
            AuthChoice::from_json(&text.split(',').map(str::trim).collect())
        }
        value => AuthChoice::from_json(value),
    }
}

/// A batch under construction. It has each job once, because a statement does not define the order of its rows.
#[derive(Default)]
struct Batch {
    numbers: Vec<u64>,
    one_shots: Vec<Import>,
    jobs: HashSet<(InstanceId, JobId)>,
}

impl Batch {
    fn takes(&self, one_shot: &Import) -> bool {
        let job = (one_shot.instance_id.clone(), one_shot.job_id.clone());
        self.numbers.len() < BATCH && !self.jobs.contains(&job)
    }

    fn push(&mut self, number: u64, one_shot: Import) {
        self.jobs.insert((one_shot.instance_id.clone(), one_shot.job_id.clone()));
        self.numbers.push(number);
        self.one_shots.push(one_shot);
    }

    /// Arms the batch, and starts a new one.
    async fn flush(&mut self, db: &Db, done: &mut u64, report: &mut Report) -> anyhow::Result<()> {
        let Self { numbers, one_shots, .. } = std::mem::take(self);
        let Some(&last) = numbers.last() else { return Ok(()) };
        let results = import_again(db, &one_shots, report.dry_run)
            .await
            .with_context(|| import_file::broke_off(*done))?;
        *done = last;
        let armed = results.contains(&Imported::Armed);
        for ((number, one_shot), result) in numbers.into_iter().zip(one_shots).zip(results) {
            judge(report, number, &one_shot, result);
        }
        if armed && !report.dry_run {
            // Overdue one-shots fire at once, before the rest of the file is imported.
            hints::announce(db).await.with_context(|| import_file::broke_off(*done))?;
        }
        Ok(())
    }
}

/// Arms one-shots, and retries those that lost to concurrent statements: all after a rollback, otherwise those that were
/// armed meanwhile.
pub(in crate::cli) async fn import_again(
    db: &Db,
    one_shots: &[Import],
    dry_run: bool,
) -> DbResult<Vec<Imported>> {
    let mut results = vec![Imported::Raced; one_shots.len()];
    for race in 1.. {
        let left: Vec<usize> = (0..results.len()).filter(|&at| results[at] == Imported::Raced).collect();
        if left.is_empty() || race > RACES {
            break;
        }
        let again: Vec<Import> = left.iter().map(|&at| one_shots[at].clone()).collect();
        match jobs::import(db, &again, dry_run).await {
            Ok(new) => left.into_iter().zip(new).for_each(|(at, result)| results[at] = result),
            Err(DbError::Contended(_)) if race < RACES => {}
            Err(error) => return Err(error),
        }
    }
    Ok(results)
}

/// Adds the result of a line to the report.
pub(in crate::cli) fn judge(report: &mut Report, number: u64, one_shot: &Import, result: Imported) {
    match result {
        Imported::Armed => report.count("armed"),
        Imported::Unchanged => report.count("unchanged"),
        Imported::Kept => {
            report.count("kept");
            let problem = format!(
                "job {} of agent {} has a one-shot with another dedup_key, which is kept",
                one_shot.job_id, one_shot.instance_id
            );
            report.skipped.push(Remark { line: number, problem });
        }
        Imported::UnknownInstance => report.bad(
            number,
            format!(
                "instance_id: agent `{}` is not registered; import the agents first",
                one_shot.instance_id
            ),
        ),
        Imported::Raced => {
            report
                .bad(number, "job_id: the agent is arming this job at the same time; import the line again");
        }
    }
}

/// Arms the one-shots of all valid lines, a thousand per statement, and reports every invalid line.
pub(super) async fn run(args: &ImportArgs, db: &Db, out: &mut dyn Write) -> anyhow::Result<()> {
    let mut lines = Lines::open(&args.file, Some(args.format.unwrap_or(Format::Jsonl)), COLUMNS)?;
    let mut report = Report::new(args.dry_run, &["armed", "unchanged", "kept"]);
    let mut batch = Batch::default();
    let mut done = 0;
    while let Some(Line { number, fields }) = lines.next()? {
        report.lines += 1;
        match fields.and_then(|fields| one_shot(fields).map_err(|error| error.to_string())) {
            Err(problem) => report.bad(number, problem),
            Ok(one_shot) => {
                if !batch.takes(&one_shot) {
                    batch.flush(db, &mut done, &mut report).await?;
                }
                batch.push(number, one_shot);
            }
        }
    }
    batch.flush(db, &mut done, &mut report).await?;
    lines.finish();
    report.end(args.json, out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<Import, String> {
        one_shot(Fields::parse(json.as_bytes()).unwrap()).map_err(|error| error.to_string())
    }

    #[test]
    fn missing_dedup_key_is_derived_as_real_agents_do() {
        let line = r#"{"instance_id":"a","job_id":"j","fire_at":"2026-06-18T14:34:56.000001+02:00","agent_callback_url":"https://a.example"}"#;
        assert_eq!(read(line).unwrap().dedup_key.as_str(), "j:2026-06-18T14:34:56.000001+02:00");
        let own = line.replace("\"job_id\"", "\"dedup_key\":\"own\",\"job_id\"");
        assert_eq!(read(&own).unwrap().dedup_key.as_str(), "own");
    }

    #[test]
    fn invalid_fields_are_named() {
        let line = |fire_at: &str, rest: &str| {
            format!(
                r#"{{"instance_id":"a","job_id":"j","fire_at":{fire_at},"agent_callback_url":"https://a.example"{rest}}}"#
            )
        };
        insta::assert_snapshot!(read(r#"{"instance_id":"a"}"#).unwrap_err(), @"job_id: is missing");
        insta::assert_snapshot!(read(&line(r#""2026-06-18T12:34:56""#, "")).unwrap_err(), @"fire_at: must be an ISO 8601 date-time with an offset, such as 2026-06-18T12:34:56+00:00");
        let host = line(r#""2026-06-18T12:34:56Z""#, "").replace("a.example", "2130706433");
        insta::assert_snapshot!(read(&host).unwrap_err(), @"agent_callback_url: must write an IPv4 address in decimal: this host is read as 127.0.0.1");
        insta::assert_snapshot!(read(&line("1750250096", "")).unwrap_err(), @"fire_at: must be a string, not a number");
        insta::assert_snapshot!(read(&line(r#""2026-06-18T12:34:56Z""#, r#","dedup_kye":"k""#)).unwrap_err(), @"dedup_kye: unknown field; known are instance_id, job_id, fire_at, agent_callback_url, dedup_key, auth, not_after");
    }

    #[test]
    fn auth_and_limit_are_read_in_every_form_and_their_faults_are_named() {
        let line = |rest: &str| {
            format!(
                r#"{{"instance_id":"a","job_id":"j","fire_at":"2036-06-18T12:00:00Z","agent_callback_url":"https://a.example",{rest}}}"#
            )
        };
        let auth = |form: &str| {
            read(&line(&format!(r#""auth":{form}"#))).map(|one| serde_json::json!(one.auth).to_string())
        };
        for (form, expected) in [
            ("false", "false"),
            (r#""none""#, "false"),
            (r#""claude:work""#, r#""claude:work""#),
            (r#"["claude:work"]"#, r#"["claude:work"]"#),
            (r#""claude:work, codex:x""#, r#"["claude:work","codex:x"]"#),
            ("null", "null"),
        ] {
            assert_eq!(auth(form), Ok(expected.to_owned()), "{form}");
        }
        insta::assert_snapshot!(auth("7").unwrap_err(), @"auth: must be false, a profile or a list of profiles, not a number");
        insta::assert_snapshot!(auth(r#""p:a,p:b,p:a""#).unwrap_err(), @"auth[2]: is in the list twice");
        let limit =
            |text: &str| read(&line(&format!(r#""not_after":{text}"#))).map(|one| one.not_after.is_some());
        assert_eq!(limit(r#""2036-06-18T14:00:01+02:00""#), Ok(true));
        assert_eq!(limit("null"), Ok(false));
        insta::assert_snapshot!(limit(r#""2036-06-18T12:00:00+00:01""#).unwrap_err(), @"not_after: must not be before fire_at");
        insta::assert_snapshot!(limit(r#""2036-06-18T13:00:00""#).unwrap_err(), @"not_after: must be an ISO 8601 date-time with an offset, such as 2026-06-18T12:34:56+00:00");
    }
}
