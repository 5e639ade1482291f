"""Hardhat's node: another implementation of Ethereum than anvil, with a new chain each time."""

import contextlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from project import ROOT, await_that, check, environment

# What ci/setup installs.
INSTALLED = Path(os.environ.get("NOVA_TOOLS_DIR", Path.home() / ".cache/nova-template/tools")) / "hardhat"


@contextlib.contextmanager
def hardhat():
    """The endpoint of a node that runs until the block ends. Its accounts are anvil's."""
    check((INSTALLED / "node_modules/.bin/hardhat").exists(), f"hardhat is not in {INSTALLED}: run ci/setup")
    with tempfile.TemporaryDirectory(prefix="nova-hardhat-") as folder:
        # It wants its own package beside the configuration.
        shutil.copy2(ROOT / "ci/hardhat/hardhat.config.js", INSTALLED)
        log = Path(folder) / "node.log"
        with log.open("wb") as out:
            node = subprocess.Popen([INSTALLED / "node_modules/.bin/hardhat", "node", "--hostname", "127.0.0.1", "--port", "0"],
                                    cwd=INSTALLED, env=environment() | {"HARDHAT_DISABLE_TELEMETRY_PROMPT": "true", "NO_COLOR": "1"},
                                    stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT)
        try:
            await_that(lambda: node.poll() is not None or "JSON-RPC server at " in log.read_text(), "hardhat's node listens", 60)
            check(node.poll() is None, f"hardhat's node ended by itself: {log.read_text()[-1000:]}")
            yield log.read_text().split("JSON-RPC server at ")[1].split()[0].rstrip("/")
        finally:
            node.terminate()
            node.wait()


def asked_chain(arguments: list[str]):
    """The arguments without `--node hardhat`, and what starts that node if it was there."""
    asked = arguments[:2] == ["--node", "hardhat"]
    return (arguments[2:], hardhat) if asked else (arguments, None)
