"""middleman.py FOLDER PYTHON ARGUMENTS…: stands between the daemon and its EZKL worker, and does what FOLDER/plan.json says.

    {"call": "prove", "do": "rubbish", "times": 2}

The first `times` calls of that name go wrong; FOLDER/done has a line for each. `do` is one of
    die       the worker ends without an answer
    rubbish   the answer is no JSON
    other     the answer is to another call
    long      the answer has no end
    hang      no answer
    refuse    EZKL's own refusal (of `verify`: the proof is not valid)
"""

import json
import os
import subprocess
import sys

folder, *command = sys.argv[1:]
worker = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def plan_for(call):
    """What to do with a call, if it is planned for and not used up."""
    try:
        with open(os.path.join(folder, "plan.json"), encoding="utf-8") as file:
            plan = json.load(file)
    except FileNotFoundError:
        return None
    path = os.path.join(folder, "done")
    done = len(open(path, encoding="utf-8").readlines()) if os.path.exists(path) else 0
    if plan["call"] != call or done >= plan["times"]:
        return None
    with open(path, "a", encoding="utf-8") as file:
        file.write(f"{plan['do']} {call}\n")
    return plan["do"]


def answer(line):
    print(line, flush=True)


for line in sys.stdin:
    request = json.loads(line)
    do = plan_for(request["call"])
    if do == "die":
        sys.exit("killed by the middleman")
    elif do == "rubbish":
        answer("Segmentation fault (core dumped)")
    elif do == "other":
        answer(json.dumps({"id": request["id"] + 1, "value": True}))
    elif do == "long":
        while True:
            sys.stdout.write("x" * 65536)
    elif do == "hang":
        sys.stdin.read()
    elif do == "refuse":
        answer(json.dumps({"id": request["id"], "error": "refused by the middleman", "passing": False}))
    else:
        worker.stdin.write(line)
        worker.stdin.flush()
        answer(worker.stdout.readline().rstrip("\n"))
