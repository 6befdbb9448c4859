"""ImageReward (Xu et al. 2023, arXiv:2304.05977) as a server for `reward=remote`.

`python imagereward_server.py [port]`, in an environment of its own: the package needs an older transformers than molrl.

    python -m venv judge && judge/bin/pip install image-reward==1.5 'transformers<4.39' 'setuptools<81'
    judge/bin/python imagereward_server.py 8000

It listens on this machine alone, and takes images of at most MAX_BYTES together. The model is fetched from
the Hugging Face Hub when it starts.
"""

import base64
import io
import json
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

MAX_BYTES = 2**28


def score_images(model: Any, request: Any) -> dict[str, list[Any]]:
    """Return {"scores", "reasons"} for {"prompts", "images"}; an image without a score has null and a reason."""
    from PIL import Image

    scores, reasons = list[float | None](), list[str]()
    for prompt, data in zip(request["prompts"], request["images"], strict=True):
        try:
            image = Image.open(io.BytesIO(base64.b64decode(data, validate=True)), formats=["PNG"]).convert("RGB")
            scores.append(float(model.score(str(prompt), image)))
            reasons.append("")
        except (OSError, ValueError, RuntimeError) as error:
            scores.append(None)
            reasons.append(f"{type(error).__name__}: {error}")
    return {"scores": scores, "reasons": reasons}


def make_server(model: Any, port: int) -> HTTPServer:
    """Return the server of a model, bound to 127.0.0.1."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            """Answer one request for the scores of some images."""
            try:
                length = int(self.headers.get("Content-Length", 0))
                if not 0 < length <= MAX_BYTES:
                    raise ValueError(f"{length} bytes, allowed 1 to {MAX_BYTES}")
                status, response = 200, score_images(model, json.loads(self.rfile.read(length)))
            except (ValueError, KeyError, TypeError) as error:
                status, response = 400, {"error": [str(error)]}
            data = json.dumps(response).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    return HTTPServer(("127.0.0.1", port), Handler)


if __name__ == "__main__":
    import ImageReward
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    make_server(
        ImageReward.load("ImageReward-v1.0", device=device), int(sys.argv[1]) if len(sys.argv) > 1 else 8000
    ).serve_forever()
