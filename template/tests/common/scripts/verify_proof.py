"""verify_proof.py PROOF MODEL_FILES: prints the output that a proof shows, or why EZKL does not accept it."""

import json
import sys

import ezkl

proof, folder = sys.argv[1:]
try:
    valid = ezkl.verify(
        proof_path=proof,
        settings_path=f"{folder}/settings.json",
        vk_path=f"{folder}/model_vk.vk",
        srs_path=f"{folder}/kzg.srs",
    )
except RuntimeError as error:
    print(f"refused: {error}")
else:
    with open(proof, encoding="utf-8") as file:
        shown = json.load(file)["pretty_public_inputs"]["rescaled_outputs"]
    print(shown[0][0] if valid else "refused")
