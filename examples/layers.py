"""Whole layers as the unit of sharing, beside neurons: sizes and errors of four pairs of nets.

    .venv/bin/python examples/layers.py [NET…] [--ways WAY…] [--part N]
        [--retrain STEPS [--batch N] [--learning-rate R | --relative-rate R] [--temperature T]]

The pairs and samples of examples/curves.py, nothing retrained. Prints one table per pair: a merge
without any option, merges to two sizes, merges that share all layers with biases per task and with
common ones, and a merge that shares 90 % of the neurons of every layer. The last column is the part
of the answers that differ from the originals', mean over both tasks: chance moves errors more.
`--part 1` and `--part 2` take other images of the fixtures, which tells how much chance there is.

With `--retrain`, every joint model is trained for so many steps towards its originals on all 60 000
images of each task, without labels (`examples/full_data.py` gets them), and measured again.
"""

import argparse
from pathlib import Path

from curves import NETS, TASKS, measured, point, rise
from experiment import DATA, MODELS, OUT, ROOT, data_options, differing, errors, table, tool

WAYS = {
    "knee": (),
    "57": ("--target-size", "57%"),
    "60": ("--target-size", "60%"),
    "full": ("--share", "1"),
    "full_shared_biases": ("--share", "1", "--biases", "shared"),
    "57_int4": ("--target-size", "57%", "--delta", "int4"),
    "60_int4": ("--target-size", "60%", "--delta", "int4"),
}


def retrained(
    net: str, joint: Path, steps: int, batch: int, rate: tuple[str, float], temperature: float
) -> list[tuple[float, float]]:
    """Errors before all and after retraining, of both tasks."""
    way = f"_{batch}_{'_'.join(map(str, rate))}_{temperature}"
    trained = joint.with_name(f"{joint.stem}_retrained_{steps}{way}.onnx")
    models = [MODELS / "zoo" / f"{net}_{task}.onnx" for task in TASKS]
    if not trained.exists():
        teachers = [word for model in models for word in ("--teacher", model)]
        samples = [ROOT / "out" / "data" / f"{task}_train.npz" for task in TASKS]
        options = ("--iterations", steps, "--batch", batch, *rate)
        options += ("--temperature", temperature, "--no-verify")
        tool("retrain", joint, *teachers, "-o", trained, *data_options(samples), *options)
    return errors(trained, models, [DATA / f"{task}_test.npz" for task in TASKS])


def differ(net: str, joint: Path) -> str:
    """Answers that differ from the originals', mean over the tasks."""
    models = [MODELS / "zoo" / f"{net}_{task}.onnx" for task in TASKS]
    found = differing(joint, models, [DATA / f"{task}_test.npz" for task in TASKS])
    return f"{sum(found) / len(found):.2f}%"


def cells(pairs: list[tuple[float, float]]) -> list[str]:
    return [" / ".join(f"{after:.2f}" for _, after in pairs), f"{rise(pairs):+.2f}"]


def report(net: str, ways: list[str], part: int, steps: int | None, how: tuple) -> None:
    rows = []
    for name in ways:
        joint = OUT / "layers" / f"{net}_{name}{f'_part{part}' if part else ''}.onnx"
        size, found = measured(net, joint, *WAYS[name], part=part)
        words = f"`{' '.join(WAYS[name])}`" if WAYS[name] else "none"
        rows.append([words, f"{size:.1%}", *cells(found)])
        rows[-1] += cells(retrained(net, joint, steps, *how)) if steps else [differ(net, joint)]
    if not (steps or part):
        size, found = point(net, "refit", 0.9)
        off = differ(net, OUT / "curves" / f"{net}_refit_0.9.onnx")
        rows.append(["`--unit neuron --share 0.9`", f"{size:.1%}", *cells(found), off])
    before = " / ".join(f"{before:.2f}" for before, _ in found)
    print(f"\n{NETS[net]}, before {before}\n")
    header = ["options", "parameters", "MNIST / Fashion-MNIST", "rise"]
    print(table(header + (["retrained", "rise"] if steps else ["differ"]), rows), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("nets", nargs="*", metavar="NET", help=f"of {', '.join(NETS)}")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--part", type=int, choices=range(3), default=0)
    parser.add_argument("--retrain", type=int, metavar="STEPS")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--learning-rate", type=float)
    parser.add_argument("--relative-rate", type=float, default=0.01)
    parser.add_argument("--temperature", type=float, default=2.0)
    arguments = parser.parse_args()
    rate = ("--relative-rate", arguments.relative_rate)
    if arguments.learning_rate:
        rate = ("--learning-rate", arguments.learning_rate)
    how = (arguments.batch, rate, arguments.temperature)
    for net in arguments.nets or NETS:
        report(net, arguments.ways, arguments.part, arguments.retrain, how)


if __name__ == "__main__":
    main()
