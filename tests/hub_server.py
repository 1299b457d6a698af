"""A small Hub on this machine for uploads and downloads. It keeps commits of whole files in memory.

The real client of `huggingface_hub` uses it if HF_ENDPOINT is set to its address before the client is imported.
"""

import base64
import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TOKEN = "hf_right"


class Hub(ThreadingHTTPServer):
    """A server in its own thread.

    Attributes:
        files: repository -> path -> bytes.
        commits: repository -> the titles of its commits.
        fail_after: after this number of commits, answer every commit with an error 500; None for never.
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.commits, self.fail_after = {}, {}, None
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def endpoint(self):
        return f"http://127.0.0.1:{self.server_port}"

    def revision(self, repository):
        return hashlib.sha1(f"{repository} {len(self.commits[repository])}".encode()).hexdigest()


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *args):
        pass

    def answer(self, body, status=200, headers=()):
        body = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **dict(headers)}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self.answer({"error": "Invalid username or password."}, 401)
        if self.path == "/api/repos/create":
            name = f"someone/{json.loads(body)['name']}"
            self.server.files.setdefault(name, {})
            self.server.commits.setdefault(name, [])
            return self.answer({"url": f"{self.server.endpoint}/{name}", "id": name})
        if self.path == "/api/validate-yaml":
            return self.answer({"errors": [], "warnings": []})
        repository, action = re.match(r"/api/models/([^/]+/[^/]+)/(preupload|commit)/", self.path).groups()
        if action == "preupload":
            files = [{**each, "uploadMode": "regular", "shouldIgnore": False} for each in json.loads(body)["files"]]
            return self.answer(
                {"files": [{key: each[key] for key in ("path", "uploadMode", "shouldIgnore")} for each in files]}
            )
        return self.commit(repository, [json.loads(line) for line in body.splitlines()])

    def commit(self, repository, lines):
        commits = self.server.commits[repository]
        if self.server.fail_after is not None and len(commits) >= self.server.fail_after:
            return self.answer({"error": "Internal Server Error"}, 500)
        for line in lines:
            if line["key"] == "file":
                self.server.files[repository][line["value"]["path"]] = base64.b64decode(line["value"]["content"])
        commits.append(lines[0]["value"]["summary"])
        revision = self.server.revision(repository)
        self.answer({"commitOid": revision, "commitUrl": f"{self.server.endpoint}/{repository}/commit/{revision}"})

    def do_GET(self):
        path = self.path.partition("?")[0]
        api = re.match(r"/api/models/([^/]+/[^/]+)(?:/(revision|tree)/[^/]+)?", path)
        file = re.match(r"/([^/]+/[^/]+)/resolve/[^/]+/(.+)", path)
        repository = (api or file)[1] if api or file else None
        if repository not in self.server.files:
            return self.answer({"error": "Repository not found"}, 404, {"X-Error-Code": "RepoNotFound"})
        files, revision = self.server.files[repository], self.server.revision(repository)
        if api and api[2] == "tree":
            entries = [("file", name, files[name]) for name in sorted(files)]
            return self.answer(
                [{"type": kind, "path": name, "size": len(data), "oid": digest(data)} for kind, name, data in entries]
            )
        if api:
            siblings = [{"rfilename": name} for name in sorted(files)]
            return self.answer({"id": repository, "sha": revision, "siblings": siblings, "tags": [], "private": False})
        if file[2] not in files:
            headers = {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": revision}
            return self.answer({"error": "Entry not found"}, 404, headers)
        data = files[file[2]]
        self.answer(data, headers={"ETag": f'"{digest(data)}"', "X-Repo-Commit": revision})

    do_HEAD = do_GET


def digest(data):
    return hashlib.sha1(data).hexdigest()
