#!/usr/bin/env bash
# EZKL 23.0.5: a Div of whole numbers (int64) by a negative constant has a witness with the right quotients, for every input, and mock refuses
# each of them ("Equality constraint not satisfied"): such a circuit proves nothing. By the positive constant, and of floats by the
# negative one, all is well. So divide by the magnitude and negate.
# Seen: int64 / 3 and float / -3 pass, int64 / -3 is refused with the right numbers in the witness. Fails if that changes.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check ezkl==23.0.5 onnx==1.19.1
cat >tried.py <<'PYTHON'
import json

import ezkl
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def passes(name, kind, divisor, row):
    value = lambda name: helper.make_tensor_value_info(name, kind, [1, len(row)])
    graph = helper.make_graph([helper.make_node("Div", ["x", "d"], ["y"])], "quotients", [value("x")], [value("y")],
                              [numpy_helper.from_array(divisor, "d")])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8), "model.onnx")
    arguments = ezkl.PyRunArgs()
    arguments.input_scale = arguments.param_scale = 10
    arguments.logrows = 15
    ezkl.gen_settings("model.onnx", "settings.json", py_run_args=arguments)
    ezkl.compile_circuit("model.onnx", "model.ezkl", "settings.json")
    ezkl.gen_witness(json.dumps({"input_data": [row]}), "model.ezkl", "witness.json")
    found = [float(one) for one in json.load(open("witness.json"))["pretty_elements"]["rescaled_outputs"][0]]
    assert np.allclose(found, np.array(row) / float(divisor), atol=0.01), found
    try:
        said = ezkl.mock("witness.json", "model.ezkl")
    except RuntimeError as error:
        said = f"{error}"
        assert "constraint" in said
    print(f"{name}: {found}, mock: {said if said is True else 'refused'}")
    return said is True


for row in ([3.0, 6.0, -9.0, 12.0], [1.0, -4.0, 0.0, 7.0]):
    assert passes("int64 / 3", TensorProto.INT64, np.array(3), row)
    assert passes("float / -3", TensorProto.FLOAT, np.array(-3, np.float32), row)
    assert not passes("int64 / -3", TensorProto.INT64, np.array(-3), row)
PYTHON
venv/bin/python tried.py 2>log || { cat log >&2; exit 1; }
