//! Laws of merges, and bounds on the accuracy of merged nets.

mod accuracy;
mod drawn;
mod exact;
mod finetunes;
mod gram;
mod group_norm;
mod grouped;
mod groups;
mod input_matching;
mod inputs;
mod laws;
mod layers;
mod open;
mod outputs;
mod patterns;
mod permute;
mod recurrent;
mod reshapes;
mod retraining;
mod rewrite;
mod several;
mod states;
mod support;
mod tokens;
mod transformers;
mod zoo;
