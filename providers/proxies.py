"""Which proxy a request goes through, as the environment says, and the tunnel through it.

`http_proxy`, `https_proxy`, `all_proxy` and `no_proxy` are read in lower case first, then in upper
case, as curl and Python's own tools do. Only `http://` proxies are spoken: plain requests are sent
to them in absolute form, TLS goes through a CONNECT tunnel. Name and password of a proxy go to the
proxy and nowhere else; no text here holds them. Raises `WireFault` only.
"""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Mapping
from urllib.parse import unquote

import attrs

from wanrec.providers.wire import Origin, WireFault, is_loopback, parse_head
from wanrec.reconcile.errors import ErrorCode

__all__ = ["Proxy", "proxy_for", "tunnel"]

_url = re.compile(
    r"(?:(?P<scheme>[a-z][a-z0-9+.-]*)://)?(?:(?P<user>[^/]*)@)?"
    r"(?P<host>\[[0-9a-f:.]+\]|[a-z0-9_.-]+)(?::(?P<port>[0-9]{1,5}))?/?",
    re.IGNORECASE,
).fullmatch
_rule = re.compile(r"(\[[0-9a-f:.]+\]|[^\[\]:]+)(?::([0-9]{1,5}))?").fullmatch
_REFUSALS = {
    401: (ErrorCode.AUTH_FAIL, "wants credentials"),
    403: (ErrorCode.AUTH_FAIL, "refuses to connect to"),
    407: (ErrorCode.AUTH_FAIL, "wants credentials"),
    408: (ErrorCode.NETWORK_TIMEOUT, "found no connection in time to"),
    429: (ErrorCode.RATE_LIMIT, "asks to slow down for"),
    504: (ErrorCode.NETWORK_TIMEOUT, "found no connection in time to"),
}


@attrs.frozen(kw_only=True)
class Proxy:
    """One proxy, and what it wants to see of us.

    Attributes:
        variable: the environment variable that names it.
        url: the whole of it in the one form that everybody reads; secret.
        authorization: value of Proxy-Authorization, or None; secret.
    """

    variable: str
    host: str
    port: int
    url: str = attrs.field(repr=False)
    authorization: str | None = attrs.field(default=None, repr=False)

    @property
    def place(self) -> str:
        """Host and port, without credentials."""
        return f"{self.host}:{self.port}"

    @property
    def headers(self) -> Mapping[str, str]:
        """What the proxy is told besides the request itself."""
        return {"Proxy-Authorization": self.authorization} if self.authorization else {}

    @property
    def hint(self) -> str:
        """How to give it credentials, or to leave it out."""
        return (
            f"{self.variable} names this proxy: put the user and password into it"
            " (http://USER:PASSWORD@HOST:PORT), or the host into NO_PROXY"
        )


def proxy_for(origin: Origin, environ: Mapping[str, str]) -> Proxy | None:
    """Return the proxy for requests to an origin; None: it is asked directly.

    A loopback address means this machine: only a proxy on it is asked for one.

    Raises:
        WireFault: INVALID_CONFIG for a proxy that is none, or speaks what we do not.
    """
    name, text = _named(origin.scheme, environ)
    if not text or _is_excepted(origin, environ):
        return None
    match = _url(text)
    port = int(match["port"] or 80) if match else 0
    if match is None or not 0 < port < 65536:
        raise _unusable(name, "does not name a proxy")
    if (match["scheme"] or "http").lower() != "http":
        raise _unusable(name, "names a proxy of a kind that is not supported")
    host = match["host"].strip("[]").lower()
    if is_loopback(origin.host) and not is_loopback(host):
        return None
    user = match["user"]
    url = f"http://{user + '@' if user else ''}{match['host']}:{port}"
    credentials = _basic(user) if user else None
    return Proxy(variable=name, host=host, port=port, url=url, authorization=credentials)


def _named(scheme: str, environ: Mapping[str, str]) -> tuple[str, str]:
    for stem in (scheme, "all"):
        upper = f"{stem.upper()}_PROXY"
        if upper == "HTTP_PROXY" and "REQUEST_METHOD" in environ:
            upper = ""  # in a CGI program that variable is the header `Proxy:` of a stranger
        name = f"{stem}_proxy" if f"{stem}_proxy" in environ else upper
        text = environ.get(name, "").strip()
        if text:
            return name, text
    return "", ""


def _unusable(name: str, what: str) -> WireFault:
    return WireFault(
        ErrorCode.INVALID_CONFIG,
        f"the environment variable {name} {what}",
        retries=0,
        hint=f"{name}=http://[USER:PASSWORD@]HOST:PORT, or the host in NO_PROXY",
    )


def _basic(user: str) -> str:
    import base64

    name, _, password = user.partition(":")
    pair = f"{unquote(name)}:{unquote(password)}".encode()
    return "Basic " + base64.b64encode(pair).decode("ascii")


def _is_excepted(origin: Origin, environ: Mapping[str, str]) -> bool:
    text = environ["no_proxy"] if "no_proxy" in environ else environ.get("NO_PROXY", "")
    return any(_covers(word, origin) for word in re.split(r"[,\s]+", text.lower()) if word)


def _covers(word: str, origin: Origin) -> bool:
    """Whether a word of NO_PROXY means an origin: `*`, host, suffix, address, network, port."""
    if word == "*":
        return True
    match = _rule(word)
    if match is not None and match[2] and int(match[2]) != origin.port:
        return False
    name = (match[1] if match else word).strip("[]")
    host = origin.host.rstrip(".")
    bare = name.removeprefix("*").strip(".")
    if bare and (host == bare or host.endswith("." + bare)):
        return True
    import ipaddress

    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(name, strict=False)
    except ValueError:
        return False


def tunnel(sock: socket.socket, proxy: Proxy, origin: Origin, most: int, ends: float) -> None:
    """Have the proxy connect us to an origin; `ends` is on the monotonic clock.

    Raises:
        WireFault: what the proxy answered, as a code of the contract.
        OSError: the connection to the proxy broke; TimeoutError: it was too slow.
    """
    host = f"[{origin.host}]" if ":" in origin.host else origin.host
    target = f"{host}:{origin.port}"
    lines = [f"CONNECT {target} HTTP/1.1", f"Host: {target}", "User-Agent: wanrec"]
    lines += [f"{name}: {value}" for name, value in proxy.headers.items()]
    sock.sendall(("\r\n".join(lines) + "\r\n\r\n").encode("ascii"))
    text = bytearray()
    while (end := text.find(b"\r\n\r\n")) < 0:
        if len(text) > most:
            raise _fault(proxy, "gives an answer without end", 502)
        left = ends - time.monotonic()
        if left <= 0:
            raise TimeoutError
        sock.settimeout(left)
        block = sock.recv(4096)
        if not block:
            raise ConnectionResetError("the proxy hung up")
        text += block
    status, _ = parse_head(bytes(text[:end]))
    if not 200 <= status < 300:
        _, what = _REFUSALS.get(status, (None, "found no way to"))
        raise _fault(proxy, what if "wants" in what else f"{what} {target}", status)
    if len(text) > end + 4:
        raise _fault(proxy, "sends what nobody asked for", 502)


def _fault(proxy: Proxy, what: str, status: int) -> WireFault:
    code, _ = _REFUSALS.get(status, (ErrorCode.SOURCE_UNAVAILABLE, ""))
    return WireFault(
        code,
        f"the proxy {proxy.place} {what} (HTTP {status})",
        retries=None if status >= 500 or status in (408, 429) else 0,
        hint=proxy.hint,
    )
