"""A real HTTP proxy on loopback: absolute-form requests and CONNECT tunnels, plain sockets.

It looks names up in a table of its own, so that a test can have hosts that exist nowhere. What it
was asked is kept; it may ask for credentials, or refuse with any status.
"""

from __future__ import annotations

import base64
import contextlib
import re
import shutil
import socket
import ssl
import subprocess
import threading
from pathlib import Path

from support.loopback import Heard, LoopbackServer

__all__ = ["ProxyServer", "make_certificate"]

_authority = re.compile(r"(\[[^\]]+\]|[^:]+):(\d+)").fullmatch
_absolute = re.compile(r"http://([^/]+)(/.*)").fullmatch


class ProxyServer(LoopbackServer):
    """A context manager; ``hosts`` maps the names it knows to ports on 127.0.0.1.

    Attributes:
        url: ``http://127.0.0.1:PORT``.
        heard: what it was asked, in order.
        credentials: ``USER:PASSWORD`` that it wants, or None.
        refuse: a status line with which it answers everything, or None.
        body: what a refusal says.
    """

    def __init__(self, hosts: dict[str, int]) -> None:
        super().__init__()
        self.hosts = hosts
        self.heard: list[Heard] = []
        self.credentials: str | None = None
        self.refuse: str | None = None
        self.body = b"no"
        self.url = f"http://127.0.0.1:{self.port}"

    def answer(self, heard: Heard, client: socket.socket) -> bool:
        """Pass the request on, or refuse it."""
        method, target, headers, lines = heard
        self.heard.append(heard)
        refusal = self.refuse
        if self.credentials is not None:
            wanted = "Basic " + base64.b64encode(self.credentials.encode()).decode()
            if headers.get("proxy-authorization") != wanted:
                refusal = "407 Proxy Authentication Required"
        if refusal is not None:
            length = len(self.body)
            client.sendall(f"HTTP/1.1 {refusal}\r\nContent-Length: {length}\r\n\r\n".encode())
            client.sendall(b"" if method == "HEAD" else self.body)
            return method != "CONNECT"
        if method == "CONNECT":
            match = _authority(target)
            return match is not None and self._tunnel(match[1], client)
        match = _absolute(target)
        return match is not None and self._forward(method, match, lines, client)

    def _dial(self, host: str, client: socket.socket) -> socket.socket | None:
        port = self.hosts.get(host)
        if port is None:
            client.sendall(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
            return None
        sock = socket.create_connection(("127.0.0.1", port), 10)
        with self._lock:
            self._peers.add(sock)  # it ends with this server, too
        return sock

    def _tunnel(self, host: str, client: socket.socket) -> bool:
        server = self._dial(host, client)
        if server is not None:
            client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            back = threading.Thread(target=_pump, args=(server, client), daemon=True)
            back.start()
            _pump(client, server)
            back.join(10)
            server.close()
        return False

    def _forward(
        self, method: str, match: re.Match[str], lines: list[str], client: socket.socket
    ) -> bool:
        server = self._dial(match[1].partition(":")[0], client)
        if server is None:
            return True
        with server:
            kept = [line for line in lines if not line.lower().startswith(("proxy-", "connection"))]
            head = "\r\n".join([f"{method} {match[2]} HTTP/1.1", *kept, "Connection: close"])
            server.sendall(head.encode("latin-1") + b"\r\n\r\n")
            return _answered(server, client, body=method != "HEAD")


def _answered(server: socket.socket, client: socket.socket, *, body: bool) -> bool:
    """Pass one answer on; True when its end is known, so that the client may ask on."""
    text = b""
    while b"\r\n\r\n" not in text:
        text += server.recv(65536) or b"\r\n\r\n"
    head, _, rest = text.partition(b"\r\n\r\n")
    client.sendall(text)
    length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
    if not body:
        return True
    if length is None:
        _pump(server, client)
        return False
    left = int(length[1]) - len(rest)
    while left > 0 and (data := server.recv(min(left, 65536))):
        client.sendall(data)
        left -= len(data)
    return left == 0


def _pump(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)


def make_certificate(folder: Path, host: str) -> tuple[Path, ssl.SSLContext]:
    """A new authority that nobody trusts: its PEM file, and a server's context for one host."""
    program = shutil.which("openssl")
    assert program, "openssl is missing"
    certificate, key = folder / "authority.pem", folder / "key.pem"
    subprocess.run(
        [
            *(program, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"),
            *("-nodes", "-days", "2", "-subj", f"/CN={host}"),
            *("-addext", f"subjectAltName=DNS:{host}"),
            *("-addext", "keyUsage=critical,digitalSignature,keyCertSign"),
            *("-keyout", str(key), "-out", str(certificate)),
        ],
        check=True,
        capture_output=True,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return certificate, context
