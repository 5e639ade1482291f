#!/usr/bin/env bash
# EZKL 23.0.5: Equal of floats is 1 in the circuit, but at the scale of its inputs, where every other comparison has scale 0. Cast to a
# number (or taken as an output) "true" is 2^-scale, 0.00012 at scale 13. As a condition of Where it is right; so is Not(Not(Equal)), since
# Not has scale 0. The list of operators of scale 0 in `out_scale` of EZKL's src/circuit/ops/hybrid.rs leaves Equals out.
# Seen: 1 == 1 is 2^-7, Not(Not(1 == 1)) is 1, 1 >= 1 is 1. Fails if that changes.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check ezkl==23.0.5 onnx==1.19.1
cat >equal.py <<'PYTHON'
import json
import ezkl, onnx
from onnx import TensorProto, helper, numpy_helper
import numpy as np


def circuit(*operators):
    names = ["x"] + [f"b{at}" for at in range(len(operators))]
    nodes = [helper.make_node(operators[0], ["x", "one"], ["b0"])]
    nodes += [helper.make_node(operator, [names[at + 1]], [names[at + 2]]) for at, operator in enumerate(operators[1:])]
    nodes.append(helper.make_node("Cast", [names[-1]], ["y"], to=TensorProto.FLOAT))
    graph = helper.make_graph(
        nodes, "equal", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1])], [numpy_helper.from_array(np.float32([[1]]), "one")])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), "model.onnx")
    args = ezkl.PyRunArgs()
    args.input_scale = args.param_scale = 7
    args.logrows = 15
    assert ezkl.gen_settings("model.onnx", "settings.json", py_run_args=args)
    assert ezkl.compile_circuit("model.onnx", "model.ezkl", "settings.json")
    witness = ezkl.gen_witness(json.dumps({"input_data": [[1.0]]}), "model.ezkl", "witness.json")
    return ezkl.felt_to_float(witness["outputs"][0][0], json.load(open("settings.json"))["model_output_scales"][0])


equal, twice, at_least = circuit("Equal"), circuit("Equal", "Not", "Not"), circuit("GreaterOrEqual")
print(f"ezkl {ezkl.__version__}: 1 == 1 is {equal}, Not(Not(1 == 1)) is {twice}, 1 >= 1 is {at_least}")
assert (equal, twice, at_least) == (2**-7, 1.0, 1.0)
PYTHON
venv/bin/python equal.py
