#!/usr/bin/env bash
# EZKL 23.0.5: with hashed parameters and public inputs a proof's instances are hash, inputs, outputs. One would expect inputs first, as
# in every other combination of visibilities, and as the witness lists them. A prover that commits to the instances in that order
# (a hash of them on chain, say) can never open the commitment. The order is made in prepare_public_inputs of EZKL's src/graph/mod.rs.
# Seen: hash, 4 inputs, output. Fails if another order is seen.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check ezkl==23.0.5 onnx==1.19.1
cat >order.py <<'PYTHON'
import json
import ezkl, onnx
from onnx import TensorProto, helper, numpy_helper
import numpy as np

weights = numpy_helper.from_array(np.array([[0.5], [-0.25], [1.0], [0.75]], np.float32), "w")
graph = helper.make_graph(
    [helper.make_node("MatMul", ["x", "w"], ["y"])], "linear",
    [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4])],
    [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1])], [weights])
onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), "model.onnx")

args = ezkl.PyRunArgs()
args.input_visibility, args.param_visibility, args.output_visibility = "public", "hashed", "public"
args.input_scale = args.param_scale = 7
args.logrows = 15
assert ezkl.gen_settings("model.onnx", "settings.json", py_run_args=args)
json.dump({"input_data": [[1.0, 2.0, 3.0, 4.0]]}, open("input.json", "w"))
assert ezkl.compile_circuit("model.onnx", "model.ezkl", "settings.json")
ezkl.gen_srs("kzg.srs", json.load(open("settings.json"))["run_args"]["logrows"])
assert ezkl.setup("model.ezkl", "vk", "pk", "kzg.srs")
ezkl.gen_witness("input.json", "model.ezkl", "witness.json")
ezkl.prove("witness.json", "model.ezkl", "pk", "proof.json", "kzg.srs")
assert ezkl.verify("proof.json", "settings.json", "vk", "kzg.srs")

witness = json.load(open("witness.json"))
names = {felt: f"input {i}" for i, felt in enumerate(witness["inputs"][0])}
names |= {witness["outputs"][0][0]: "output", witness["processed_params"]["poseidon_hash"][0]: "hash of the parameters"}
seen = [names[felt] for felt in json.load(open("proof.json"))["instances"][0]]
print(f"ezkl {ezkl.__version__}: {', '.join(seen)}")
assert seen == ["hash of the parameters", "input 0", "input 1", "input 2", "input 3", "output"], seen
PYTHON
venv/bin/python order.py
