#!/usr/bin/env bash
# EZKL 23.0.5 keeps each lookup table that setup, mock and prove make, in a folder named after function, scale and range below
# ~/.ezkl/cache (or $EZKL_REPO_PATH/cache). It makes the folder first, and where that is there it reads the table and makes none: a process
# that was killed in between leaves an empty folder, and from then on no circuit with that function and range is set up or proven on the
# machine, in any folder and with any keys. The error names neither table nor cache. Nothing is ever removed there, and the EZKL version is
# not in the name.
# Seen: prove works; with the table's folder empty: "[halo2] General synthesis error", again and again; without the folder: works. Fails if
# that changes.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check ezkl==23.0.5 onnx==1.19.1
export EZKL_REPO_PATH=$work/repository
cat >tried.py <<'PYTHON'
import json
import shutil
from pathlib import Path

import ezkl
import onnx
from onnx import TensorProto, helper

CACHE = Path("repository/cache")
value = lambda name: helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 2])
graph = helper.make_graph([helper.make_node("Sigmoid", ["x"], ["y"])], "bent", [value("x")], [value("y")])
onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8), "model.onnx")
Path("input.json").write_text(json.dumps({"input_data": [[0.5, -0.25]]}))
arguments = ezkl.PyRunArgs()
arguments.logrows, arguments.lookup_range = 12, (-1000, 1000)
ezkl.gen_settings("model.onnx", "settings.json", py_run_args=arguments)
ezkl.compile_circuit("model.onnx", "model.ezkl", "settings.json")
ezkl.gen_witness("input.json", "model.ezkl", "witness.json")
ezkl.gen_srs("kzg.srs", 12)
assert not CACHE.exists()
ezkl.setup("model.ezkl", "vk", "pk", srs_path="kzg.srs")
(folder,) = CACHE.glob("sigmoid_*")
print(f"setup left {folder.name}: {sorted(file.name for file in folder.iterdir())}")


def proven(when):
    try:
        ezkl.prove("witness.json", "model.ezkl", "pk", "proof.json", srs_path="kzg.srs")
        answer = "proven"
    except RuntimeError as error:
        answer = f"{error}"
    print(f"{when}: {answer}")
    return answer


assert proven("whole") == "proven"
shutil.rmtree(folder)
folder.mkdir()
empty = proven("empty folder")
assert "General synthesis error" in empty and "cache" not in empty
assert proven("again") == empty
folder.rmdir()
assert proven("without") == "proven" and sorted(folder.iterdir())
PYTHON
venv/bin/python tried.py 2>log || { cat log >&2; exit 1; }
