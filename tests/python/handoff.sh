#!/usr/bin/env bash
# The hand-off to ONNX Runtime training, from end to end: merge, export, train, import, verify.
set -euo pipefail
cd "$(dirname "$0")/../.."

readonly python=${ONNX_ZIP_PYTHON:-.venv/bin/python}
readonly training=${ONNX_ZIP_PYTHON_TRAINING:-.venv-training/bin/python}
readonly tool=target/release/onnx-zip
readonly a=fixtures/models/lenet5_mnist_a.onnx
readonly b=fixtures/models/lenet5_mnist_b.onnx
readonly images=fixtures/data/mnist_train.npz

if [ ! -x "$training" ]; then
    if "$python" scripts/training_wheel.py; then
        echo "$training is missing: run 'make setup'" >&2
        exit 1
    fi
    echo "SKIPPED: ONNX Runtime training has no wheel for this platform"
    exit 0
fi

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

"$training" tests/python/training_gradients.py

"$tool" merge "$a" "$b" -o "$folder/joint.onnx" --name a --name b --form switch --quiet \
    --method mtz \
    --data "$images" --scale 1/255 --samples 1000 >"$folder/merge.txt"
"$tool" retrain "$folder/joint.onnx" --export "$folder/training" --teacher "$a" --teacher "$b" \
    --data "$images" --scale 1/255 --samples 1000 --quiet
"$training" "$folder/training/train.py" --iterations 60 | tee "$folder/train.txt"
"$tool" import "$folder/training" -o "$folder/retrained.onnx"
"$python" tests/python/check_model.py "$folder/retrained.onnx" "$folder"/training/*.onnx
"$python" tests/python/handoff.py "$folder"
"$tool" verify "$folder/retrained.onnx" "$a" "$b" --data fixtures/data/mnist_test.npz \
    --scale 1/255 --samples 1000 --max-drop 3 --quiet
