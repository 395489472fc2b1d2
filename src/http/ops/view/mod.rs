//! Pieces of pages: times, IDs, texts of agents, commands and links.

mod command;
mod html;
mod links;
mod pieces;
pub(super) mod plots;

pub(super) use self::command::{for_each, shown};
pub(super) use self::html::Html;
pub(super) use self::links::{agent, due_link, job, scheduled, with_query};
pub(super) use self::pieces::{
    agents_words, id, link, text, when, when_any, whole_id, with_code, with_commands,
};
pub(super) use nas_cron_base::shell::CommandLine;
