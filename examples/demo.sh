#!/usr/bin/env bash
# Merges three pairs of trained networks, all hidden layers fully shared and nothing retrained, and
# ends with one table: file sizes, parameters, and every task's test error before and after.
# Run it with `make demo`; the joint models and reports stay in out/.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly tool=target/release/onnx-zip
readonly models=fixtures/models
readonly data=fixtures/data
names=()

# demo NAME MODEL_A DATASET_A MODEL_B DATASET_B
demo() {
    local name=$1 a="$models/$2.onnx" set_a=$3 b="$models/$4.onnx" set_b=$5
    local joint="out/joint_$name.onnx"
    printf '\n== %s: %s + %s\n' "$name" "$2" "$4"
    "$tool" merge "$a" "$b" -o "$joint" --share 1.0 --report "out/$name.json" \
        --data "$data/${set_a}_train.npz" --data "$data/${set_b}_train.npz" --scale 1/255
    "$tool" verify "$joint" "$a" "$b" --json \
        --data "$data/${set_a}_test.npz" --data "$data/${set_b}_test.npz" --scale 1/255 \
        >"out/$name.verify.json"
    names+=("$name")
}

mkdir -p out
demo lenet300_mnist_mnist lenet300_mnist_a mnist lenet300_mnist_b mnist
demo lenet300_mnist_fashion lenet300_mnist_a mnist lenet300_fashion fashion
demo lenet5_mnist_mnist lenet5_mnist_a mnist lenet5_mnist_b mnist
echo
.venv/bin/python examples/demo_table.py out "${names[@]}"
