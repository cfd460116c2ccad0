"""`hf://ORG/NAME[@REVISION][/SUBPATH]`: repositories of the HuggingFace Hub.

A revision becomes a commit once per run, so every file of a model is of one commit; a commit in
the URL costs no request. What the Hub's cache on this machine already has is taken from there.
Bytes come through the range engine: the Hub is asked once where a big file lies, and its ranges
are then asked for there, without the token when that is another host. Only listings need
huggingface_hub. A file that the Hub stores in Xet is fetched over the same plain addresses; a Xet
client would take the place of `_follow`.
"""

from __future__ import annotations

import functools
import json
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from urllib.parse import quote

import attrs

from wanrec.providers.base import CatalogueEntry, Located, ProviderContext, SourceFault
from wanrec.providers.http import HttpProvider, crossing
from wanrec.providers.hub_cache import (
    cached_files,
    endpoint,
    is_commit,
    offline_switch,
    repository_cache,
    token,
)
from wanrec.providers.hub_listing import ListingError, list_repository
from wanrec.providers.keyring import SecretUnavailableError, stored_secret
from wanrec.providers.pool import Response
from wanrec.providers.source_url import SourceUrl
from wanrec.providers.wire import WireFault, parse_url
from wanrec.reconcile.errors import ErrorCode

__all__ = ["HubProvider"]

_sha256 = re.compile(r'"?([0-9a-f]{64})"?').fullmatch
_PLAIN = "/!$&'()*+,;=:@~-._"
_MAX_ANSWER = 16 << 20
_ASK_AGAIN = (0.5, 2.0)
"""Pauses between attempts to resolve a revision, in seconds."""
_EXPIRED = frozenset({400, 401, 403, 404, 410})
_OF_A_RANGE = frozenset({"If-Match", "Range"})
# Not a timeout: whoever waited for a whole deadline does not wait for another.
_TRANSIENT = frozenset({ErrorCode.RATE_LIMIT, ErrorCode.SOURCE_UNAVAILABLE})


class _Commits:
    """Commit of each revision, asked for once in a run; a failure is remembered for a while."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[str, str] = {}
        self._failed: dict[str, tuple[float, SourceFault]] = {}

    def get(self, name: str, ask: Callable[[], str], forget_s: float) -> str:
        """Return the commit of that name, asked for by the first who wants it."""
        with self._lock:
            until, fault = self._failed.get(name, (0.0, None))
            if fault is not None and time.monotonic() < until:
                raise fault.twin()
            if name not in self._known:
                try:
                    self._known[name] = ask()
                except SourceFault as fault:
                    if fault.code is not ErrorCode.INTERRUPTED:
                        self._failed[name] = time.monotonic() + forget_s, fault.twin()
                    raise
            return self._known[name]


class HubProvider(HttpProvider):
    """One revision of one model repository."""

    def __init__(self, url: SourceUrl, context: ProviderContext) -> None:
        self._switch = None if context.offline else offline_switch(context.environ)
        offline = context.offline or self._switch is not None
        super().__init__(url, attrs.evolve(context, offline=offline))
        self._endpoint = endpoint(context.environ)
        self._revision = (url.revision or "main").replace("%2F", "/")
        self._page = f"{self._endpoint}/{url.location}"
        self._lock = threading.Lock()
        self._asking: dict[str, threading.Lock] = {}
        self._places: dict[str, str] = {}

    @functools.cached_property
    def _cache(self) -> Path | None:
        """What the Hub's tools keep of this repository, None without anything."""
        folder = repository_cache(self.context.environ, self.url.location)
        return folder if folder.is_dir() else None

    def _kept(self, path: str, size: int | None, sha256: str) -> Iterator[Path]:
        if self._cache is None:
            return iter(())
        return cached_files(
            self._cache,
            self._inside(path),
            revision=self._revision,
            size=size,
            sha256=sha256,
        )

    def _locate(self, path: str, probe: bool) -> Located:
        commit = self._commit()
        located = Located(
            source=self.name,
            path=path,
            revision=commit,
            url=f"{self._page}/resolve/{commit}/{quote(self._inside(path), safe=_PLAIN)}",
            headers=self._credentials(),
        )
        if not probe:
            return located
        assert located.url is not None
        told, _ = self._ask_place(located.url, located.headers, path)
        size = told.get("x-linked-size") or told.get("content-length", "")
        linked = _sha256(told.get("x-linked-etag", ""))
        return attrs.evolve(
            located,
            size=int(size) if re.fullmatch(r"[0-9]{1,18}", size) else None,
            sha256=linked[1] if linked else None,
        )

    def _catalogue(self) -> Iterator[CatalogueEntry]:
        limits, commit = self.context.limits, self._commit()
        if is_commit(self._revision):
            self._resolve_revision()  # is the Hub there at all? The SDK would be long in doubt
        try:
            yield from list_repository(
                self._endpoint,
                self.url.location,
                commit,
                self.url.subpath or "",
                token=self._token(),
                silent_s=limits.connect_timeout_s + limits.stall_window_s,
                stop=self.session.stop,
            )
        except ListingError as error:
            raise self._listing_fault(error) from None

    def _listing_fault(self, error: ListingError) -> SourceFault:
        if error.code is ErrorCode.AUTH_FAIL:
            return self._auth_fault("the Hub refuses the listing")
        if error.code is ErrorCode.INVALID_CONFIG:
            summary = "the listing of an hf:// source needs huggingface_hub"
            return self.error(error.code, summary, hint="pip install huggingface_hub")
        return self.error(error.code, f"the Hub did not give the listing ({error.why})")

    def _require_network(self) -> None:
        if self._switch is not None:
            raise self.error(
                ErrorCode.OFFLINE,
                f"{self._switch} is set, and the file is not in the Hub's cache",
                hint=f"unset {self._switch}, or add a local:// source",
            )
        super()._require_network()

    def _follow(self, method: str, url: str, headers: Mapping[str, str], path: str) -> Response:
        if "Range" not in headers:
            return super()._follow(method, url, headers, path)
        place = self._place(url, headers, path)
        response = super()._follow(method, place, crossing(url, place, headers), path)
        if response.status not in _EXPIRED or place == url:
            return response
        response.close()  # the address that the Hub gave is no longer good
        place = self._place(url, headers, path, stale=place)
        return super()._follow(method, place, crossing(url, place, headers), path)

    def _place(
        self, url: str, headers: Mapping[str, str], path: str, *, stale: str | None = None
    ) -> str:
        """Where a big file lies; asked for by the first of its receivers."""
        with self._lock:
            asking = self._asking.setdefault(url, threading.Lock())
        with asking:
            if self._places.get(url) in (None, stale):
                sent = {name: headers[name] for name in headers if name not in _OF_A_RANGE}
                self._places[url] = self._ask_place(url, sent, path)[1]
            return self._places[url]

    def _ask_place(
        self, url: str, headers: Mapping[str, str], path: str
    ) -> tuple[Mapping[str, str], str]:
        """Ask for a file's head without leaving the Hub; returns headers and final address."""
        sent = {"Accept-Encoding": "identity", "User-Agent": "wanrec", **headers}
        for _ in range(self.context.limits.max_redirects + 1):
            try:
                response, onward = self.hop("HEAD", url, sent, path)
            except WireFault as fault:
                raise self.wire_error(fault, path) from fault
            response.close()
            if onward is None and response.status != 200:
                raise self._status_error(response, path)
            if response.headers.get("x-repo-commit", self._commit()) != self._commit():
                raise self.error(ErrorCode.SOURCE_CHANGED, f"{path!r} is of another commit")
            if onward is None:
                return response.headers, url
            if "x-linked-size" in response.headers or parse_url(onward)[0] != parse_url(url)[0]:
                return response.headers, onward
            url = onward
        raise self.error(ErrorCode.SOURCE_UNAVAILABLE, f"{path!r}: too many redirects")

    def _status_error(self, response: Response, path: str) -> SourceFault:
        said = response.headers.get("x-error-code", "")
        if response.status in (401, 403):
            what = "is gated" if said == "GatedRepo" else "is private, gated, or not there"
            subject = f"{path!r}: " if path else ""
            return self._auth_fault(f"{subject}the repository {what} (HTTP {response.status})")
        fault = super()._status_error(response, path)
        if response.status == 404 and said in ("RepoNotFound", "RevisionNotFound"):
            missing = "repository" if said == "RepoNotFound" else "revision"
            fault.summary = f"no such {missing} at the Hub"
        return fault

    def _auth_fault(self, summary: str) -> SourceFault:
        fault = self.error(
            ErrorCode.AUTH_FAIL,
            summary,
            hint=f"ask for access at {self._page}, then set HF_TOKEN or run: hf auth login",
        )
        fault.retries = 0
        return fault

    def _commit(self) -> str:
        if is_commit(self._revision):
            return self._revision
        commits = self.session.shared("hf commits", _Commits)
        assert isinstance(commits, _Commits)
        wait = self.context.limits.dead_source_s
        return commits.get(f"{self._page}@{self._revision}", self._resolve_revision, wait)

    def _resolve_revision(self) -> str:
        revision = quote(self._revision, safe="")
        url = f"{self._endpoint}/api/models/{self.url.location}/revision/{revision}?expand=sha"
        for pause in _ASK_AGAIN[: self.context.limits.retries]:
            try:
                return self._commit_in(self._get_json(url))
            except SourceFault as fault:
                cap = self.context.limits.retry_after_cap_s
                wait = max(pause, min(fault.retry_after or 0.0, cap))
                lasting = fault.retries == 0 or fault.code not in _TRANSIENT
                if lasting or self.session.stop.wait(wait):
                    raise
        return self._commit_in(self._get_json(url))

    def _commit_in(self, answer: object) -> str:
        commit = answer.get("sha") if isinstance(answer, dict) else None
        if not isinstance(commit, str) or not is_commit(commit):
            fault = self.error(ErrorCode.SOURCE_UNAVAILABLE, "the Hub names no commit")
            fault.retries = 0
            raise fault
        return commit

    def _get_json(self, url: str) -> object:
        sent = {"Accept-Encoding": "identity", "User-Agent": "wanrec", **self._credentials()}
        response = self.send("GET", url, sent, "")
        text, buffer = bytearray(), memoryview(bytearray(65536))
        try:
            while count := response.readinto(buffer):
                text += buffer[:count]
                if len(text) > _MAX_ANSWER:
                    break
        except WireFault as fault:
            raise self.wire_error(fault, "") from fault
        finally:
            response.close()
        try:
            return json.loads(bytes(text))
        except (ValueError, RecursionError):
            raise self.error(ErrorCode.SOURCE_UNAVAILABLE, "the Hub's answer is no JSON") from None

    def _inside(self, path: str) -> str:
        return f"{self.url.subpath}/{path}" if self.url.subpath else path

    def _token(self) -> str | None:
        try:
            found = token(self.context.environ) or stored_secret(
                self._endpoint, self.context.environ
            )
        except SecretUnavailableError as error:
            raise self.error(ErrorCode.AUTH_FAIL, error.text, hint=error.hint) from None
        if found is not None and not re.fullmatch(r"[!-~]+", found):
            raise self.error(
                ErrorCode.INVALID_CONFIG, "the Hub token holds characters that no token has"
            )
        return found

    def _credentials(self) -> dict[str, str]:
        found = self._token()
        return {"Authorization": f"Bearer {found}"} if found else {}
