//! Merges of trained nets, by laws and by numbers.

mod accuracy;
mod laws;
mod several;
mod support;
