//! Replays the corpora, and compares the targets with the programs in `fuzz/`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::{TARGETS, Target};

fn fuzz(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz").join(path)
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    entries.map(|entry| entry.expect("a readable entry").path()).collect()
}

fn names(folder: &str) -> BTreeSet<String> {
    entries(&fuzz(folder)).iter().map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect()
}

fn replay(name: &str, target: Target) {
    let corpus = entries(&fuzz("corpus").join(name));
    assert!(corpus.len() >= 5, "{name} has {} inputs: run `make fuzz FUZZ={name}`", corpus.len());
    for path in corpus {
        let input = fs::read(&path).expect("a readable file");
        let result = std::panic::catch_unwind(|| {
            target(&input);
            // Every input is cut at some place, so that no check depends on a complete one.
            target(&input[..input.len() / 2]);
        });
        assert!(result.is_ok(), "{}", path.display());
    }
}

#[test]
fn corpora_of_all_fuzz_targets_pass() {
    for (name, target) in TARGETS {
        replay(name, *target);
    }
}

#[test]
fn every_fuzz_target_has_a_program_and_a_corpus() {
    let targets: BTreeSet<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(names("fuzz_targets"), targets);
    assert_eq!(names("corpus"), targets);
    let manifest = fs::read_to_string(fuzz("Cargo.toml")).expect("a manifest");
    for name in &targets {
        let program = fs::read_to_string(fuzz(&format!("fuzz_targets/{name}.rs"))).expect("a program");
        assert!(program.contains(&format!("nas_cron::fuzzing::{name}(")), "{name}");
        assert!(manifest.contains(&format!("name = \"{name}\"\n")), "{name} is not in fuzz/Cargo.toml");
    }
}
