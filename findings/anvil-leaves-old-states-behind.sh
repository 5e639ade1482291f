#!/usr/bin/env bash
# anvil 1.7.1 keeps the newest states in memory and writes older ones to ~/.foundry/anvil/tmp, a folder a run: "Max number of states to
# persist on disk" sounds as if that had to be asked for, and it need not be. The folder is left there when anvil is told to end (SIGTERM,
# SIGINT): a suite that starts an anvil a test fills the disk, some hundred megabytes a run of blocks four times a second. --cache-path moves
# it, so that the program that starts anvil can remove it.
# Seen: a thousand blocks and SIGTERM leave a folder with hundreds of files; with --cache-path they lie there. Fails if that changes.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
npm init --yes >/dev/null
npm install --silent --no-fund --no-audit --save-exact @foundry-rs/anvil@1.7.1 >/dev/null
anvil=$(find node_modules/@foundry-rs -path '*/bin/anvil' -type f | head -n 1)
export HOME=$work/home
mkdir "$HOME"

# run NAME OPTION…: a thousand blocks, each with a state of its own, then the end
run() {
  local name=$1 port
  shift
  "$anvil" --port 0 "$@" >"$name.log" 2>&1 &
  local process=$!
  until port=$(sed -n 's/^Listening on .*://p' "$name.log") && [ -n "$port" ]; do kill -0 "$process"; sleep 0.1; done
  python3 - "$port" <<'PYTHON'
import json
import sys
import urllib.request

def call(method, *params):
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{sys.argv[1]}", body, {"content-type": "application/json"})
    return json.load(urllib.request.urlopen(request))["result"]

for _ in range(10):
    call("anvil_mine", "0x64")
PYTHON
  kill -TERM "$process"
  wait "$process" || true
}

run by-default
left=$(find "$HOME/.foundry/anvil/tmp" -type f | wc -l)
echo "by default: $left files stay in ~/.foundry/anvil/tmp"
[ "$left" -gt 100 ]
rm -rf "$HOME/.foundry"
run elsewhere --cache-path "$work/states"
moved=$(find "$work/states" -type f | wc -l)
echo "with --cache-path: $moved files there"
[ "$moved" -gt 100 ] && [ ! -e "$HOME/.foundry/anvil/tmp" ]
