"""Print the demo's table from the JSON that `onnx-zip merge` and `onnx-zip verify` wrote.

    demo_table.py FOLDER NAME…      reads FOLDER/NAME.json and FOLDER/NAME.verify.json
"""

import json
import sys
from pathlib import Path

HEADER = (
    "pair", "A kB", "B kB", "joint kB", "joint/sum",
    "shared", "A only", "B only", "A error %", "B error %",
)  # fmt: skip


def row(folder: Path, name: str) -> tuple[str, ...]:
    """One pair: sizes in kB, parameters by owner, test errors before and after."""
    report = json.loads((folder / f"{name}.json").read_text())
    verified = json.loads((folder / f"{name}.verify.json").read_text())
    sizes = [task["bytes"] for task in report["tasks"]]
    joint = report["joint"]["bytes"]
    parameters = report["joint"]["parameters"]
    counts = [parameters["shared"], *parameters["specific"].values()]
    errors = [
        f"{100 * task['error_before']:.2f} → {100 * task['error_after']:.2f}"
        for task in verified["tasks"]
    ]
    kilobytes = [f"{size / 1000:.0f}" for size in (*sizes, joint)]
    return name, *kilobytes, f"{joint / sum(sizes):.3f}", *map(str, counts), *errors


def main() -> None:
    folder, names = Path(sys.argv[1]), sys.argv[2:]
    rows = [HEADER, *(row(folder, name) for name in names)]
    widths = [max(map(len, column)) for column in zip(*rows)]
    for index, cells in enumerate(rows):
        numbers = (cell.rjust(width) for cell, width in zip(cells[1:], widths[1:]))
        print("  ".join((cells[0].ljust(widths[0]), *numbers)))
        if index == 0:
            print("  ".join("-" * width for width in widths))


if __name__ == "__main__":
    main()
