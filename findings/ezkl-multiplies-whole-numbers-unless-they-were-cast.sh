#!/usr/bin/env bash
# EZKL 23.0.5 reads MatMul and Einsum of int64 where the numbers are the model's input: it takes those for floats. Where they come out of a
# Cast to int64 gen_settings refuses the very same product, because tract's MatMul and EinSum know no int64; Mul and ReduceSum of what
# was cast are read, and so is MatMul of what ArgMax gives. Casts to float before the product and back after it are read.
# Seen: as above. Fails if that changes.
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

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64
WEIGHTS = {"w": np.array([[2], [3], [-1], [4]]), "row": np.array([[2, 5]]), "two": np.array([2]),
           "f": np.array([[2], [3], [-1], [4]], np.float32)}
node = helper.make_node
CAST = [node("Floor", ["x"], ["floor"]), node("Cast", ["floor"], ["i"], to=INT64)]


def is_read(name, kind, nodes, shape):
    used = {one for node in nodes for one in node.input}
    weights = [numpy_helper.from_array(array, weight) for weight, array in WEIGHTS.items() if weight in used]
    graph = helper.make_graph(nodes, "whole", [helper.make_tensor_value_info("x", kind, [1, 4])],
                              [helper.make_tensor_value_info("y", INT64, shape)], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, "model.onnx")
    try:
        ezkl.gen_settings("model.onnx", "settings.json", py_run_args=ezkl.PyRunArgs())
        said = None
    except RuntimeError as error:
        said = f"{error}"
    print(f"{name}: {said or 'read'}")
    assert said is None or "Failed analyse" in said
    return said is None


einsum = {"equation": "ab,bc->ac"}
assert is_read("input, MatMul", INT64, [node("MatMul", ["x", "w"], ["y"])], [1, 1])
assert is_read("input, Einsum", INT64, [node("Einsum", ["x", "w"], ["y"], **einsum)], [1, 1])
assert not is_read("cast, MatMul", FLOAT, [*CAST, node("MatMul", ["i", "w"], ["y"])], [1, 1])
assert not is_read("cast, Einsum", FLOAT, [*CAST, node("Einsum", ["i", "w"], ["y"], **einsum)], [1, 1])
assert is_read("cast, Mul", FLOAT, [*CAST, node("Mul", ["i", "two"], ["y"])], [1, 4])
assert is_read("cast, ReduceSum", FLOAT, [*CAST, node("ReduceSum", ["i"], ["y"], keepdims=1)], [1, 1])
assert is_read("ArgMax, MatMul", FLOAT, [node("ArgMax", ["x"], ["i"], axis=1), node("MatMul", ["i", "row"], ["y"])], [1, 2])
around = [node("Cast", ["i"], ["g"], to=FLOAT), node("MatMul", ["g", "f"], ["p"]), node("Cast", ["p"], ["y"], to=INT64)]
assert is_read("cast, MatMul of floats", FLOAT, [*CAST, *around], [1, 1])
PYTHON
venv/bin/python tried.py 2>log || { cat log >&2; exit 1; }
