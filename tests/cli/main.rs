//! The command-line tool as its users meet it: what it prints, writes and returns.

mod bad_data;
mod bad_input;
mod browser;
mod commands;
mod compare;
mod data;
mod distributed;
mod files;
mod frontier;
mod goals;
mod halves;
mod handoff;
mod hostile;
mod memory;
mod merge;
mod plans;
mod prune;
mod rejected;
mod retrain;
mod stop;
mod tool;
