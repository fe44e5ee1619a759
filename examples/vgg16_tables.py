"""The paper's Tables 2 and 3 for a pair of VGG-16: layer after layer, with retraining in between.

    .venv/bin/python examples/vgg16_tables.py                   # the nets of fixtures/train_vgg16.py
    .venv/bin/python examples/vgg16_tables.py --table 2 --method refit --steps 50
    .venv/bin/python examples/vgg16_tables.py A.onnx B.onnx --data A.npz --data B.npz --scale 1/255

Table 2 shares all neurons of all hidden layers, Table 3 as many of each layer as the paper does, relative
to its width. The tool measures errors before and after the retraining behind each merged layer, on
labelled samples that neither the merge nor its retraining draws. Without labels there are losses in place
of errors. The nets of fixtures/train_vgg16.py are merged on training images that they have not seen, and
the last row is measured on all 10 000 test images.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import onnxruntime as ort

from experiment import NEURONS, ROOT, data_options, table, tool

TRAINED = ROOT / "out" / "vgg16"
TASKS = ["mnist", "fashion"]
# Training images before this one are those that `train_vgg16.py` takes, or fewer.
LEFT = 50_000
# The neurons of each hidden layer that Table 3 of the paper shares, and those of VGG-16.
SHARED = [64, 64, 96, 96, 192, 192, 192, 384, 320, 320, 436, 436, 436, 1792, 4096]
OF_ALL = [64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512, 4096, 4096]


def pools(count):
    """Labelled images of both tasks: a merge draws half of them, and errors are measured on the others."""
    paths = []
    for task in TASKS:
        path = TRAINED / f"{task}_{count}.npz"
        if not path.exists():
            arrays = np.load(TRAINED / f"{task}_train.npz")
            np.savez(path, **{key: arrays[key][LEFT : LEFT + count] for key in arrays.files})
        paths.append(path)
    return paths


def hidden(models):
    """The layers that can be shared."""
    plan = json.loads(tool("plan", *models, *NEURONS, "--share", 1, "--json"))
    return [site for site in plan["prediction"]["sites"] if site["reason"] is None]


def limits(sites):
    """Counts of shared neurons as in Table 3."""
    if len(sites) != len(SHARED):
        raise SystemExit(f"Table 3 is about {len(SHARED)} hidden layers, and here are {len(sites)}")
    rules = []
    for site, shared, of_all in zip(sites, SHARED, OF_ALL):
        count = round(min(site["neurons"]) * shared / of_all)
        rules += ["--keep-shared", f"{site['layers'][0]}={count}"]
    return rules


def merged(joint, number, method, options):
    """The report of a merge, made once."""
    report = joint.with_suffix(".json")
    if not report.exists():
        sites = hidden(options.models)
        tool("merge", *options.models, "-o", joint, *options.data, *NEURONS, "--share", 1,
             *(limits(sites) if number == 3 else []), "--method", method, "--samples",
             options.samples, "--batch", options.batch, "--threads", options.threads,
             "--retrain", "per-layer", "--iterations", options.steps * len(sites),
             "--report", report, "--no-verify", "--no-compare")
    return json.loads(report.read_text())


def rows(report):
    """One row for the originals, and one for each layer with what its round of retraining did."""
    retrained, layers = report["retraining"], {site["layers"][0]: site for site in report["layers"]}
    before = [f"{100 * error:.2f}" for error in retrained.get("originals", [])]
    if before:
        yield ["originals", "", "", *before]
    for turn in retrained["rounds"]:
        name = turn["layers"][0]
        site, errors = layers[name], turn.get("errors")
        changes = [f"{100 * e['before']:.2f} → {100 * e['after']:.2f}" for e in errors or []]
        losses = [f"{t['before']['loss']:.4f} → {t['after']['loss']:.4f}" for t in turn["tasks"]]
        # Exporters put the layer's name before that of its operator.
        short = name.split("/")[-2] if "/" in name else name
        neurons = f"{site['shared']} of {min(site['neurons'])}"
        yield [short, neurons, str(turn["iterations"]), *(changes if errors else losses)]


def tested(joint):
    """The row of all test images: errors of the original nets and of the joint model, in percent."""
    changes = []
    for place, task in enumerate(TASKS):
        arrays = np.load(TRAINED / f"{task}_test.npz")
        images = arrays["image"][:, None].astype(np.float32) / 255
        errors = []
        for model, output in [(TRAINED / f"{task}.onnx", 0), (joint, place)]:
            session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
            inputs, name = session.get_inputs(), session.get_outputs()[output].name
            scores = [session.run([name], {port.name: part for port in inputs})[0]
                      for part in np.array_split(images, 20)]
            wrong = np.concatenate(scores).argmax(axis=1) != arrays["labels"]
            errors.append(100 * float(wrong.mean()))
        changes.append("{:.2f} → {:.2f}".format(*errors))
    return ["original → joint, all test images", "", "", *changes]


def show(number, method, options):
    joint = options.out / f"table{number}_{method}.onnx"
    report = merged(joint, number, method, options)
    found = list(rows(report))
    if options.are_ours:
        found.append(tested(joint))
    names = [task["name"] for task in report["tasks"]]
    parameters = report["joint"]["parameters"]
    print(f"\nTable {number}, --method {method}: {report['compression']}, {parameters}\n")
    print(table(["layer", "shared", "iterations", *names], found), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", type=Path, help="two models")
    parser.add_argument("--data", action="append", type=Path, help="once, or once per model")
    parser.add_argument("--scale", help="as of onnx-zip merge")
    parser.add_argument("--table", type=int, choices=[2, 3], action="append", help="default: both")
    parser.add_argument("--method", choices=["mtz", "refit"], action="append", help="default: both")
    parser.add_argument("--samples", type=int, default=2000, help="of each task to merge and train on")
    parser.add_argument("--steps", type=int, default=10, help="of retraining behind each layer")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=TRAINED, help="folder of results, which are kept")
    options = parser.parse_args()
    options.are_ours = not options.models
    if options.are_ours:
        options.models = [TRAINED / f"{task}.onnx" for task in TASKS]
        options.data = data_options(pools(2 * options.samples))
    else:
        options.data = [word for file in options.data or [] for word in ("--data", file)]
        options.data += ["--scale", options.scale] if options.scale else []
    options.out.mkdir(parents=True, exist_ok=True)
    for number in options.table or [2, 3]:
        for method in options.method or ["mtz", "refit"]:
            show(number, method, options)


if __name__ == "__main__":
    main()
