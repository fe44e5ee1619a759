//! The command-line tool from a user's view: its output, files and exit codes.

mod bad_data;
mod bad_input;
mod browser;
mod commands;
mod compare;
mod data;
mod distributed;
mod files;
mod fix;
mod frontier;
mod goals;
mod gram;
mod halves;
mod handoff;
mod hostile;
mod limited;
mod memory;
mod merge;
mod plans;
mod prune;
mod rejected;
mod retrain;
mod stop;
mod tool;
