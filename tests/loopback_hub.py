"""Simulate the Hugging Face Hub on the loopback interface, with switches to simulate failures.

Models and Spaces, with the requests of huggingface_hub 2.4 (`hf_api.py`, `_commit_api.py`, `lfs.py`): create a repository, ask
how to upload each file (preupload), upload by Git LFS, commit, list and download files, and follow the build of a Space.
"""

import base64
import hashlib
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatch
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import pytest
from huggingface_hub import constants

FIRST, SECOND = "1" * 40, "2" * 40

# As the Hub writes it into every new repository, shortened to what occurs here.
ATTRIBUTES = b"".join(
    b"%s filter=lfs diff=lfs merge=lfs -text\n" % name for name in (b"*.npz", b"*.onnx", b"*.safetensors", b"*.wasm")
)
LARGE = 10_000_000  # bytes above which any file needs LFS


class Hub(ThreadingHTTPServer):
    """Repositories, their trees, redirects to large files, uploads and commits.

    `commits` maps a repository ("owner/name", or "spaces/owner/name") to its commits, oldest first, each a dict of files; `main`
    is the newest. `requests` records all that was asked, `modes` what preupload answered for each path. `cut` files are
    answered with fewer bytes than they were announced with. With `token`, every upload needs it, and only `owners` may be
    written to. `resets` uploads are cut off, and with `refuse_uploads` all are. `stages` are those that a Space goes through, one
    for each request.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.cdn = f"http://localhost:{self.server_port}/cdn"  # a different host for the client
        self.commits: dict[str, dict[str, dict[str, bytes]]] = {}
        self.created: dict[str, dict[str, object]] = {}  # what was asked for each new repository
        self.objects: dict[str, bytes] = {}  # uploaded by LFS, by sha256
        self.modes: dict[str, str] = {}
        self.requests: list[str] = []
        self.cut: set[str] = set()
        self.slow = 0.0  # seconds before a large file starts
        self.token: str | None = None
        self.owners: set[str] | None = None
        self.resets = 0
        self.refuse_uploads = False
        self.stages = ["RUNNING"]
        self.log = ["Collecting torch\n", "ERROR: No matching distribution\n"]

    def files(self, repository: str) -> dict[str, bytes]:
        """Return the files of the newest commit."""
        return list(self.commits[repository].values())[-1]


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

    def reply_json(self, value: object, status: int = 200) -> None:
        self.reply(status, json.dumps(value).encode(), Content_Type="application/json")

    def refuse(self, status: int, sentence: str) -> None:
        self.reply_json({"error": sentence}, status)

    # ------------------------------------------------------------------------------------------------ download

    def do_GET(self) -> None:
        self.server.requests.append(f"{self.command} {self.path}")
        match urlsplit(self.path).path.strip("/").split("/"):
            case ["api", "spaces", owner, name, "runtime"]:
                self.reply_json(self.runtime(f"spaces/{owner}/{name}"))
            case ["api", "spaces", _, _, "logs", _]:
                events = "".join(f"data: {json.dumps({'data': line})}\n\n" for line in self.server.log)
                self.reply(200, events.encode(), Content_Type="text/event-stream")
            case ["api", "models" | "spaces" as kind, owner, name, *rest]:
                what, revision = (rest[0], rest[1]) if rest else ("revision", "main")
                self.reply_about(kind, f"{owner}/{name}", what, revision)
            case ["cdn", "lfs", oid]:
                self.reply(200, self.server.objects[oid])
            case ["cdn", commit, *path]:
                *repository, file = path
                content = self.server.commits["/".join(repository)][commit][file]
                time.sleep(self.server.slow)
                self.reply(200, content[: len(content) // 2] if file in self.server.cut else content)
            case ["spaces", owner, name, "resolve", revision, *file]:
                self.reply_file(f"spaces/{owner}/{name}", revision, "/".join(file))
            case [owner, name, "resolve", revision, *file]:
                self.reply_file(f"{owner}/{name}", revision, "/".join(file))
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

    def reply_about(self, kind: str, name: str, what: str, revision: str) -> None:
        repository = f"spaces/{name}" if kind == "spaces" else name
        if commit := self.find(repository, revision):
            files = self.server.commits[repository][commit]
            if what == "revision":
                siblings = [{"rfilename": path, "size": len(content)} for path, content in files.items()]
                self.reply_json({"id": name, "sha": commit, "siblings": siblings, "tags": [], "private": False})
            else:
                tree = [{"type": "file", "path": path, "size": len(b), "oid": etag(b)} for path, b in files.items()]
                self.reply_json(tree)

    def reply_file(self, repository: str, revision: str, file: str) -> None:
        if commit := self.find(repository, revision):
            content = self.server.commits[repository][commit].get(file)
            common = {"X_Repo_Commit": commit}
            if content is None:
                self.reply(404, X_Error_Code="EntryNotFound", **common)
            elif upload_mode(file, content, len(content)) == "lfs":
                linked = {"X_Linked_Etag": f'"{etag(content)}"', "X_Linked_Size": str(len(content))}
                self.reply(302, Location=f"{self.server.cdn}/{commit}/{repository}/{file}", **common, **linked)
            else:
                self.reply(200, content, ETag=f'"{etag(content)}"', **common)

    def runtime(self, repository: str) -> dict[str, object]:
        stages = self.server.stages
        stage = stages.pop(0) if len(stages) > 1 else stages[0]
        hardware = self.server.created.get(repository, {}).get("hardware")
        return {"stage": stage, "hardware": {"current": None, "requested": hardware}}

    # -------------------------------------------------------------------------------------------------- upload

    def do_POST(self) -> None:
        self.server.requests.append(f"{self.command} {self.path}")
        body = self.rfile.read(int(self.headers["Content-Length"]))
        path = urlsplit(self.path).path.strip("/").split("/")
        if self.server.token and self.headers["Authorization"] != f"Bearer {self.server.token}":
            return self.refuse(401, "Invalid username or password.")
        match path:
            case ["api", "validate-yaml"]:
                self.reply_json({"errors": [], "warnings": []})
            case ["api", "repos", "create"]:
                self.create(json.loads(body))
            case ["api", "models" | "spaces", _, _, "preupload", "main"]:
                files = json.loads(body)["files"]
                modes = {f["path"]: upload_mode(f["path"], base64.b64decode(f["sample"]), f["size"]) for f in files}
                self.server.modes |= modes
                self.reply_json(
                    {"files": [{"path": p, "uploadMode": m, "shouldIgnore": False} for p, m in modes.items()]}
                )
            case [*_, "info", "lfs", "objects", "batch"]:
                wanted = json.loads(body)["objects"]
                self.reply_json({"objects": [self.instructions(**one) for one in wanted]})
            case ["api", "models" | "spaces" as kind, owner, name, "commit", "main"]:
                repository = f"{owner}/{name}" if kind == "models" else f"spaces/{owner}/{name}"
                self.commit(repository, [json.loads(line) for line in body.splitlines()])
            case ["api", "spaces", owner, name, "hardware"]:
                self.server.created[f"spaces/{owner}/{name}"]["hardware"] = json.loads(body)["flavor"]
                self.reply_json(self.runtime(f"spaces/{owner}/{name}"))
            case _:
                self.reply(404)
        return None

    def create(self, asked: dict[str, str]) -> None:
        name = f"{asked['organization']}/{asked['name']}"
        repository = f"spaces/{name}" if asked.get("type") == "space" else name
        if self.server.owners is not None and asked["organization"] not in self.server.owners:
            return self.refuse(
                403, f'You don\'t have the rights to create a repository under "{asked["organization"]}"'
            )
        if repository in self.server.commits:
            return self.refuse(409, "You already created this repository")
        self.server.commits[repository] = {etag(repository.encode())[:40]: {".gitattributes": ATTRIBUTES}}
        self.server.created[repository] = dict(asked)
        return self.reply_json({"url": f"{self.server.url}/{repository}"})

    def instructions(self, oid: str, size: int) -> dict[str, object]:
        upload = {"href": f"{self.server.cdn}/lfs/{oid}"}
        return {"oid": oid, "size": size} | ({} if oid in self.server.objects else {"actions": {"upload": upload}})

    def commit(self, repository: str, lines: list[dict[str, dict[str, str]]]) -> None:
        files = dict(self.server.files(repository)) if self.server.commits[repository] else {}
        for line in lines:
            match line:
                case {"key": "file", "value": {"path": path, "content": content}}:
                    files[path] = base64.b64decode(content)
                    if upload_mode(path, files[path], len(files[path])) == "lfs":
                        return self.refuse(400, f"Your push was rejected because it contains binary files: {path}")
                case {"key": "lfsFile", "value": {"path": path, "oid": oid}}:
                    files[path] = self.server.objects[oid]
                case {"key": "deletedFile", "value": {"path": path}}:
                    del files[path]
        oid = hashlib.sha1(json.dumps(lines).encode() + repository.encode(), usedforsecurity=False).hexdigest()
        self.server.commits[repository][oid] = files
        return self.reply_json({"commitOid": oid, "commitUrl": f"{self.server.url}/{repository}/commit/{oid}"})

    def do_PUT(self) -> None:
        self.server.requests.append(f"{self.command} {self.path}")
        length = int(self.headers["Content-Length"])
        if self.server.resets:
            self.server.resets -= 1
            self.rfile.read(length // 2)
            self.close_connection = True
            return self.connection.close()
        content = self.rfile.read(length)
        oid = self.path.rpartition("/")[2]
        if self.server.refuse_uploads or etag(content) != oid:
            return self.refuse(400, "the upload was cut off")
        self.server.objects[oid] = content
        return self.reply(200)


def upload_mode(path: str, sample: bytes, size: int) -> str:
    """Decide as the Hub does: by the attributes of the repository, by size, and any binary content by LFS."""
    names = [line.split()[0].decode() for line in ATTRIBUTES.splitlines()]
    if size > LARGE or any(fnmatch(path.rpartition("/")[2], name) for name in names):
        return "lfs"
    try:
        sample.decode()
    except UnicodeDecodeError as error:
        if error.start < len(sample) - 3:  # a sample may end inside a character
            return "lfs"
    return "lfs" if b"\0" in sample else "regular"


def etag(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def connect(patch: pytest.MonkeyPatch, url: str) -> None:
    """Make the client of this process use a server."""
    patch.setattr(constants, "HF_HUB_OFFLINE", False)
    patch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)  # telemetry would go to the real Hub
    patch.setattr(constants, "HF_HUB_DISABLE_XET", True)  # the server speaks Git LFS only
    patch.setattr(constants, "ENDPOINT", url)
    patch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}")


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
