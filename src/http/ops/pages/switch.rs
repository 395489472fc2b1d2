//! The switch of the scheduler backend: what it would change, and the form that carries it out.

use askama::Template;
use axum::extract::State;
use axum::response::Response;

use crate::http::error::ErrorPage;
use crate::http::ops::OpsState;
use crate::http::ops::actions::Action;
use crate::http::ops::actions::backends::{FORCE, GENERATION, named};
use crate::http::ops::failure::rendered;
use crate::http::ops::frame::{Frame, Section};
use crate::http::ops::session::Session;
use crate::http::ops::view::{CommandLine, Html, shown, text};
use crate::operations::backends::{SwitchPreview, plan_text};

/// The page to return to, which shows the progress.
const BACKENDS: &str = "/ops/backends";

#[derive(Template)]
#[template(path = "switch.html")]
struct SwitchPage {
    frame: Frame,
    /// Its effect, in words.
    plan: Html,
    /// The error of the backend, if it is unreachable.
    error: Option<Html>,
    action: Option<Action>,
    command: Html,
}

/// Counts what a switch would move, and tests the backend. Changes nothing.
pub(in crate::http::ops) async fn show(
    State(ops): State<OpsState>,
    session: Session,
) -> Result<Response, ErrorPage> {
    let params = session.params(&["backend"])?;
    let to = named(params.text("backend"))?;
    session.require("switch_backend")?;
    let preview = ops.admin.backends.preview_switch(to).await?;
    let page = SwitchPage {
        frame: session
            .frame(format!("Switch to {to}"))
            .of(Section::Backends)
            .below("Backends and keys", BACKENDS),
        plan: text(&plan_text(preview.from, to, preview.to_move)),
        error: preview.error.as_deref().map(|error| text(&format!("{to} {error}"))),
        action: action(&session, &preview),
        command: shown(&switching(to.as_str()).flag("--dry-run")),
    };
    Ok(rendered(&page))
}

/// Returns the form, with what the operator has seen; `None` if the backend is active already.
fn action(session: &Session, preview: &SwitchPreview) -> Option<Action> {
    let to = preview.to.as_str();
    if preview.from == preview.to {
        return None;
    }
    let action = if preview.error.is_none() {
        Action::offered(session, "switch_backend", "Switch", &switching(to))?
    } else {
        let line = switching(to).flag("--force");
        Action::offered(session, "switch_backend", "Switch anyway", &line)?
            .warned("The Postgres loop fires the one-shots of an unreachable backend some seconds late.")
            .about(FORCE, "true")
    };
    let seen = preview.generation.to_string();
    Some(action.about("backend", to).about(GENERATION, seen).leading_to(BACKENDS))
}

fn switching(to: &str) -> CommandLine {
    CommandLine::new("backend switch").of([to])
}
