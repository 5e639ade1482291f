#!/usr/bin/env bash
# EZKL 23.0.5 reads other numbers than ONNX Runtime for a dense layer behind a convolution, if another dense layer and a Reshape stand
# before it (MatMul, Reshape, Conv, Flatten, MatMul: a convolution over tabular data). Nothing warns: the witness passes mock, so what is
# proven is wrong. tract drops the batch axis of one, the second product becomes "ak,kn->mn" with an output axis that no input has, and
# settings.json shows that equation. A Gather of all places in their order before each product keeps the axes, and costs no rows.
# Seen: without the first product right, with it wrong and an equation with a lost axis, with the Gather right. Fails if that changes.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check ezkl==23.0.5 onnx==1.19.1 onnxruntime==1.23.2
cat >tried.py <<'PYTHON'
import json

import ezkl
import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

WEIGHTS = {"eye8": np.eye(8, dtype=np.float32), "eye3": np.eye(3, dtype=np.float32), "image": np.array([1, 2, 4]),
           "kernel": np.array([[[1, 2], [4, 8]]], np.float32), "places": np.arange(3)}
ROW = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]
node = helper.make_node
conv = [node("Reshape", ["a", "image"], ["i"]), node("Conv", ["i", "kernel"], ["c"], strides=[1], kernel_shape=[2]), node("Flatten", ["c"], ["f"])]


def tried(name, nodes):
    """Whether EZKL's numbers are ONNX Runtime's, and whether an equation makes an axis that it is not given."""
    used = {one for each in nodes for one in each.input}
    weights = [numpy_helper.from_array(array, weight) for weight, array in WEIGHTS.items() if weight in used]
    value = lambda name, size: helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, size])
    graph = helper.make_graph(nodes, "dense", [value("x", 8)], [value("y", 3)], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, "model.onnx")
    wanted = onnxruntime.InferenceSession("model.onnx").run(None, {"x": np.array([ROW], np.float32)})[0].ravel()
    arguments = ezkl.PyRunArgs()
    arguments.input_scale = arguments.param_scale = 10
    arguments.logrows = 14
    ezkl.gen_settings("model.onnx", "settings.json", py_run_args=arguments)
    ezkl.compile_circuit("model.onnx", "model.ezkl", "settings.json")
    ezkl.gen_witness(json.dumps({"input_data": [ROW]}), "model.ezkl", "witness.json")
    assert ezkl.mock("witness.json", "model.ezkl")
    found = [float(one) for one in json.load(open("witness.json"))["pretty_elements"]["rescaled_outputs"][0]]
    equations = [equation for equation, _ in json.load(open("settings.json"))["einsum_params"]["equations"]]
    lost = [equation for equation in equations if set(equation.split("->")[1]) - set(equation.split("->")[0])]
    print(f"{name}: ONNX Runtime {wanted.tolist()}, EZKL {found}, mock passes, axes lost in {lost}")
    return np.allclose(found, wanted, atol=0.1), bool(lost)


product, last = [node("MatMul", ["x", "eye8"], ["a"])], [node("MatMul", ["f", "eye3"], ["y"])]
held = [node("Gather", ["f", "places"], ["g"], axis=1), node("MatMul", ["g", "eye3"], ["y"])]
assert tried("no product before", [node("Relu", ["x"], ["a"]), *conv, *last]) == (True, False)
assert tried("a product before", [*product, *conv, *last]) == (False, True)
assert tried("with a gather", [*product, *conv, *held]) == (True, False)
PYTHON
venv/bin/python tried.py 2>log || { cat log >&2; exit 1; }
