//! The file of an export that is not complete.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, BufWriter, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use nas_cron_protocol::json;
use serde_json::Value;

use crate::db::transfer::place_of;
use crate::domain::transfer::{END, ExportPlace};

/// A file that gets the name of the export when it is complete. Readable by its owner only: callback URLs may be secret.
#[derive(Debug)]
pub(super) struct Partial {
    /// Its path.
    path: PathBuf,
    file: BufWriter<File>,
}

/// The lines that an interrupted export has written.
#[derive(Clone, Debug)]
pub(super) struct Written {
    /// Number of its lines.
    pub(super) lines: u64,
    /// Place of the last one.
    pub(super) last: ExportPlace,
}

impl Partial {
    /// Creates the file for an export to `target`, instead of one that an interrupted export has left.
    pub(super) fn create(target: &Path) -> anyhow::Result<Self> {
        let path = path_for(target);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("removing {} failed", path.display()));
            }
            _ => {}
        }
        let created = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        let file = created.with_context(|| format!("creating {} failed; check the path", path.display()))?;
        Self::locked(path, file)
    }

    /// Opens the file of an interrupted export to `target`, after its last complete line. `None` instead of the
    /// lines if there are none.
    pub(super) fn resume(target: &Path) -> anyhow::Result<(Self, Option<Written>)> {
        let path = path_for(target);
        let opened = OpenOptions::new().read(true).write(true).open(&path);
        let file = opened.with_context(|| {
            format!("opening {} of an interrupted export failed; export without --resume", path.display())
        })?;
        let mut partial = Self::locked(path, file)?;
        let written = partial.cut()?;
        Ok((partial, written))
    }

    fn locked(path: PathBuf, file: File) -> anyhow::Result<Self> {
        ensure!(file.try_lock().is_ok(), "another process writes {}: wait for its end", path.display());
        Ok(Self { path, file: BufWriter::new(file) })
    }

    /// Cuts an incomplete last line off.
    fn cut(&mut self) -> anyhow::Result<Option<Written>> {
        let (mut lines, mut end, mut last) = (0, 0, Vec::new());
        let mut reader = BufReader::new(self.file.get_ref());
        let mut line = Vec::new();
        let reading = || format!("reading {} failed", self.path.display());
        // The end, if the export was interrupted after it, is written anew.
        let is_end = |line: &[u8]| line.trim_ascii_end() == END.as_bytes();
        while reader.read_until(b'\n', &mut line).with_context(reading)? > 0
            && line.ends_with(b"\n")
            && !is_end(&line)
        {
            lines += 1;
            end += line.len() as u64;
            std::mem::swap(&mut last, &mut line);
            line.clear();
        }
        let written = match json::from_slice::<Value>(&last).ok().as_ref().and_then(place_of) {
            Some(last) => Some(Written { lines, last }),
            None if lines == 0 => None,
            None => bail!(
                "line {lines} of {} is not of an export: remove the file, and export without --resume",
                self.path.display()
            ),
        };
        let file = self.file.get_mut();
        let cut = file.set_len(end).and_then(|()| file.seek(SeekFrom::Start(end)));
        cut.with_context(|| format!("writing {} failed", self.path.display()))?;
        Ok(written)
    }

    /// Gives the complete file its name.
    pub(super) fn finish(self, target: &Path) -> anyhow::Result<()> {
        let Self { path, file } = self;
        let written = file.into_inner().map_err(io::IntoInnerError::into_error);
        let written = written.and_then(|file| file.sync_all()).and_then(|()| fs::rename(&path, target));
        written.with_context(|| format!("writing {} failed", target.display()))
    }
}

impl Write for Partial {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

fn path_for(target: &Path) -> PathBuf {
    PathBuf::from(format!("{}.partial", target.display()))
}
