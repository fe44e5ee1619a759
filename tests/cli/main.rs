//! The command-line tool as its users meet it: what it prints, writes and returns.

mod bad_data;
mod bad_input;
mod commands;
<<<<<<< HEAD
mod handoff;
=======
mod goals;
>>>>>>> 30fff41 (Goals: a size, a measured loss, up to a layer, whole multiples)
mod merge;
mod stop;
mod tool;
