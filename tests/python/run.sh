#!/usr/bin/env bash
# Checks from outside the tool: the ONNX project's checker and Python's ONNX Runtime on the fixtures
# and on freshly merged models.
set -euo pipefail
cd "$(dirname "$0")/../.."

readonly python=${ONNX_ZIP_PYTHON:-.venv/bin/python}
readonly tool=target/release/onnx-zip
readonly a=fixtures/models/lenet300_mnist_a.onnx
readonly b=fixtures/models/lenet300_fashion.onnx
joint=$(mktemp -d)
trap 'rm -rf "$joint"' EXIT

"$python" tests/python/check_model.py fixtures/models/*.onnx fixtures/models/zoo/*.onnx
# The margin above the known 1.72 % and 10.00 % covers other processors' rounding only.
"$python" tests/python/error_rate.py fixtures/data/mnist_test.npz \
    fixtures/models/*_mnist_*.onnx --at-most 1.75
"$python" tests/python/error_rate.py fixtures/data/fashion_test.npz \
    fixtures/models/*_fashion.onnx --at-most 10.05

for form in heads masked switch; do
    # Sharing nothing must change nothing.
    "$tool" merge "$a" "$b" -o "$joint/$form.onnx" --form "$form" --share 0 --quiet
    "$python" tests/python/parity.py "$joint/$form.onnx" --form "$form" --tolerance 1e-5 \
        --task "lenet300_mnist_a=$a" --task "lenet300_fashion=$b"
    "$tool" merge "$a" "$b" -o "$joint/${form}_shared.onnx" --form "$form" --share 1.0 --quiet \
        --data fixtures/data/mnist_train.npz --data fixtures/data/fashion_train.npz --scale 1/255
done
"$python" tests/python/check_model.py "$joint"/*.onnx

# Nets with sub-graphs, with weights in few bits, with outputs of every type.
"$python" tests/python/odd_graphs.py

# What people do with a joint model next keeps its saving and its answers.
deploy() {
    local form=$1 merged=$2 one=$3 other=$4
    "$tool" strip "$merged" -o "$joint/device.onnx"
    "$python" tests/python/deploy.py "$joint/device.onnx" --form "$form" --model "$one" --model "$other" \
        --data fixtures/data/mnist_test.npz --data fixtures/data/fashion_test.npz
}
for form in heads masked switch; do
    deploy "$form" "$joint/${form}_shared.onnx" "$a" "$b"
done
readonly conv=fixtures/models/zoo/resnet
"$tool" merge ${conv}_mnist.onnx ${conv}_fashion.onnx -o "$joint/conv.onnx" --share 1 --quiet \
    --data fixtures/data/mnist_train.npz --data fixtures/data/fashion_train.npz --scale 1/255 \
    --samples 200 --max-rows 4096 --no-verify --no-compare
deploy heads "$joint/conv.onnx" ${conv}_mnist.onnx ${conv}_fashion.onnx

# What the pages tell people to type.
"$python" tests/python/guides.py

tests/python/handoff.sh
