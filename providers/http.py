"""The range client that S3, the Hub and plain HTTPS share: one `HttpProvider` to derive from.

A derived class says where a file is (`Located.url` and headers); this one asks for ranges of it,
follows redirects without carrying credentials to another origin, and turns every answer that is
not exactly what was asked for into an error of the contract. No text of a server, no URL with a
query and no header value ever gets into an error.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from wanrec.providers.base import Body, Located, Provider, SourceFault
from wanrec.providers.pool import Pool, Response
from wanrec.providers.wire import Origin, WireFault, is_loopback, parse_url
from wanrec.reconcile.errors import ErrorCode

__all__ = ["HttpBody", "HttpProvider", "crossing"]

_content_range = re.compile(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18}|\*)").fullmatch
_MAY_CROSS = frozenset({"accept", "accept-encoding", "if-match", "range", "user-agent"})
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_DRAIN = 64 * 1024
_CODES = {
    401: (ErrorCode.AUTH_FAIL, "the source wants credentials"),
    403: (ErrorCode.AUTH_FAIL, "the source refuses access"),
    404: (ErrorCode.NOT_FOUND_AT_SOURCE, "not found"),
    407: (ErrorCode.AUTH_FAIL, "the proxy wants credentials"),
    408: (ErrorCode.NETWORK_TIMEOUT, "the source gave up waiting"),
    410: (ErrorCode.NOT_FOUND_AT_SOURCE, "gone"),
    412: (ErrorCode.SOURCE_CHANGED, "it changed at the source"),
    416: (ErrorCode.RANGE_MISMATCH, "the source has no such range"),
    429: (ErrorCode.RATE_LIMIT, "the source asks to slow down"),
}


class HttpProvider(Provider):
    """A source behind HTTP; derived classes implement `_locate` and `_catalogue`."""

    def _open_range(self, located: Located, start: int, stop: int | None) -> Body:
        assert located.url is not None
        headers = {"Accept-Encoding": "identity", "User-Agent": "wanrec", **located.headers}
        ranged = start > 0 or stop is not None
        if ranged:
            headers["Range"] = f"bytes={start}-{'' if stop is None else stop - 1}"
        etag = located.etag
        if etag is not None and etag.startswith('"'):  # a weak one never matches
            headers["If-Match"] = etag
        response = self.send("GET", located.url, headers, located.path)
        try:
            return HttpBody(self, located.path, response, ranged=ranged)
        except BaseException:
            response.close()
            raise

    def probe(self, located: Located) -> Response:
        """Ask for the head of a file; the answer has no body."""
        assert located.url is not None
        headers = {"Accept-Encoding": "identity", "User-Agent": "wanrec", **located.headers}
        return self.send("HEAD", located.url, headers, located.path)

    def send(self, method: str, url: str, headers: Mapping[str, str], path: str) -> Response:
        """Send a request, follow redirects, and return a 200 or 206 answer.

        Raises:
            SourceFault: for everything else.
        """
        try:
            response = self._follow(method, url, headers, path)
        except WireFault as fault:
            raise self.wire_error(fault, path) from fault
        if response.status in (200, 206):
            return response
        response.close(drain=_DRAIN)
        raise self._status_error(response, path)

    def hop(
        self, method: str, url: str, headers: Mapping[str, str], path: str
    ) -> tuple[Response, str | None]:
        """Send a request and follow nothing; returns the answer, and where a redirect leads.

        Raises:
            SourceFault: the scheme, here or there, is refused.
            WireFault: as `Pool.request`.
        """
        origin, target = parse_url(url)
        self._vet_scheme(origin, path)
        response = self._pool().request(method, origin, target, headers)
        place = response.headers.get("location", "")
        if response.status not in _REDIRECTS or not place:
            return response, None
        onward = _absolute(place, origin, target)
        self._vet_redirect(origin, parse_url(onward)[0], path)
        return response, onward

    def _pool(self) -> Pool:
        pool = self.session.shared("http", self._new_pool)
        assert isinstance(pool, Pool)
        return pool

    def _new_pool(self) -> Pool:
        return Pool(self.context.limits, self.session.stop, self.context.environ)

    def _follow(self, method: str, url: str, headers: Mapping[str, str], path: str) -> Response:
        pool = self._pool()
        first, target = parse_url(url)
        self._vet_scheme(first, path)
        origin, sent = first, dict(headers)
        for _ in range(self.context.limits.max_redirects + 1):
            vet = None if origin == first else _Vetting(self, first, path)
            response = pool.request(method, origin, target, sent, vet)
            place = response.headers.get("location", "")
            if response.status not in _REDIRECTS or not place:
                return response
            response.close(drain=_DRAIN)
            next_origin, target = parse_url(_absolute(place, origin, target))
            self._vet_redirect(origin, next_origin, path)
            if next_origin != origin:
                sent = {name: sent[name] for name in sent if name.lower() in _MAY_CROSS}
            origin = next_origin
        raise self._refused(path, f"more than {self.context.limits.max_redirects} redirects")

    def _may_ask(self, origin: Origin) -> bool:
        return origin.scheme == "https" or self.context.allow_http or is_loopback(origin.host)

    def _vet_scheme(self, origin: Origin, path: str) -> None:
        if not self._may_ask(origin):
            error = self.error(
                ErrorCode.POLICY_DENIED,
                f"plain http:// is refused for {path!r}" if path else "plain http:// is refused",
                hint="use https://, or set allow_http = true",
            )
            error.retries = 0
            raise error

    def _vet_redirect(self, origin: Origin, target: Origin, path: str) -> None:
        if origin.scheme == "https" and target.scheme != "https":
            raise self._refused(path, "a redirect from https to http")
        if target != origin and not self._may_ask(target):
            raise self._refused(path, "a redirect to plain http://")

    def _refused(self, path: str, what: str) -> SourceFault:
        error = self.error(ErrorCode.SOURCE_UNAVAILABLE, f"refused for {path!r}: {what}")
        error.retries = 0
        return error

    def _status_error(self, response: Response, path: str) -> SourceFault:
        status = response.status
        code, what = _CODES.get(status, (ErrorCode.SOURCE_UNAVAILABLE, "the source failed"))
        subject = f"{path!r}: " if path else ""
        error = self.error(code, f"{subject}{what} (HTTP {status})", hint=self._hint(code))
        if code in (ErrorCode.RATE_LIMIT, ErrorCode.SOURCE_UNAVAILABLE):
            error.retry_after = _retry_after(response.headers)
        if status < 500 and status not in (408, 429):
            error.retries = 0
        error.restart = status in (412, 416)
        return error

    def _hint(self, code: ErrorCode) -> str:
        return "check the credentials of this source" if code is ErrorCode.AUTH_FAIL else ""

    def wire_error(self, fault: WireFault, path: str) -> SourceFault:
        """Name the source and the file in a fault of the wire."""
        text = f"{path!r}: {fault.text}" if path else fault.text
        error = self.error(fault.code, text, hint=fault.hint)
        error.retries = fault.retries
        return error


class HttpBody(Body):
    """The body of one answer, vetted against what was asked before a byte of it is read."""

    def __init__(
        self, provider: HttpProvider, path: str, response: Response, *, ranged: bool
    ) -> None:
        self._provider = provider
        self._path = path
        self._response = response
        self.etag = response.headers.get("etag")
        coding = response.headers.get("content-encoding", "identity").lower()
        if coding not in ("identity", ""):
            raise self._fault(
                ErrorCode.SIZE_MISMATCH, f"the source sends {path!r} compressed, unasked"
            )
        if response.status == 200:
            self.whole = ranged
            self.total = self.stop = response.length
        elif not ranged:
            raise self._fault(
                ErrorCode.RANGE_MISMATCH, f"a part of {path!r} came though all was asked for"
            )
        else:
            self._take_range(response)

    def _take_range(self, response: Response) -> None:
        match = _content_range(response.headers.get("content-range", ""))
        if match is None:
            raise self._fault(
                ErrorCode.RANGE_MISMATCH, f"the answer for {self._path!r} does not say its range"
            )
        self.start, self.stop = int(match[1]), int(match[2]) + 1
        self.total = None if match[3] == "*" else int(match[3])
        if response.length is not None and response.length != self.stop - self.start:
            raise self._fault(
                ErrorCode.RANGE_MISMATCH, f"the answer for {self._path!r} contradicts itself"
            )

    def _fault(self, code: ErrorCode, summary: str) -> SourceFault:
        fault = self._provider.error(code, summary)
        fault.retries = 0
        return fault

    def readinto(self, buffer: memoryview) -> int:
        """As the base class; a cut, stalled or broken answer is a `SourceFault`."""
        try:
            return self._response.readinto(buffer)
        except WireFault as fault:
            raise self._provider.wire_error(fault, self._path) from fault

    def splice(self, pipe: int, most: int) -> int | None:
        """As the base class; faults as those of `readinto`."""
        try:
            return self._response.splice(pipe, most)
        except WireFault as fault:
            raise self._provider.wire_error(fault, self._path) from fault

    def abandon(self) -> None:
        """As the base class."""
        self._response.abandon()

    def close(self) -> None:
        """As the base class; an unread rest costs the connection."""
        self._response.close()


class _Vetting:
    """Looks at the address a redirect leads to, before anything is sent there."""

    def __init__(self, provider: HttpProvider, first: Origin, path: str) -> None:
        self._provider = provider
        self._first = first
        self._path = path

    def __call__(self, address: str) -> None:
        inward = is_loopback(address) and not is_loopback(self._first.host)
        if inward or _is_near(address):
            raise self._provider._refused(self._path, "a redirect into this machine or its link")


def crossing(url: str, place: str, headers: Mapping[str, str]) -> Mapping[str, str]:
    """The headers that may go along from one address to another: all, or none that is secret."""
    if parse_url(url)[0] == parse_url(place)[0]:
        return headers
    return {name: headers[name] for name in headers if name.lower() in _MAY_CROSS}


def _is_near(address: str) -> bool:
    import ipaddress

    try:
        place = ipaddress.ip_address(address)
    except ValueError:  # a name, where a proxy looks names up
        return False
    return place.is_link_local or place.is_unspecified


def _absolute(place: str, origin: Origin, target: str) -> str:
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*:", place):
        return place
    from urllib.parse import urljoin

    return urljoin(f"{origin.scheme}://{origin.authority}{target}", place)


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait as the server wants: a number or a date; junk and the past are None."""
    text = headers.get("retry-after", "").strip()
    if not text:
        return None
    if re.fullmatch(r"[0-9]{1,12}", text):
        return float(text)
    import time
    from email.utils import parsedate_to_datetime

    try:
        seconds = parsedate_to_datetime(text).timestamp() - time.time()
    except (ValueError, TypeError, OverflowError):
        return None
    return seconds if seconds > 0 else None
