//! The release: workflows, archive, changelog, and what names the version.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use nas_cron_testing::in_target;
use nas_cron_testing::service::{binary, binary_path};
use nas_cron_testing::world::World;

const VERSION: &str = env!("CARGO_PKG_VERSION");

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn workflows() -> Vec<PathBuf> {
    let folder = fs::read_dir(root().join(".github/workflows")).expect("workflows");
    folder.map(|entry| entry.expect("a file").path()).collect()
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn workflows_pass_actionlint() {
    let program = in_target("workflows-venv/bin/actionlint");
    let checked = Command::new(program).arg("-no-color").args(workflows()).output();
    let checked = checked.expect("actionlint is installed by `make workflows`");
    assert!(checked.status.success(), "{}", text(&checked));
}

#[test]
fn actions_are_pinned_to_a_commit_and_name_its_version() {
    for path in workflows() {
        let workflow = fs::read_to_string(&path).expect("text");
        for line in workflow.lines().filter_map(|line| line.trim().strip_prefix("- uses: ")) {
            let (action, version) = line.split_once(" # v").unwrap_or_else(|| panic!("no version: {line}"));
            let commit = action.split_once('@').expect("a commit").1;
            let is_commit = commit.len() == 40 && commit.bytes().all(|b| b.is_ascii_hexdigit());
            assert!(is_commit && version.split('.').count() == 3, "{}: {line}", path.display());
        }
    }
}

#[test]
fn workflows_use_the_compiler_of_the_image() {
    let dockerfile = fs::read_to_string(root().join("Dockerfile")).expect("text");
    let image = dockerfile.lines().find_map(|line| line.strip_prefix("FROM rust:")).expect("a stage");
    let version = image.split('-').next().expect("a version");
    let pinned = format!("\n  RUSTUP_TOOLCHAIN: '{version}'\n");
    for path in workflows() {
        let workflow = fs::read_to_string(&path).expect("text");
        assert!(workflow.contains(&pinned), "{}: no line {pinned:?}", path.display());
        for line in workflow.lines().filter(|line| line.contains("rustup toolchain install ")) {
            assert!(line.contains("install \"$RUSTUP_TOOLCHAIN\" "), "{}: {line}", path.display());
        }
    }
}

#[test]
fn archive_has_the_binary_its_pages_and_completions_and_a_checksum() {
    let folder = std::env::temp_dir().join(format!("nas-cron-dist-{:016x}", rand::random::<u64>()));
    fs::create_dir(&folder).expect("a new folder");
    // Without debug information, which takes long to compress.
    let stripped = folder.join("nas-cron");
    let strip = Command::new("strip").arg("-o").arg(&stripped).arg(binary_path()).status();
    assert!(strip.expect("binutils are installed with the compiler").success());
    let script = root().join("scripts/package");
    let packed = Command::new(script).arg(&stripped).args(["x86_64-unknown-linux-gnu"]).arg(&folder).output();
    let packed = packed.expect("bash");
    assert!(packed.status.success(), "{}", text(&packed));

    let name = format!("nas-cron-{VERSION}-x86_64-unknown-linux-gnu");
    let archive = folder.join(format!("{name}.tar.gz"));
    let listed = Command::new("tar").arg("--list").arg("--gzip").arg("--file").arg(&archive).output();
    let listed = text(&listed.expect("tar"));
    for file in [
        "nas-cron",
        "man/man1/nas-cron.1",
        "man/man1/nas-cron-jobs-list.1",
        "completions/nas-cron.bash",
        "completions/nas-cron.zsh",
        "LICENSE-MIT",
        "nas-cron.example.toml",
    ] {
        let path = format!("{name}/{file}");
        assert!(listed.lines().any(|line| line == path), "{path} is missing:\n{listed}");
    }
    let mut check = Command::new("sha256sum");
    check.args(["--check", "--quiet"]).arg(format!("{name}.tar.gz.sha256")).current_dir(&folder);
    assert!(check.status().expect("coreutils").success());
    let _ = fs::remove_dir_all(&folder);
}

#[test]
fn binary_archive_and_binstall_agree_on_the_name() {
    let shown = binary().arg("--version").output().expect("the binary runs");
    assert!(text(&shown).starts_with(&format!("nas-cron {VERSION} (commit ")), "{}", text(&shown));
    let manifest = fs::read_to_string(root().join("Cargo.toml")).expect("the manifest");
    let package = fs::read_to_string(root().join("scripts/package")).expect("the script");
    assert!(manifest.contains("/nas-cron-{ version }-{ target }.tar.gz\""));
    assert!(package.contains("name=nas-cron-$version-$target"));
}

#[test]
fn changelog_has_a_section_for_each_release() {
    let script = root().join("scripts/changelog");
    let notes = |version| Command::new(&script).arg(version).output().expect("bash");
    assert!(text(&notes("0.1.0")).contains("The first release"));
    // A version that was released is not built again.
    let changelog = fs::read_to_string(root().join("CHANGELOG.md")).expect("the changelog");
    let (_, rest) = changelog.split_once("## [Unreleased]").expect("a section");
    let (unreleased, _) = rest.split_once("\n## [").expect("an earlier release");
    assert!(
        unreleased.trim().is_empty() || !notes(VERSION).status.success(),
        "{VERSION} is released, and [Unreleased] has changes: raise the version"
    );
    let missing = notes("9.9.9");
    assert!(!missing.status.success());
    assert_eq!(text(&missing), "CHANGELOG.md has no section for 9.9.9\n");
}

#[tokio::test]
async fn version_and_commit_are_the_same_in_the_command_the_log_and_the_metrics() {
    let world = World::new().await;
    let (_, shown, _) = world.settings.run(&["--version"]).await;
    let commit = shown.trim().strip_prefix(&format!("nas-cron {VERSION} (commit ")).expect("a version");
    let commit = commit.strip_suffix(')').expect("a commit");
    let log = world.service.log();
    let started = log.lines().find(|line| line.contains("\"service started\"")).expect("its first line");
    let started: serde_json::Value = serde_json::from_str(started).expect("JSON");
    assert_eq!((&started["version"], &started["commit"]), (&VERSION.into(), &commit.into()));
    let info = format!("nas_cron_build_info{{version=\"{VERSION}\",commit=\"{commit}\"}} 1");
    assert!(world.service.metrics().await.contains(&info), "{info}");
}
