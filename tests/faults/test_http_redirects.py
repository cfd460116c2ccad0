"""Redirects that lead elsewhere, and connections that are used again (rows 24-25)."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.http_faults import BIG, CANARY, FAST, SMALL, both, fails, lands, source_of
from support.lying_server import Answer, LyingServer, Peer, Request, head, serve_ranges

from wanrec.providers.base import ProviderContext
from wanrec.providers.testing import FetchHarness
from wanrec.reconcile.errors import ErrorCode, WanrecError

# --- row 24: redirects --------------------


def _redirect(place: str, status: str = "302 Found") -> Answer:
    def answer(request: Request, peer: Peer) -> bool:
        peer.send_head(status, Location=place, Content_Length=0)
        return True

    return answer


@both
@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See Other", "307 T", "308 P"])
def test_redirect_is_followed_with_the_range(
    harness: FetchHarness, server: LyingServer, content: bytes, status: str
) -> None:
    """A redirect, absolute or relative, leads to the file."""
    server.on("/m/a.bin", _redirect("../other/b.bin?x=1", status))
    server.on("/other/b.bin", serve_ranges(content))
    lands(harness, server, content)


def test_credentials_do_not_cross_to_another_port(
    harness: FetchHarness, server: LyingServer
) -> None:
    """At the second origin no Authorization and no Cookie arrives, the range does."""
    from wanrec.providers.base import Located
    from wanrec.providers.web import WebProvider

    class Authorised(WebProvider):
        def _locate(self, path: str, probe: bool) -> Located:
            import attrs

            located = super()._locate(path, probe)
            secret = {"Authorization": f"Bearer {CANARY}", "Cookie": CANARY, "X-Token": CANARY}
            return attrs.evolve(located, headers=secret)

    from wanrec.providers.source_url import parse_source

    with LyingServer() as other:
        other.on("/b.bin", serve_ranges(BIG))
        server.on("/m/a.bin", _redirect(f"{other.url}/b.bin"))
        url, context = source_of(server)
        provider = Authorised(parse_source(url), context)
        with provider.open_range(provider.locate("a.bin"), 0, 100) as body:
            assert body.stop == 100
        provider.session.close()
        (here,), (there,) = server.asked("/m/a.bin"), other.asked("/b.bin")
    assert CANARY in here.headers["authorization"]
    assert CANARY not in str(there)
    assert there.headers["range"] == "bytes=0-99"


@pytest.mark.parametrize(
    "place",
    [
        "file:///etc/passwd",
        "ftp://x/y",
        "gopher://x",
        "http://[::ffff",
        "//",
        "",
        "http://user:p@x/",
        "http://169.254.169.254/latest/meta-data",
        "http://192.0.2.1/a.bin",
    ],
)
def test_redirect_where_no_file_may_come_from(
    harness: FetchHarness, server: LyingServer, place: str
) -> None:
    """A redirect where no file may come from is SOURCE_UNAVAILABLE at once, the source's fault."""
    server.on("/m/a.bin", _redirect(place))
    assert fails(harness, server, SMALL).code is ErrorCode.SOURCE_UNAVAILABLE
    assert len(server.asked("/m/a.bin")) <= FAST.max_redirects + 1


def test_redirect_loop_ends_after_ten(harness: FetchHarness, server: LyingServer) -> None:
    """A loop is given up after ten hops, without retries."""
    server.on("/m/a.bin", _redirect("/m/a.bin"))
    assert fails(harness, server, SMALL).code is ErrorCode.SOURCE_UNAVAILABLE
    assert len(server.asked("/m/a.bin")) == FAST.max_redirects + 1


def test_redirect_from_https_to_http_is_refused(tmp_path: Path) -> None:
    """A hop to a lower scheme is refused before anything is sent there."""
    from wanrec.providers.http import HttpProvider
    from wanrec.providers.source_url import parse_source
    from wanrec.providers.web import WebProvider
    from wanrec.providers.wire import Origin

    provider: HttpProvider = WebProvider(
        parse_source("https://a.example/m"), ProviderContext(base=tmp_path, allow_http=True)
    )
    with pytest.raises(WanrecError) as caught:
        provider._vet_redirect(
            Origin("https", "a.example", 443), Origin("http", "a.example", 80), "a.bin"
        )
    assert caught.value.code is ErrorCode.SOURCE_UNAVAILABLE


@pytest.mark.parametrize("address", ["169.254.169.254", "fe80::1", "0.0.0.0", "127.0.0.1", "::1"])
def test_redirect_into_this_machine_is_refused(tmp_path: Path, address: str) -> None:
    """A hop from a public host to loopback or a link-local address is refused."""
    from wanrec.providers.http import _Vetting
    from wanrec.providers.source_url import parse_source
    from wanrec.providers.web import WebProvider
    from wanrec.providers.wire import Origin

    provider = WebProvider(parse_source("https://a.example/m"), ProviderContext(base=tmp_path))
    vet = _Vetting(provider, Origin("https", "a.example", 443), "a.bin")
    with pytest.raises(WanrecError):
        vet(address)
    vet("93.184.216.34")


def test_plain_http_beyond_loopback_is_refused(harness: FetchHarness, tmp_path: Path) -> None:
    """http:// to another machine is POLICY_DENIED unless it is allowed."""
    with pytest.raises(WanrecError) as caught:
        harness.fetch("a.bin", SMALL, ("http://192.0.2.1/m", ProviderContext(base=tmp_path)))
    assert caught.value.code is ErrorCode.POLICY_DENIED


# --- keep-alive --------------------


def test_connection_is_used_again_and_a_dead_one_is_replaced(
    harness: FetchHarness, server: LyingServer
) -> None:
    """A server that hangs up between two files is no failure, and costs no retry."""

    def polite(request: Request, peer: Peer) -> bool:
        peer.send(head("200 OK", Content_Length=len(SMALL)), body=False)
        peer.send(SMALL)
        return False  # closes, without having said so

    server.on("/m/a.bin", polite)
    for _ in range(3):
        harness.fetch("a.bin", SMALL, source_of(server))
    assert harness.kinds() == []
