"""The other side of `Isolated`: run a model in this interpreter, by lines of JSON on stdin and stdout.

Run as `python model_server.py FILE ARGUMENTS` by an interpreter that may be older and know nothing of this package, so
that only the standard library is imported. What the model prints goes to stderr.
"""

from __future__ import annotations

import json
import os
import runpy
import sys
from collections.abc import Callable
from typing import Any


def main() -> None:
    """Load the model of a file, say so, and answer each line: {"requests": [...]} by {"values": [...]}."""
    file, arguments = sys.argv[1:]
    with os.fdopen(os.dup(1), "w") as answers:
        os.dup2(2, 1)
        predict = runpy.run_path(file)["load"](**json.loads(arguments))
        print(json.dumps({"ready": True}), file=answers, flush=True)
        for line in sys.stdin:
            print(answer(predict, json.loads(line)["requests"]), file=answers, flush=True)


def answer(predict: Callable[[list[Any]], Any], requests: list[Any]) -> str:
    """Return the line that answers requests; an exception of the model is {"error": ...}."""
    try:
        return json.dumps({"values": [None if value is None else float(value) for value in predict(requests)]})
    except Exception as error:
        return json.dumps({"error": f"{type(error).__name__}: {error}"})


if __name__ == "__main__":
    main()
