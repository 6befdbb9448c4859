"""A Hub of a few repositories on this machine, which the real client of the Hugging Face Hub talks to."""

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Hub:
    """Repositories by OWNER/NAME, each with its files; every request and every new repository is noted.

    Attributes:
        announced: sizes that are told in place of the true ones, by name of the file.
    """

    repositories: dict[str, dict[str, bytes]] = field(default_factory=dict)
    private: dict[str, bool] = field(default_factory=dict)
    announced: dict[str, int] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    endpoint: str = ""

    def commit(self, name: str) -> str:
        """Return the commit of a repository, which follows from its contents."""
        files = sorted((file, hashlib.sha1(data).hexdigest()) for file, data in self.repositories[name].items())
        return hashlib.sha1(json.dumps(files).encode()).hexdigest()

    def downloads(self) -> list[str]:
        """Return the names of the files that were fetched, in order."""
        return [path.rpartition("/")[2] for path in self.requests if path.startswith("GET ") and "/resolve/" in path]


class Handler(BaseHTTPRequestHandler):
    """The part of the Hub's interface that the client uses to look up, fetch, make and fill a repository."""

    hub: Hub

    def answer(self, status: int, value: Any = None, headers: dict[str, str] | None = None, data: bytes = b"") -> None:
        data = data if value is None else json.dumps(value).encode()
        self.send_response(status)
        for name, text in {"Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(name, text)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        self.hub.requests.append(f"{self.command} {path}")
        parts = path.strip("/").split("/")
        name = "/".join(parts[2:4] if parts[0] == "api" else parts[:2])
        if name not in self.hub.repositories:
            self.answer(404, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"})
            return
        files, commit = self.hub.repositories[name], self.hub.commit(name)
        if parts[0] == "api":
            sizes = {file: self.hub.announced.get(file, len(data)) for file, data in files.items()}
            siblings = [{"rfilename": file, "size": size, "blobId": "0" * 40} for file, size in sizes.items()]
            self.answer(200, {"id": name, "sha": commit, "private": False, "tags": [], "siblings": siblings})
            return
        data = files["/".join(parts[4:])]
        etag = f'"{hashlib.sha1(data).hexdigest()}"'
        self.answer(200, headers={"X-Repo-Commit": commit, "ETag": etag}, data=data)

    def do_POST(self) -> None:
        self.hub.requests.append(f"POST {self.path}")
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked['organization']}/{asked['name']}" if asked.get("organization") else asked["name"]
            self.hub.repositories.setdefault(name, {})
            self.hub.private[name] = asked.get("private", asked.get("visibility") == "private")
            self.answer(200, {"url": f"{self.hub.endpoint}/{name}"})
        elif "/preupload/" in self.path:
            files = [
                {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False}
                for file in json.loads(body)["files"]
            ]
            self.answer(200, {"files": files})
        elif self.path == "/api/validate-yaml":
            self.answer(200, {"errors": [], "warnings": []})
        elif "/commit/" not in self.path or not self.path.startswith("/api/"):
            self.answer(404, {"error": "not found"})
        else:
            name = "/".join(self.path.split("/")[3:5])
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    content = base64.b64decode(line["value"]["content"])
                    self.hub.repositories[name][line["value"]["path"]] = content
            commit = self.hub.commit(name)
            self.answer(
                200, {"success": True, "commitOid": commit, "commitUrl": f"{self.hub.endpoint}/{name}/commit/{commit}"}
            )

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Keep the screen of the tests clean."""


@contextmanager
def served() -> Iterator[Hub]:
    """Serve an empty Hub on a free port of this machine."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (Handler,), {"hub": hub}))
    hub.endpoint = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
