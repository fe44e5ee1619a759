"""Functions and keywords against the commands and options of the command line."""

import inspect
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx_zip
import pytest
from conftest import run
from onnx_zip._keywords import arguments, keywords

# What stands for each command.
COMMANDS = {
    "merge": onnx_zip.merge,
    "plan": onnx_zip.plan,
    "frontier": onnx_zip.frontier,
    "inspect": onnx_zip.inspect,
    "fix": onnx_zip.fix,
    "prune": onnx_zip.prune,
    "calibrate": onnx_zip.calibrate,
    "verify": onnx_zip.verify,
    "extract": onnx_zip.Joint.extract,
    "split": onnx_zip.Joint.split,
    "strip": onnx_zip.strip,
    "retrain": onnx_zip.retrain,
    "import": onnx_zip.import_weights,
    "worker": onnx_zip.worker,
}

# Scripts for shells, and help, are of the command line only.
NOT_HERE = {"completions", "help"}

# Options in whose place functions return objects, or bytes, that can be saved and printed.
OBJECTS = {"output", "report", "json", "quiet", "verbose", "help", "version"}

# Options that are parameters of another name.
NAMED = {"name": "models", "teacher": "teachers", "input": "inputs"}


def test_every_command_has_a_function():
    listed = run("--help").stdout.split("\nCommands:\n")[1].split("\n\n")[0]
    assert set(re.findall(r"^  ([a-z]+) ", listed, re.MULTILINE)) == {*COMMANDS, *NOT_HERE}
    functions = {name for name in onnx_zip.__all__ if inspect.isfunction(getattr(onnx_zip, name))}
    assert functions <= {function.__name__ for function in COMMANDS.values()}


@pytest.mark.parametrize("command", COMMANDS)
def test_keywords_are_the_options_of_the_command_line(command):
    text = re.split(r"\nExamples?:\n", run(command, "--help").stdout)[0]
    flags = set(re.findall(r"^ +(?:-\w, )?--([a-z][a-z-]+)", text, re.MULTILINE))
    function = COMMANDS[command]
    found = inspect.signature(function).parameters
    names = {flag: flag.replace("-", "_") for flag in flags - OBJECTS}
    assert {NAMED.get(flag, name) for flag, name in names.items()} <= set(found)
    assert set(keywords(command)) <= set(names.values())
    for name in found:
        assert name == "self" or f"\n{name} : " in inspect.getdoc(function), name
    for keyword in keywords(command).values():
        parameter = found[keyword.name]
        if not keyword.is_required:
            assert parameter.default == keyword.default
        shown = re.search(rf"--{keyword.flag} <[^\n]*(?:\n(?! +-)[^\n]*)*", text)
        stated = shown and re.search(r"\[default: ([^\]\s]+)\]", shown[0])
        if stated and keyword.default is not None and not keyword.is_list:
            assert str(keyword.default) == stated[1] or float(keyword.default) == float(stated[1])


def test_types_are_those_of_the_options():
    script = Path(__file__).parents[1] / "scripts" / "stubs.py"
    subprocess.run([sys.executable, script, "--check"], check=True)


def test_values_are_written_as_the_command_line_reads_them():
    given = {
        "share": np.float32(0.5),
        "keep_shared": {"fc1": 50, "conv*": 0.5},
        "alpha": [0.25, 0.75],
        "share_outputs": True,
        "no_verify": False,
        "scale": 1 / 4,
        "until": None,
        "resize": (256, 224),
    }
    assert arguments("merge", given) == [
        "--share=0.5",
        "--keep-shared=fc1=50",
        "--keep-shared=conv*=0.5",
        "--alpha=0.25",
        "--alpha=0.75",
        "--share-outputs",
        "--scale=0.25",
        "--resize=256x224",
    ]


def test_errors_are_exceptions_with_the_sentences_of_the_command_line(digits, samples, tmp_path):
    missing = tmp_path / "missing.onnx"
    cases = [
        ([digits, missing], {}, onnx_zip.errors.FileError),
        ([digits, digits], {"keep_shared": "nothing*=1"}, onnx_zip.errors.UsageError),
        ([digits, digits], {"until": "nothing*"}, onnx_zip.errors.UsageError),
    ]
    for models, options, kind in cases:
        with pytest.raises(kind) as caught:
            onnx_zip.merge(models, data=samples, **options)
        flags = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
        found = run("merge", *models, "-o", tmp_path / "joint.onnx", "-q", *flags)
        assert found.returncode == 2
        # Options are named as keywords here.
        said = re.sub("--([a-z][a-z-]*)", lambda flag: flag[1].replace("-", "_"), found.stderr)
        assert said.strip().removeprefix("error: ") == str(caught.value)
        assert isinstance(caught.value, onnx_zip.Error)
    assert list(tmp_path.iterdir()) == []


def test_wrong_arguments_are_named(digits, samples):
    with pytest.raises(TypeError, match="unexpected keyword argument 'sharing'"):
        onnx_zip.merge([digits, digits], sharing=1)
    with pytest.raises(TypeError, match="did you mean 'target_size'?"):
        onnx_zip.merge([digits, digits], targetsize=0.6)
    with pytest.raises(TypeError, match="missing a required keyword argument: 'sparsity'"):
        onnx_zip.prune(digits)
    with pytest.raises(onnx_zip.errors.UsageError, match="a part lies between 0 and 1"):
        onnx_zip.merge([digits, digits], share=2)
    with pytest.raises(onnx_zip.errors.UsageError, match="'target_size'.* 60 percent, write 60%$"):
        onnx_zip.merge([digits, digits], target_size=60)
    with pytest.raises(TypeError, match="not int"):
        onnx_zip.merge([digits, 3])
    images, _ = samples
    with pytest.raises(onnx_zip.errors.DataError, match="no batches"):
        onnx_zip.merge([digits, digits], data=iter(()))
    with pytest.raises(onnx_zip.errors.DataError, match="image"):
        onnx_zip.merge([digits, digits], data=images.reshape(-1, 7))
    with pytest.raises(onnx_zip.errors.DataError, match="complex"):
        onnx_zip.merge([digits, digits], data=images.astype(complex))
