"""Check .onnx files with the ONNX project's own checker and strict shape inference."""

import argparse
import sys
import tempfile
from pathlib import Path

import onnx


def check(path: Path) -> str:
    """A one-line description of the valid model at `path`; raises where it is not valid."""
    # Paths instead of loaded models: models over 2 GB and external data work too.
    onnx.checker.check_model(str(path), full_check=True)
    with tempfile.TemporaryDirectory() as folder:
        inferred = Path(folder) / "inferred.onnx"
        onnx.shape_inference.infer_shapes_path(
            str(path), str(inferred), check_type=True, strict_mode=True, data_prop=True
        )
        graph = onnx.load(inferred, load_external_data=False).graph
    untyped = [out.name for out in graph.output if not out.type.tensor_type.HasField("shape")]
    if untyped:
        raise ValueError(f"no shape could be inferred for {', '.join(untyped)}")
    tasks = ", ".join(out.name for out in graph.output)
    return f"{len(graph.node)} nodes, {len(graph.initializer)} initializers, outputs {tasks}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="+", type=Path, metavar="MODEL.onnx")
    failures = 0
    for path in parser.parse_args().models:
        # Whatever the checker raises (several unrelated types) is this file's verdict.
        try:
            print(f"OK    {path}: {check(path)}")
        except Exception as error:
            failures += 1
            print(f"FAIL  {path}: {error}", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
