"""A local HuggingFace Hub: the part of its protocol that `hf download` and wanrec speak.

Repositories are commits of files. Files above `lfs_above` bytes live on a second host and port,
reached by a redirect with `X-Linked-*` headers; small ones are answered directly. Everything that
was asked is kept, body bytes are counted, and answers can be scripted to fail.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import re
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple
from urllib.parse import parse_qs, quote, unquote, urlsplit

__all__ = ["Asked", "HubServer", "running_hub"]

_ROUTE_REVISION = re.compile(r"/api/models/([^/]+/[^/]+)/revision/(.+)").fullmatch
_ROUTE_INFO = re.compile(r"/api/models/([^/]+/[^/]+)").fullmatch
_ROUTE_TREE = re.compile(r"/api/models/([^/]+/[^/]+)/tree/([^/]+)(?:/(.*))?").fullmatch
_ROUTE_FILE = re.compile(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)").fullmatch


class Asked(NamedTuple):
    """One request. `host` is "hub" or "cdn"; header names are lower case."""

    host: str
    method: str
    path: str
    headers: dict[str, str]


class Answer(NamedTuple):
    """A scripted failure: status, extra headers."""

    status: int
    headers: Mapping[str, str] = {}


class HubServer:
    """The state behind both ports. Make one with `running_hub`.

    Attributes:
        url: HF_ENDPOINT.
        asked: the requests, in order.
        sent: body bytes of files that were sent.
        token: when set, requests without it are refused.
        gated: repositories that answer 403 with `X-Error-Code: GatedRepo`.
        lfs_above: bytes from which on a file lies on the second host.
        page: entries of one page of a listing.
        expire_after: number of answers after which a redirect's address is no longer good.
    """

    def __init__(self) -> None:
        self.url = ""
        self.cdn_url = ""
        self.asked: list[Asked] = []
        self.sent = 0
        self.token: str | None = None
        self.gated: set[str] = set()
        self.lfs_above = 1000
        self.page = 1000
        self.expire_after: int | None = None
        self._lock = threading.Lock()
        self._commits: dict[str, dict[str, dict[str, bytes]]] = {}
        self._refs: dict[tuple[str, str], str] = {}
        self._scripts: list[tuple[str, Answer, list[int]]] = []
        self._signatures: dict[str, int] = {}

    def push(self, repository: str, files: Mapping[str, bytes], revision: str = "main") -> str:
        """Make a commit of exactly these files and let a branch or tag name it."""
        with self._lock:
            known = self._commits.setdefault(repository, {})
            listing = "".join(f"{path} {_git_id(files[path])}\n" for path in sorted(files))
            commit = _git_id(f"{repository}{len(known)}{listing}".encode())
            known[commit] = dict(files)
            self._refs[repository, revision] = commit
        return commit

    def spoil(self, repository: str, path: str, content: bytes) -> None:
        """Change a file's bytes in every commit: the Hub now lies about it."""
        with self._lock:
            for files in self._commits[repository].values():
                if path in files:
                    files[path] = content

    def fail(self, pattern: str, status: int, times: int = 1 << 30, **headers: str) -> None:
        """Answer paths that match the pattern with a failure, so many times."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self._scripts.append((pattern, Answer(status, named), [times]))

    def count(self, *words: str) -> int:
        """How many requests had all these words in ``HOST METHOD PATH``."""
        with self._lock:
            lines = [f"{one.host} {one.method} {one.path}" for one in self.asked]
        return sum(all(word in line for word in words) for line in lines)

    def note(self, asked: Asked) -> Answer | None:
        """Keep a request; returns the scripted failure for it, if any."""
        with self._lock:
            self.asked.append(asked)
            for pattern, answer, times in self._scripts:
                if re.search(pattern, asked.path) and times[0] > 0:
                    times[0] -= 1
                    return answer
        return None

    def find(self, repository: str, revision: str) -> tuple[str, dict[str, bytes]] | None:
        """The commit and files of a revision."""
        with self._lock:
            commit = self._refs.get((repository, revision), revision)
            files = self._commits.get(repository, {}).get(commit)
        return None if files is None else (commit, files)

    def knows(self, repository: str) -> bool:
        """True when there is such a repository."""
        return repository in self._commits

    def sign(self) -> str:
        """A signature for one redirect."""
        with self._lock:
            name = f"s{len(self._signatures)}"
            self._signatures[name] = 0
            return name

    def accepts(self, signature: str) -> bool:
        """True while a signature is good; counts its uses."""
        with self._lock:
            if signature not in self._signatures:
                return False
            self._signatures[signature] += 1
            return self.expire_after is None or self._signatures[signature] <= self.expire_after

    def add_sent(self, count: int) -> None:
        """Count body bytes."""
        with self._lock:
            self.sent += count


@contextlib.contextmanager
def running_hub() -> Iterator[HubServer]:
    """Serve a hub on 127.0.0.1 and its second host on 127.0.0.2, until the block ends."""
    hub = HubServer()
    with (
        _serving(_HubHandler, "127.0.0.1", hub) as hub.url,
        _serving(_CdnHandler, "127.0.0.2", hub) as hub.cdn_url,
    ):
        yield hub


@contextlib.contextmanager
def _serving(handler: type[_Handler], host: str, hub: HubServer) -> Iterator[str]:
    bound = type(handler.__name__, (handler,), {"hub": hub})
    server = _Server((host, 0), bound)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"http://{host}:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # a body must not wait for the client to acknowledge its head
    hub: HubServer
    host_name = ""

    def do_GET(self) -> None:
        """Answer."""
        self._begin()

    def do_HEAD(self) -> None:
        """Answer without a body."""
        self._begin()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class' name
        """Say nothing."""

    def _begin(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        split = urlsplit(self.path)
        path = unquote(split.path)
        failure = self.hub.note(Asked(self.host_name, self.command, path, headers))
        try:
            if failure is not None:
                self._reply(failure.status, b"a scripted failure", **failure.headers)
            else:
                self._answer(path, split.query, headers)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def _answer(self, path: str, query: str, headers: dict[str, str]) -> None:
        raise NotImplementedError

    def _reply(self, status: int, body: bytes | memoryview = b"", **headers: object) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, str(value))
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _send_file(self, content: bytes, headers: dict[str, str], **more: object) -> None:
        etag = more["ETag"]
        if headers.get("if-match", etag) != etag:
            self._reply(412, **more)
            return
        match = re.fullmatch(r"bytes=(\d+)-(\d*)", headers.get("range", ""))
        status, start, stop = 200, 0, len(content)
        if match is not None:
            start = int(match[1])
            stop = min(stop, int(match[2]) + 1) if match[2] else stop
            if start >= len(content):
                self._reply(416, **{"Content-Range": f"bytes */{len(content)}"})
                return
            status = 206
            more["Content-Range"] = f"bytes {start}-{stop - 1}/{len(content)}"
        if self.command != "HEAD":
            self.hub.add_sent(stop - start)
        self._reply(status, memoryview(content)[start:stop], **{"Accept-Ranges": "bytes", **more})


class _HubHandler(_Handler):
    host_name = "hub"

    def _answer(self, path: str, query: str, headers: dict[str, str]) -> None:
        for route, act in (
            (_ROUTE_REVISION(path), self._revision),
            (_ROUTE_TREE(path), self._tree),
            (_ROUTE_FILE(path), self._file),
            (_ROUTE_INFO(path), self._info),
        ):
            if route is not None:
                if self._may(route[1], headers):
                    act(*route.groups(), parse_qs(query), headers)
                return
        self._reply(404)

    def _may(self, repository: str, headers: dict[str, str]) -> bool:
        hub = self.hub
        if hub.token and headers.get("authorization") != f"Bearer {hub.token}":
            self._error(401, "RepoNotFound", "Invalid username or password.")
        elif repository in hub.gated:
            self._error(403, "GatedRepo", "Access to this model is restricted.")
        elif not hub.knows(repository):
            self._error(401 if not hub.token else 404, "RepoNotFound", "Repository not found")
        else:
            return True
        return False

    def _error(self, status: int, code: str, message: str) -> None:
        self._reply(status, message.encode(), **{"X-Error-Code": code, "X-Error-Message": message})

    def _json(self, value: object, **headers: object) -> None:
        body = json.dumps(value).encode()
        self._reply(200, body, **{"Content-Type": "application/json", **headers})

    def _info(self, repository: str, query: Any, headers: dict[str, str]) -> None:
        self._revision(repository, "main", query, headers)

    def _revision(self, repository: str, revision: str, query: Any, headers: Any) -> None:
        found = self.hub.find(repository, revision)
        if found is None:
            self._error(404, "RevisionNotFound", "Invalid rev id")
            return
        siblings = [{"rfilename": path} for path in sorted(found[1])]
        self._json(
            {
                "_id": "0",
                "id": repository,
                "modelId": repository,
                "sha": found[0],
                "private": False,
                "gated": False,
                "disabled": False,
                "tags": [],
                "downloads": 0,
                "likes": 0,
                "siblings": siblings,
                "createdAt": "2026-01-01T00:00:00.000Z",
                "lastModified": "2026-01-01T00:00:00.000Z",
            }
        )

    def _tree(
        self, repository: str, revision: str, inside: str | None, query: Any, headers: Any
    ) -> None:
        found = self.hub.find(repository, revision)
        if found is None:
            self._error(404, "RevisionNotFound", "Invalid rev id")
            return
        prefix = f"{inside}/" if inside else ""
        entries = [
            self._entry(path, content)
            for path, content in sorted(found[1].items())
            if path.startswith(prefix)
        ]
        first = int(query.get("cursor", ["0"])[0])
        page = entries[first : first + self.hub.page]
        more: dict[str, object] = {}
        if first + self.hub.page < len(entries):
            address = f"{self.hub.url}{urlsplit(self.path).path}"
            cursor = f"recursive=true&expand=false&cursor={first + self.hub.page}"
            more["Link"] = f'<{address}?{cursor}>; rel="next"'
        self._json(page, **more)

    def _entry(self, path: str, content: bytes) -> dict[str, object]:
        entry: dict[str, object] = {
            "type": "file",
            "oid": _git_id(content),
            "size": len(content),
            "path": path,
        }
        if len(content) > self.hub.lfs_above:
            entry["lfs"] = {"oid": _sha256(content), "size": len(content), "pointerSize": 134}
        return entry

    def _file(
        self, repository: str, revision: str, path: str, query: Any, headers: dict[str, str]
    ) -> None:
        found = self.hub.find(repository, revision)
        if found is None:
            self._error(404, "RevisionNotFound", "Invalid rev id")
            return
        commit, files = found
        content = files.get(path)
        if content is None:
            self._error(404, "EntryNotFound", "Entry not found")
            return
        about: dict[str, object] = {"X-Repo-Commit": commit}
        if len(content) <= self.hub.lfs_above:
            self._send_file(content, headers, ETag=f'"{_git_id(content)}"', **about)
            return
        place = f"{self.hub.cdn_url}/{repository}/{commit}/{quote(path)}?sig={self.hub.sign()}"
        about["X-Linked-Size"] = len(content)
        about["X-Linked-ETag"] = f'"{_sha256(content)}"'
        self._reply(302, **about, Location=place)


class _CdnHandler(_Handler):
    host_name = "cdn"

    def _answer(self, path: str, query: str, headers: dict[str, str]) -> None:
        if not self.hub.accepts(parse_qs(query).get("sig", [""])[0]):
            self._reply(403)
            return
        org, name, commit, inside = path.lstrip("/").split("/", 3)
        found = self.hub.find(f"{org}/{name}", commit)
        if found is None or inside not in found[1]:
            self._reply(404)
            return
        content = found[1][inside]
        self._send_file(content, headers, ETag=f'"{_md5(content)}"')


# A real hub knows the digests of its files; computing one for each range would be its bottleneck.


@functools.lru_cache(maxsize=1 << 14)
def _md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


@functools.lru_cache(maxsize=1 << 14)
def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@functools.lru_cache(maxsize=1 << 14)
def _git_id(content: bytes) -> str:
    digest = hashlib.sha1(f"blob {len(content)}\0".encode(), usedforsecurity=False)
    digest.update(content)
    return digest.hexdigest()
