#!/usr/bin/env bash
# EZKL 23.0.5: where every input of a model is of an integer type, calibrate_settings chooses input_scale 0 and leaves all precision in
# param_scale. A second calibration that takes the first one's input_scale as *the* scale (calibrate_settings(scales=[…]) sets both) makes
# a circuit whose weights and output are whole numbers, without a word: its proofs are valid, and of another function.
# Seen: input_scale 0 and param_scale above 0; with scales=[0] sigmoid(0.31) is 1. Fails if that changes.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check ezkl==23.0.5 onnx==1.19.1
cat >scale.py <<'PYTHON'
import json
import ezkl, onnx
from onnx import TensorProto, helper, numpy_helper
import numpy as np

weights = numpy_helper.from_array(np.array([[0.31], [-0.27]], np.float32), "w")
graph = helper.make_graph(
    [helper.make_node("Cast", ["x"], ["f"], to=TensorProto.FLOAT), helper.make_node("MatMul", ["f", "w"], ["m"]),
     helper.make_node("Sigmoid", ["m"], ["y"])], "counts",
    [helper.make_tensor_value_info("x", TensorProto.INT64, [1, 2])],
    [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1])], [weights])
onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), "model.onnx")
rows = np.random.default_rng(1).integers(0, 6, (64, 2))
json.dump({"input_data": [[float(n) for n in rows.flatten()]]}, open("rows.json", "w"))
json.dump({"input_data": [[1.0, 0.0]]}, open("input.json", "w"))


def calibrated(**more):
    assert ezkl.gen_settings("model.onnx", "settings.json")
    assert ezkl.calibrate_settings("rows.json", "model.onnx", "settings.json", "resources", **more)
    settings = json.load(open("settings.json"))
    assert ezkl.compile_circuit("model.onnx", "model.ezkl", "settings.json")
    witness = ezkl.gen_witness("input.json", "model.ezkl")
    output = ezkl.felt_to_float(witness["outputs"][0][0], settings["model_output_scales"][0])
    return settings["run_args"]["input_scale"], settings["run_args"]["param_scale"], output


first = calibrated()
print(f"ezkl {ezkl.__version__}: calibrated: input_scale {first[0]}, param_scale {first[1]}, sigmoid(0.31) = {first[2]:.4f}")
again = calibrated(scales=[first[0]])
print(f"with scales=[{first[0]}]: input_scale {again[0]}, param_scale {again[1]}, sigmoid(0.31) = {again[2]:.4f}")
assert first[0] == 0 and first[1] > 0 and abs(first[2] - 0.5769) < 0.05, first
assert again[1] == 0 and again[2] == 1.0, again
PYTHON
venv/bin/python scale.py
