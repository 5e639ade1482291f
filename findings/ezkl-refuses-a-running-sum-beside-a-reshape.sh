#!/usr/bin/env bash
# EZKL 23.0.5 reads CumSum, and it reads Reshape, but gen_settings refuses a model that has one after the other, in either order and with
# an Add between them: tract makes CumSum a loop, and its pass that moves axes ("running pass ChangeAxes") fails on the loop. Unsqueeze and
# Transpose in the same place are read. A product with a triangular matrix of ones is read everywhere, and is the same sum.
# Seen: CumSum, Transpose → CumSum and the product are read, Reshape → CumSum and CumSum → Reshape refused. Fails if that changes.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check ezkl==23.0.5 onnx==1.19.1
cat >tried.py <<'PYTHON'
import numpy as np
import ezkl
import onnx
from onnx import TensorProto, helper, numpy_helper

WEIGHTS = {"axis": np.array(1), "row": np.array([1, 8]), "image": np.array([1, 2, 4]), "ones": np.triu(np.ones((8, 8), np.float32))}


def is_read(name, nodes, given, made):
    value = lambda name, shape: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
    used = {one for node in nodes for one in node.input}
    weights = [numpy_helper.from_array(array, weight) for weight, array in WEIGHTS.items() if weight in used]
    graph = helper.make_graph(nodes, "sums", [value("x", given)], [value("y", made)], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, "model.onnx")
    try:
        ezkl.gen_settings("model.onnx", "settings.json", py_run_args=ezkl.PyRunArgs())
        said = None
    except RuntimeError as error:
        said = f"{error}"
    print(f"{name}: {said or 'read'}")
    assert said is None or "running pass ChangeAxes" in said
    return said is None


node = helper.make_node
assert is_read("CumSum", [node("CumSum", ["x", "axis"], ["y"])], [1, 8], [1, 8])
assert is_read("Transpose, CumSum", [node("Transpose", ["x"], ["t"], perm=[1, 0]), node("CumSum", ["t", "axis"], ["y"])], [8, 1], [1, 8])
assert is_read("Reshape, product", [node("Reshape", ["x", "row"], ["r"]), node("MatMul", ["r", "ones"], ["y"])], [1, 2, 4], [1, 8])
assert not is_read("Reshape, CumSum", [node("Reshape", ["x", "row"], ["r"]), node("CumSum", ["r", "axis"], ["y"])], [1, 2, 4], [1, 8])
assert not is_read("CumSum, Reshape", [node("CumSum", ["x", "axis"], ["r"]), node("Reshape", ["r", "image"], ["y"])], [1, 8], [1, 2, 4])
PYTHON
venv/bin/python tried.py 2>log || { cat log >&2; exit 1; }
