//! Exports and imports show their progress on a terminal, and nowhere else.

use nas_cron_testing::database::database;
use nas_cron_testing::terminal::run_on_a_terminal;
use nas_cron_testing::world::World;

use super::files::{Scratch, store_jobs};

/// Several pages of an export, and several reads of an import.
const JOBS: usize = 5_000;

/// Asserts that a bar was drawn, has moved, and was removed before `report`.
fn shows_a_bar(screen: &str, progress: &str, report: &str) {
    assert!(screen.contains('█') && screen.contains('░') && screen.contains(progress), "{screen}");
    let (_, after) = screen.rsplit_once(" left").expect(screen);
    let (_, left) = after.rsplit_once("\x1b[2K").expect(screen);
    assert!(left.starts_with(report), "{screen}");
}

#[tokio::test]
async fn bar_is_drawn_on_a_terminal_and_removed_before_the_report() {
    let world = World::new().await;
    store_jobs(&world, JOBS).await;
    let file = Scratch::file("bar", "");
    let (done, screen) = run_on_a_terminal(&world.settings, &["export", file.path()], "").await;
    assert!(done, "{screen}");
    shows_a_bar(&screen, " of 5,001 lines, ", "5001 lines exported.");

    let (_, url) = database().await;
    let there = world.settings.clone().with("NAS_CRON_DATABASE_URL", url);
    let (done, screen) = run_on_a_terminal(&there, &["import", file.path()], "").await;
    assert!(done, "{screen}");
    shows_a_bar(&screen, " KiB of ", "5001 lines: 1 added, 5000 armed, ");
}

#[tokio::test]
async fn no_bar_is_drawn_without_a_terminal() {
    let world = World::new().await;
    store_jobs(&world, JOBS).await;
    let file = Scratch::file("no-bar", "");
    let (status, out, error) = world.settings.run(&["export", file.path()]).await;
    assert!(status.success(), "{error}");
    assert_eq!((out.as_str(), error.as_str()), ("", "5001 lines exported.\n"));
    let (status, out, error) = world.settings.run(&["import", file.path()]).await;
    assert!(status.success(), "{error}");
    assert!(out.starts_with("5001 lines: 0 added, ") && out.lines().count() == 1, "{out}");
    assert_eq!(error, "");
}
