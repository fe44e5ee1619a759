"""The examples of the documentation, run as they stand."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]


def examples():
    for page in ("README.md", "python/README.md", "docs/python.md"):
        text = (ROOT / page).read_text(encoding="utf-8")
        for number, code in enumerate(text.split("```python\n")[1:]):
            code = code.split("```")[0]
            if "onnx_zip" in code:
                yield pytest.param(page, code, id=f"{page}-{number}")


@pytest.mark.parametrize(("page", "code"), list(examples()))
def test_examples_run(page, code, digits, others, samples, tmp_path, monkeypatch):
    images, labels = samples
    shutil.copy(digits, tmp_path / "cats.onnx")
    shutil.copy(others, tmp_path / "cars.onnx")
    np.savez(tmp_path / "cats.npz", image=images, labels=labels)
    np.savez(tmp_path / "cars.npz", image=images, labels=labels)
    monkeypatch.chdir(tmp_path)
    loader = [(images[at : at + 50], labels[at : at + 50]) for at in range(0, 600, 50)]
    names = {"images": images, "cat_images": images, "car_loader": loader}
    # A name says which page is wrong.
    exec(compile(code, page, "exec"), names)
    assert os.listdir(tmp_path)
