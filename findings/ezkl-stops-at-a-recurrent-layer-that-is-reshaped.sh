#!/usr/bin/env bash
# EZKL 23.0.5 reads GRU, LSTM and RNN, and refuses one whose states go into a Reshape: tract, which reads models for it, makes a loop of the
# layer, and its pass ChangeAxes, which moves axes of one element about, stops there. So the plainest recurrent model, all states flattened
# for a dense layer, has no circuit, and the same with a Relu between the layer and the Reshape has; the error names no node.
# Seen, for each of the three: Relu, MatMul: read; Reshape: "running pass ChangeAxes"; Relu, then Reshape: read. Fails if that changes.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check ezkl==23.0.5 onnx==1.19.1
cat >tried.py <<'PYTHON'
import ezkl
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

STEPS, WIDTH = 3, 2
GATES = {"GRU": 3, "LSTM": 4, "RNN": 1}
ENDS = {
    "Relu": ([("Relu", ["states"], "y")], [STEPS, 1, 1, WIDTH]),
    "MatMul": ([("MatMul", ["states", "dense"], "y")], [STEPS, 1, 1, 4]),
    "Reshape": ([("Reshape", ["states", "row"], "y")], [1, STEPS * WIDTH]),
    "Relu, Reshape": ([("Relu", ["states"], "bent"), ("Reshape", ["bent", "row"], "y")], [1, STEPS * WIDTH]),
}


def said(operator, name):
    value = lambda name, shape: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
    numbers = lambda *shape: (np.arange(np.prod(shape)).reshape(shape) % 7 - 3).astype(np.float32) / 8
    end, shape = ENDS[name]
    nodes = [helper.make_node(operator, ["x", "w", "r"], ["states"], hidden_size=WIDTH)]
    nodes += [helper.make_node(kind, given, [made]) for kind, given, made in end]
    rows = GATES[operator] * WIDTH
    weights = {"w": numbers(1, rows, WIDTH), "r": numbers(1, rows, WIDTH), "dense": numbers(WIDTH, 4), "row": np.array([1, STEPS * WIDTH])}
    taken = {given for node in nodes for given in node.input}
    made = [numpy_helper.from_array(array, weight) for weight, array in weights.items() if weight in taken]
    graph = helper.make_graph(nodes, "recurrent", [value("x", [STEPS, 1, WIDTH])], [value("y", shape)], made)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, "model.onnx")
    try:
        ezkl.gen_settings("model.onnx", "settings.json", py_run_args=ezkl.PyRunArgs())
        answer = "read"
    except RuntimeError as error:
        answer = f"{error}".split(";")[0]
    print(f"{operator}, {name}: {answer}")
    return answer


for operator in GATES:
    for name in ENDS:
        answer = said(operator, name)
        assert ("ChangeAxes" in answer) if name == "Reshape" else answer == "read"
PYTHON
venv/bin/python tried.py 2>log || { cat log >&2; exit 1; }
