"""remake_model.py MODEL_FILES: compiles model.onnx there with the settings that are there, and makes its keys."""

import sys

import ezkl

(folder,) = sys.argv[1:]
model, keys = f"{folder}/model.ezkl", (f"{folder}/model_vk.vk", f"{folder}/model_pk.pk")
assert ezkl.compile_circuit(f"{folder}/model.onnx", model, f"{folder}/settings.json")
assert ezkl.setup(model, *keys, f"{folder}/kzg.srs")
