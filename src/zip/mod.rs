//! Zipping: pairing and fusing neurons (sec. 3 of the paper). All approximation happens here.

pub mod joint;
