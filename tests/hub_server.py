"""A server on loopback that speaks as much of the hub's API as its real client needs: models, commits, LFS, downloads.

Routes as `huggingface_hub` 2.4 asks them: create, validate-yaml, preupload, LFS batch and upload, commit as NDJSON,
repository info, `resolve` with its headers.
"""

import base64
import hashlib
import http.server
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

TOKEN = "hf_averysecrettoken"
READ_ONLY_TOKEN = "hf_mayonlyread"
# As the hub's own .gitattributes of a new model.
LFS = (".safetensors",)


@dataclass
class Repository:
    """Commits of a model, oldest first, each with all of its files."""

    private: bool = False
    gated: bool = False
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)

    @property
    def head(self) -> str | None:
        return next(reversed(self.commits), None)

    def commit(self, files: dict[str, bytes]) -> str:
        """Add files to those of the newest commit."""
        before = self.commits[self.head] if self.head else {}
        content = {**before, **files}
        digest = hashlib.sha1(repr((len(self.commits), sorted(content.items()))).encode()).hexdigest()
        self.commits[digest] = content
        return digest


@dataclass
class Hub:
    """What the server holds, and what it was asked.

    Attributes:
        address: Where it listens.
        models: By `owner/name`.
        objects: LFS objects by SHA-256.
        asked: Method and path of every request, in order.
        tokens: Every token that was sent.
        dies_after: Bytes of a weights' file after which the connection is cut; None for whole files.
        owners: Who may own models.
    """

    address: str = ""
    models: dict[str, Repository] = field(default_factory=dict)
    objects: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    tokens: set[str] = field(default_factory=set)
    dies_after: int | None = None
    expired: bool = False
    owners: frozenset[str] = frozenset({"anna"})

    def environment(self, home: str, token: str | None = None) -> dict[str, str]:
        """The variables by which the client of another process finds this server and nobody else."""
        found = {"HF_ENDPOINT": self.address, "HF_HOME": home, "HF_HUB_DISABLE_XET": "1"}
        return {**found, "HF_TOKEN": token} if token else found


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *_):
        pass

    def _go(self):
        path = unquote(urlsplit(self.path).path)
        self.hub.asked.append(f"{self.command} {path}")
        self.token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        self.hub.tokens |= {self.token} - {""}
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.hub.expired:
            return self.fail(401, None, "Invalid credentials in Authorization header")
        for pattern, answer in _ROUTES.items():
            method, _, rest = pattern.partition(" ")
            match = re.fullmatch(rest, path)
            if match and self.command in method.split("|"):
                return answer(self, *match.groups())
        return self.fail(404, None)

    do_GET = do_HEAD = do_POST = do_PUT = _go  # noqa: N815

    def send(self, status=200, body=b"", **headers):
        content = json.dumps(body).encode() if isinstance(body, dict | list) else body
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def fail(self, status, code, message="no"):
        headers = {"X-Error-Message": message, **({"X-Error-Code": code} if code else {})}
        self.send(status, {"error": message}, **headers)

    # --- who may do what ---

    def may_write(self, owner):
        if not self.token:
            self.fail(401, None, "Invalid username or password.")
        elif self.token != TOKEN:
            self.fail(403, None, "You need a token with write access.")
        elif owner not in self.hub.owners:
            self.fail(404, None, "Unknown owner.")
        else:
            return True
        return False

    def readable(self, name):
        """The model, or None where it was refused."""
        model = self.hub.models.get(name)
        if model is None or (model.private and self.token not in (TOKEN, READ_ONLY_TOKEN)):
            return self.fail(401 if not self.token else 404, "RepoNotFound", "Repository not found")
        if model.gated and self.token != TOKEN:
            return self.fail(403, "GatedRepo", "Access to this model is restricted.")
        return model

    # --- sharing ---

    def create(self):
        asked = json.loads(self.body)
        owner, name = asked.get("organization") or "anna", asked["name"]
        if not self.may_write(owner):
            return None
        full = f"{owner}/{name}"
        if full in self.hub.models:
            return self.send(
                409, {"url": f"{self.hub.address}/{full}", "error": "You already created this model repo"}
            )
        self.hub.models[full] = Repository(private=asked.get("visibility") == "private")
        self.hub.models[full].commit({".gitattributes": b"*.safetensors filter=lfs"})
        return self.send(200, {"url": f"{self.hub.address}/{full}", "name": full})

    def validate_yaml(self):
        content = json.loads(self.body)["content"]
        if not content.startswith("---"):
            warning = {"message": "empty or missing yaml metadata in repo card"}
            return self.send(200, {"warnings": [warning], "errors": []})
        if "license: nonsense" in content:
            return self.send(
                400, {"errors": [{"message": '"license" must be one of the known ones'}], "warnings": []}
            )
        return self.send(200, {"warnings": [], "errors": []})

    def preupload(self, name, revision):
        if not self.may_write(name.partition("/")[0]) or self.readable(name) is None:
            return None
        files = json.loads(self.body)["files"]
        modes = [
            {
                "path": file["path"],
                "uploadMode": "lfs" if file["path"].endswith(LFS) else "regular",
                "shouldIgnore": False,
            }
            for file in files
        ]
        return self.send(200, {"files": modes})

    def lfs_batch(self, name):
        if not self.may_write(name.partition("/")[0]):
            return None
        objects = []
        for one in json.loads(self.body)["objects"]:
            found = {"oid": one["oid"], "size": one["size"]}
            if one["oid"] not in self.hub.objects:
                found["actions"] = {"upload": {"href": f"{self.hub.address}/lfs/{one['oid']}"}}
            objects.append(found)
        answer = json.dumps({"transfer": "basic", "objects": objects}).encode()
        return self.send(200, answer, Content_Type="application/vnd.git-lfs+json")

    def lfs_upload(self, digest):
        if hashlib.sha256(self.body).hexdigest() != digest:
            return self.fail(400, None, "wrong hash")
        self.hub.objects[digest] = self.body
        return self.send(200)

    def commit(self, name, revision):
        if not self.may_write(name.partition("/")[0]):
            return None
        files = {}
        for line in self.body.splitlines():
            item = json.loads(line)
            value = item["value"]
            if item["key"] == "file":
                assert value["encoding"] == "base64"
                files[value["path"]] = base64.b64decode(value["content"])
            elif item["key"] == "lfsFile":
                if value["oid"] not in self.hub.objects:
                    return self.fail(400, None, "an object is missing")
                files[value["path"]] = self.hub.objects[value["oid"]]
        made = self.hub.models[name].commit(files)
        url = f"{self.hub.address}/{name}/commit/{made}"
        return self.send(200, {"success": True, "commitOid": made, "commitUrl": url, "hookOutput": ""})

    # --- fetching ---

    def info(self, name, revision="main"):
        model = self.readable(name)
        if model is None:
            return None
        commit = model.head if revision == "main" else revision
        if commit not in model.commits:
            return self.fail(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        files = [
            {"rfilename": path, "size": len(content), "blobId": hashlib.sha1(content).hexdigest()}
            for path, content in model.commits[commit].items()
        ]
        answer = {
            "_id": "1",
            "id": name,
            "modelId": name,
            "sha": commit,
            "private": model.private,
            "siblings": files,
        }
        return self.send(200, answer)

    def resolve(self, name, revision, path):
        model = self.readable(name)
        if model is None:
            return None
        commit = model.head if revision == "main" else revision
        if commit not in model.commits:
            return self.fail(404, "RevisionNotFound")
        content = model.commits[commit].get(path)
        if content is None:
            return self.fail(404, "EntryNotFound", "Entry not found")
        headers = {"X_Repo_Commit": commit, "Accept_Ranges": "bytes"}
        if not path.endswith(LFS):
            return self.send(200, content, ETag=f'"{hashlib.sha1(content).hexdigest()}"', **headers)
        # As the hub: large files are elsewhere, and the answer that says where carries what is known of them.
        digest = hashlib.sha256(content).hexdigest()
        self.hub.objects[digest] = content
        linked = {"X_Linked_Size": str(len(content)), "X_Linked_ETag": f'"{digest}"'}
        # Another host, as the hub's is: the client follows redirects within one by itself.
        elsewhere = self.hub.address.replace("127.0.0.1", "localhost")
        return self.send(302, Location=f"{elsewhere}/lfs/{digest}", **linked, **headers)

    def lfs_download(self, digest):
        content = self.hub.objects[digest]
        start = int(re.sub(r"bytes=(\d+)-.*", r"\1", self.headers.get("Range") or "bytes=0-"))
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.send_header("ETag", f'"{digest}"')
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.end_headers()
        if self.command == "HEAD":
            return
        if self.hub.dies_after is None:
            self.wfile.write(content[start:])
            return
        self.wfile.write(content[start : start + self.hub.dies_after])
        self.wfile.flush()
        self.close_connection = True


_NAME = r"([\w.-]+/[\w.-]+)"
_ROUTES = {
    "POST /api/repos/create": _Handler.create,
    "POST /api/validate-yaml": _Handler.validate_yaml,
    f"POST /api/models/{_NAME}/preupload/(.+)": _Handler.preupload,
    f"POST /{_NAME}\\.git/info/lfs/objects/batch": _Handler.lfs_batch,
    "PUT /lfs/([0-9a-f]+)": _Handler.lfs_upload,
    f"POST /api/models/{_NAME}/commit/(.+)": _Handler.commit,
    f"GET /api/models/{_NAME}/revision/(.+)": _Handler.info,
    f"GET /api/models/{_NAME}": _Handler.info,
    f"GET|HEAD /{_NAME}/resolve/([^/]+)/(.+)": _Handler.resolve,
    "GET|HEAD /lfs/([0-9a-f]+)": _Handler.lfs_download,
}


@contextmanager
def serving() -> Iterator[Hub]:
    """A hub without models, while entered."""
    hub = Hub()
    handler = type("Handler", (_Handler,), {"hub": hub})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        hub.address = f"http://127.0.0.1:{server.server_address[1]}"
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        try:
            yield hub
        finally:
            server.shutdown()
