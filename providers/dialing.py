"""From an origin to a connected socket: look-up, proxy, tunnel and TLS within one deadline.

The socket that comes out has no timeout set: whoever uses it sets his own. Raises `WireFault`
only; no text holds credentials.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from wanrec.providers.limits import Limits
from wanrec.providers.proxies import Proxy, tunnel
from wanrec.providers.wire import Origin, WireFault
from wanrec.reconcile.errors import ErrorCode

if TYPE_CHECKING:
    import ssl

__all__ = ["dial"]

_Address = tuple[int, int, int, str, tuple[object, ...]]


def dial(
    origin: Origin, proxy: Proxy | None, tls: Callable[[], ssl.SSLContext], limits: Limits
) -> socket.socket:
    """Connect to an origin, or to the proxy that stands before it.

    Raises:
        WireFault: NETWORK_TIMEOUT, SOURCE_UNAVAILABLE; what the proxy answered; what `tls` raises.
    """
    ends = time.monotonic() + limits.connect_timeout_s
    try:
        sock = _connected(*((proxy.host, proxy.port) if proxy else origin[1:]), ends)
    except OSError as exc:
        raise _fault(origin, proxy, exc) from exc
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if origin.scheme == "https":
            if proxy is not None:
                tunnel(sock, proxy, origin, limits.max_header_bytes, ends)
            sock.settimeout(_left(ends))
            sock = tls().wrap_socket(sock, server_hostname=origin.host)
    except OSError as exc:
        sock.close()
        raise _fault(origin, proxy, exc) from exc
    except BaseException:
        sock.close()
        raise
    return sock


def _left(ends: float) -> float:
    left = ends - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _connected(host: str, port: int, ends: float) -> socket.socket:
    """Try the addresses of a host in turn; each gets its share of the time that is left."""
    addresses = _addresses(host, port, ends)
    failure: OSError = TimeoutError()
    for number, (family, kind, protocol, _, address) in enumerate(addresses):
        sock = socket.socket(family, kind, protocol)
        try:
            sock.settimeout(_left(ends) / (len(addresses) - number))
            sock.connect(address)
        except OSError as exc:
            sock.close()
            failure = exc
        else:
            return sock
    raise failure


def _addresses(host: str, port: int, ends: float) -> list[_Address]:
    """Look a host up; the system's resolver knows no deadline, so a thread waits for it."""
    found: list[_Address] = []
    failed: list[OSError] = []

    def look_up() -> None:
        try:
            found.extend(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except OSError as exc:
            failed.append(exc)
        except UnicodeError:  # a label that is empty or too long
            failed.append(socket.gaierror(socket.EAI_NONAME, "not a host name"))

    if _is_numeric(host):
        look_up()
    else:
        thread = threading.Thread(target=look_up, name="wanrec-look-up", daemon=True)
        thread.start()
        thread.join(_left(ends))
    if failed:
        raise failed[0]
    if not found:
        raise TimeoutError
    return list(found)


def _is_numeric(host: str) -> bool:
    return ":" in host or host.replace(".", "").isdigit()


def _fault(origin: Origin, proxy: Proxy | None, exc: OSError) -> WireFault:
    where = f"the proxy {proxy.place}" if proxy else f"{origin.host}:{origin.port}"
    hint = (
        proxy.hint
        if proxy
        else f"check the address and the network; behind a proxy set {origin.scheme.upper()}_PROXY"
    )
    if isinstance(exc, TimeoutError):
        text = f"no connection to {where} in time"
        return WireFault(ErrorCode.NETWORK_TIMEOUT, text, retries=1, hint=hint)
    untrusted = hasattr(exc, "verify_message")
    if untrusted:
        where = f"{origin.host}:{origin.port}"
        hint = "a certificate authority of your own: SSL_CERT_FILE=FILE.pem"
    why = getattr(exc, "verify_message", None) or exc.strerror or type(exc).__name__
    return WireFault(
        ErrorCode.SOURCE_UNAVAILABLE,
        f"no connection to {where}: {why}",
        retries=0 if untrusted or isinstance(exc, socket.gaierror) else 2,
        hint=hint,
    )
