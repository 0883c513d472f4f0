"""Simulate the Hugging Face Hub on the loopback interface, with switches to simulate failures."""

import base64
import hashlib
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from medsegdiff.checkpoint import WEIGHTS

FIRST, SECOND = "1" * 40, "2" * 40


class Hub(ThreadingHTTPServer):
    """What the client needs of huggingface.co: repositories, their trees, redirects to large files, commits.

    `commits` maps a repository to its commits, oldest first, each a dict of files; `main` is the newest.
    `requests` records all that was asked. `cut` files are answered with fewer bytes than they were announced with.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.cdn = f"http://localhost:{self.server_port}/cdn"  # a different host for the client
        self.commits: dict[str, dict[str, dict[str, bytes]]] = {}
        self.requests: list[str] = []
        self.cut: set[str] = set()
        self.slow = 0.0  # seconds before a large file starts


class Handler(BaseHTTPRequestHandler):
    """Handle one request to a `Hub`."""

    server: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        """Keep the test's output clean."""

    def reply(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | headers).items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def reply_json(self, value: object) -> None:
        self.reply(200, json.dumps(value).encode(), Content_Type="application/json")

    def do_GET(self) -> None:
        self.server.requests.append(f"{self.command} {self.path}")
        match self.path.partition("?")[0].strip("/").split("/"):
            case ["api", "models", owner, name, kind, revision]:
                self.reply_about(f"{owner}/{name}", kind, revision)
            case [owner, name, "resolve", revision, file]:
                self.reply_file(f"{owner}/{name}", revision, file)
            case ["cdn", owner, name, revision, file]:
                content = self.server.commits[f"{owner}/{name}"][revision][file]
                time.sleep(self.server.slow)
                self.reply(200, content[: len(content) // 2] if file in self.server.cut else content)
            case _:
                self.reply(404)

    do_HEAD = do_GET

    def find(self, repository: str, revision: str) -> str | None:
        """Resolve a revision to a commit, or answer that there is none."""
        commits = self.server.commits.get(repository)
        if commits is None:
            self.reply(404, X_Error_Code="RepoNotFound", X_Error_Message="Repository not found")
        elif (commit := list(commits)[-1] if revision == "main" else revision) in commits:
            return commit
        else:
            self.reply(404, X_Error_Code="RevisionNotFound", X_Error_Message=f"Invalid rev id: {revision}")
        return None

    def reply_about(self, repository: str, kind: str, revision: str) -> None:
        if commit := self.find(repository, revision):
            files = self.server.commits[repository][commit]
            if kind == "revision":
                siblings = [{"rfilename": name, "size": len(content)} for name, content in files.items()]
                self.reply_json({"id": repository, "sha": commit, "siblings": siblings})
            else:
                tree = [{"type": "file", "path": name, "size": len(b), "oid": etag(b)} for name, b in files.items()]
                self.reply_json(tree)

    def reply_file(self, repository: str, revision: str, file: str) -> None:
        if commit := self.find(repository, revision):
            content = self.server.commits[repository][commit].get(file)
            common = {"X_Repo_Commit": commit}
            if content is None:
                self.reply(404, X_Error_Code="EntryNotFound", **common)
            elif file == WEIGHTS:
                linked = {"X_Linked_Etag": f'"{etag(content)}"', "X_Linked_Size": str(len(content))}
                self.reply(302, Location=f"{self.server.cdn}/{repository}/{commit}/{file}", **common, **linked)
            else:
                self.reply(200, content, ETag=f'"{etag(content)}"', **common)

    def do_POST(self) -> None:
        self.server.requests.append(f"{self.command} {self.path}")
        body = self.rfile.read(int(self.headers["Content-Length"]))
        match self.path.partition("?")[0].strip("/").split("/"):
            case ["api", "validate-yaml"]:
                self.reply_json({"errors": [], "warnings": []})
            case ["api", "repos", "create"]:
                asked = json.loads(body)
                repository = f"{asked['organization']}/{asked['name']}"
                self.server.commits.setdefault(repository, {})
                self.reply_json({"url": f"{self.server.url}/{repository}"})
            case ["api", "models", _, _, "preupload", "main"]:
                names = [file["path"] for file in json.loads(body)["files"]]
                self.reply_json({"files": [{"path": n, "uploadMode": "regular", "shouldIgnore": False} for n in names]})
            case ["api", "models", owner, name, "commit", "main"]:
                lines = [json.loads(line) for line in body.splitlines()]
                files = {
                    line["value"]["path"]: base64.b64decode(line["value"]["content"])
                    for line in lines
                    if line["key"] == "file"
                }
                self.server.commits[f"{owner}/{name}"][SECOND] = files
                self.reply_json({"commitOid": SECOND, "commitUrl": f"{self.server.url}/{owner}/{name}/commit/{SECOND}"})


def etag(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@contextmanager
def serving() -> Iterator[Hub]:
    """Serve a Hub in a background thread."""
    with Hub() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
