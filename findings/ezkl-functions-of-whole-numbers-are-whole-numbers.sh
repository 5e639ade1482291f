#!/usr/bin/env bash
# EZKL 23.0.5: tables (sigmoid, exp, log, tanh …), sqrt, softmax and average pooling are computed at the scale of their input, and what is
# cast from whole numbers or from bool has scale 0. So sigmoid(cast(2)) is 1, sqrt(cast(6)) is 2, without a word, whatever the scales asked
# for. A factor in front brings its own scale: sigmoid(cast(2) * 1.0000001) is right; a factor of exactly 1 is optimised away.
# Seen: 1 and 2 without the factor, 0.8808 and 2.4495 with it. Fails if that changes.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check ezkl==23.0.5 onnx==1.19.1
cat >whole.py <<'PYTHON'
import json
import ezkl, onnx
from onnx import TensorProto, helper, numpy_helper
import numpy as np

FACTORS = {"none": None, "1": np.float32(1), "1.0000001": np.nextafter(np.float32(1), np.float32(2))}


def circuit(function, number, factor):
    nodes, weights, last = [helper.make_node("Cast", ["x"], ["f"], to=TensorProto.FLOAT)], [], "f"
    if factor is not None:
        nodes.append(helper.make_node("Mul", ["f", "factor"], ["g"]))
        weights, last = [numpy_helper.from_array(np.asarray(factor), "factor")], "g"
    nodes.append(helper.make_node(function, [last], ["y"]))
    graph = helper.make_graph(
        nodes, "whole", [helper.make_tensor_value_info("x", TensorProto.INT64, [1, 1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1])], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), "model.onnx")
    args = ezkl.PyRunArgs()
    args.input_scale = args.param_scale = 11
    args.logrows = 17
    assert ezkl.gen_settings("model.onnx", "settings.json", py_run_args=args)
    assert ezkl.compile_circuit("model.onnx", "model.ezkl", "settings.json")
    witness = ezkl.gen_witness(json.dumps({"input_data": [[number]]}), "model.ezkl", "witness.json")
    return ezkl.felt_to_float(witness["outputs"][0][0], json.load(open("settings.json"))["model_output_scales"][0])


for function, number, right, wrong in (("Sigmoid", 2, 0.8808, 1.0), ("Sqrt", 6, 2.4495, 2.0)):
    seen = {name: circuit(function, number, factor) for name, factor in FACTORS.items()}
    print(f"ezkl {ezkl.__version__}: {function}({number}) = {right}: by factor {seen}")
    assert seen["none"] == seen["1"] == wrong and abs(seen["1.0000001"] - right) < 0.001, seen
PYTHON
venv/bin/python whole.py
