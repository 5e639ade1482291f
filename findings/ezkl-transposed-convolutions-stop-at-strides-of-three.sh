#!/usr/bin/env bash
# EZKL 23.0.5 reads ConvTranspose with strides of 1 and 2. From 3 on gen_settings refuses it whatever the kernel and the pads: what it
# computes is (stride - 2) places longer in that direction than tract and ONNX say, and does not fit the shape that it expects. Zeros put
# between the places by a product with a fixed matrix, and the same kernel with a stride of 1, are read, and are the same.
# Seen: strides 1 and 2 read; 3: 20 numbers for [1, 2, 9]; 4: 28 for [1, 2, 12]; zeros between: read. Fails if that changes.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check ezkl==23.0.5 onnx==1.19.1
cat >tried.py <<'PYTHON'
import re

import numpy as np
import ezkl
import onnx
from onnx import TensorProto, helper, numpy_helper

CHANNELS, PLACES = 2, 3


def said(name, nodes, weights, length):
    value = lambda name, shape: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
    made = [numpy_helper.from_array(array.astype(np.float32), weight) for weight, array in weights.items()]
    graph = helper.make_graph(nodes, "transposed", [value("x", [1, CHANNELS, PLACES])], [value("y", [1, CHANNELS, length])], made)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, "model.onnx")
    try:
        ezkl.gen_settings("model.onnx", "settings.json", py_run_args=ezkl.PyRunArgs())
        answer = None
    except RuntimeError as error:
        answer = f"{error}"
    print(f"{name}: {answer or 'read'}")
    return answer


def transposed(given, stride, size):
    return helper.make_node("ConvTranspose", [given, "kernel"], ["y"], kernel_shape=[size], strides=[stride], pads=[0, 0])


def kernel(size):
    return (np.arange(CHANNELS * CHANNELS * size).reshape(CHANNELS, CHANNELS, size) % 5 - 2) / 4


for stride in (1, 2, 3, 4):
    length = (PLACES - 1) * stride + stride
    answer = said(f"stride {stride}", [transposed("x", stride, stride)], {"kernel": kernel(stride)}, length)
    if stride < 3:
        assert answer is None
    else:
        numbers, places = map(int, re.search(r"length (\d+) to \[1, 2, (\d+)\]", answer).groups())
        assert places == length and numbers == CHANNELS * (length + stride - 2)
spread = np.zeros((PLACES, (PLACES - 1) * 3 + 1))
spread[np.arange(PLACES), np.arange(PLACES) * 3] = 1
nodes = [helper.make_node("MatMul", ["x", "spread"], ["wide"]), transposed("wide", 1, 3)]
assert said("zeros between, stride 1", nodes, {"spread": spread, "kernel": kernel(3)}, 9) is None
PYTHON
venv/bin/python tried.py 2>log || { cat log >&2; exit 1; }
