//! The overview: what fires, what does not, and what needs attention.

mod command;
mod counts;
mod fires;
mod plans;
