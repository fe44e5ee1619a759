//! Writes the canonical form of a model: `canonicalise IN.onnx OUT.onnx [OPSET]`, and prints it.
//!
//! `tests/python/canon_parity.py` compares the two files in ONNX Runtime.

use std::path::Path;

use anyhow::{Context, Result};
use onnx_zip::canon::{CanonOptions, canonicalise};
use onnx_zip::{ir, onnx};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (source, target) = match arguments.as_slice() {
        [source, target, ..] => (Path::new(source), Path::new(target)),
        _ => anyhow::bail!("usage: canonicalise IN.onnx OUT.onnx [OPSET]"),
    };
    let target_opset = arguments.get(2).map(|v| v.parse()).transpose().context("no number")?;
    let model = onnx::load(source)?;
    let canonical = canonicalise(model, &CanonOptions { target_opset, ..CanonOptions::default() })?;
    print!("{}", ir::text::dump(&canonical.graph));
    std::fs::write(target, onnx::encode(&canonical)?)?;
    Ok(())
}
