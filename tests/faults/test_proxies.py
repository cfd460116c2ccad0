"""Proxies and certificate authorities of the environment, with a real proxy and real TLS."""

from __future__ import annotations

import shutil
import socket
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

import attrs
import pytest
from support.lying_server import LyingServer, serve_ranges
from support.program import Program
from support.proxy_server import ProxyServer, make_certificate
from support.seaweed import Seaweed
from support.specs import declare, spec_text

from wanrec.providers import provider_for
from wanrec.providers.base import ProviderContext
from wanrec.providers.limits import MIB, Limits
from wanrec.providers.proxies import proxy_for
from wanrec.providers.testing import FetchHarness
from wanrec.providers.wire import WireFault, parse_url
from wanrec.reconcile.errors import ErrorCode, WanrecError

HOST = "models.test"
CONTENT = bytes(range(256)) * (12 * 1024)  # 3 MiB: ranges
CANARY = "c4n4ry-pr0xy"
FAST = Limits(
    backoff_s=0.01,
    backoff_cap_s=0.02,
    retries=1,
    connect_timeout_s=5.0,
    stall_window_s=5.0,
    range_bytes=MIB,
)


@attrs.frozen(kw_only=True)
class Site:
    """A web server that only the proxy can find, over TLS with an authority of its own."""

    server: LyingServer
    proxy: ProxyServer
    authority: Path
    harness: FetchHarness

    def fetch(self, environ: Mapping[str, str], scheme: str = "https") -> str:
        """Fetch the file; returns who delivered."""
        context = ProviderContext(
            base=Path(), allow_http=True, limits=FAST, environ={**self.trust, **environ}
        )
        port = "" if scheme == "https" else ":81"
        source = f"{scheme}://{HOST}{port}/m"
        fetched = self.harness.fetch("a.bin", CONTENT, (source, context))
        assert self.harness.staged() == {fetched.sha256: CONTENT}
        return fetched.source

    def refused(self, environ: Mapping[str, str], scheme: str = "https") -> WanrecError:
        """Fail to fetch; nothing stays behind, and nothing of it shows the canary."""
        with pytest.raises(WanrecError) as caught:
            self.fetch(environ, scheme)
        assert self.harness.staged() == {}
        said = f"{caught.value} {caught.value.detail} {caught.value.hint} {self.harness.events}"
        assert CANARY not in said
        return caught.value

    @property
    def trust(self) -> dict[str, str]:
        """The environment that trusts the server's authority."""
        return {"SSL_CERT_FILE": str(self.authority)}


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, object]:
    """The authority's file and the server's context."""
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl")
    return make_certificate(tmp_path_factory.mktemp("authority"), HOST)


def _site(tls: object, authority: Path, folder: Path) -> Iterator[Site]:
    folder.mkdir()
    harness = FetchHarness(folder, limits=FAST)
    with LyingServer(tls) as server, ProxyServer({HOST: server.port}) as proxy:  # type: ignore[arg-type]
        server.on("/m/a.bin", serve_ranges(CONTENT))
        yield Site(server=server, proxy=proxy, authority=authority, harness=harness)
    harness.fetcher.close()


@pytest.fixture
def site(certificate: tuple[Path, object], tmp_path: Path) -> Iterator[Site]:
    """The server over TLS."""
    yield from _site(certificate[1], certificate[0], tmp_path / "tls")


@pytest.fixture
def plain(certificate: tuple[Path, object], tmp_path: Path) -> Iterator[Site]:
    """The server without TLS."""
    yield from _site(None, certificate[0], tmp_path / "plain")


# --- the way through --------------------


@pytest.mark.parametrize("name", ["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"])
def test_https_goes_through_a_tunnel(site: Site, name: str) -> None:
    """TLS to the host itself through CONNECT; the proxy sees neither path nor bytes."""
    site.fetch({name: site.proxy.url})
    assert {(one.method, one.target) for one in site.proxy.heard} == {("CONNECT", f"{HOST}:443")}
    assert site.server.requests
    assert all("proxy-authorization" not in one.headers for one in site.server.requests)


@pytest.mark.parametrize("name", ["http_proxy", "HTTP_PROXY", "ALL_PROXY"])
def test_plain_http_is_asked_for_in_absolute_form(plain: Site, name: str) -> None:
    """Without TLS the proxy gets the whole address, and the server the path as always."""
    plain.fetch({name: plain.proxy.url}, "http")
    targets = {(one.method, one.target) for one in plain.proxy.heard}
    assert targets == {("GET", f"http://{HOST}:81/m/a.bin")}
    assert {one.headers["host"] for one in plain.server.requests} == {f"{HOST}:81"}


@pytest.mark.parametrize("scheme", ["https", "http"])
def test_credentials_of_the_proxy_reach_the_proxy_only(
    site: Site, plain: Site, scheme: str
) -> None:
    """User and password of the proxy's URL, decoded, are Basic credentials for it alone."""
    place = site if scheme == "https" else plain
    place.proxy.credentials = f"us:er{CANARY}@x"
    address = f"http://us:er{CANARY}%40x@127.0.0.1:{place.proxy.port}/"
    place.fetch({f"{scheme.upper()}_PROXY": address}, scheme)
    assert all("proxy-authorization" in one.headers for one in place.proxy.heard)
    assert all("proxy-authorization" not in one.headers for one in place.server.requests)


# --- what a proxy can refuse --------------------


@pytest.mark.parametrize("scheme", ["https", "http"])
def test_a_proxy_that_wants_credentials(site: Site, plain: Site, scheme: str) -> None:
    """407 is AUTH_FAIL without a retry storm, and the hint says where credentials go."""
    place = site if scheme == "https" else plain
    place.proxy.credentials = "somebody:else"
    place.proxy.body = CANARY.encode()
    variable = f"{scheme.upper()}_PROXY"
    error = place.refused({variable: f"http://me:{CANARY}@127.0.0.1:{place.proxy.port}"}, scheme)
    assert error.code is ErrorCode.AUTH_FAIL
    assert "proxy" in error.summary
    assert len(place.proxy.heard) == 1
    if scheme == "https":
        assert variable in error.hint
        assert f"127.0.0.1:{place.proxy.port}" in error.summary


@pytest.mark.parametrize(
    ("status", "code", "asked"),
    [
        ("502 Bad Gateway", ErrorCode.SOURCE_UNAVAILABLE, 2),
        ("403 Forbidden", ErrorCode.AUTH_FAIL, 1),
        ("504 Gateway Timeout", ErrorCode.NETWORK_TIMEOUT, 2),
        ("429 Too Many Requests", ErrorCode.RATE_LIMIT, 2),
        ("301 Moved", ErrorCode.SOURCE_UNAVAILABLE, 1),
        ("nonsense", ErrorCode.SOURCE_UNAVAILABLE, 2),
    ],
)
def test_a_proxy_that_makes_no_tunnel(site: Site, status: str, code: ErrorCode, asked: int) -> None:
    """Each refusal has its code, names the proxy, and is retried only when that makes sense."""
    site.proxy.refuse = status
    error = site.refused({"HTTPS_PROXY": f"http://u:{CANARY}@127.0.0.1:{site.proxy.port}"})
    assert error.code is code
    assert len(site.proxy.heard) == asked
    assert site.server.requests == []


def test_a_proxy_that_is_not_there(site: Site) -> None:
    """Nobody listens: SOURCE_UNAVAILABLE, and it is the proxy that is named."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    error = site.refused({"HTTPS_PROXY": f"http://u:{CANARY}@127.0.0.1:{port}"})
    assert error.code is ErrorCode.SOURCE_UNAVAILABLE
    assert f"the proxy 127.0.0.1:{port}" in error.summary
    assert "HTTPS_PROXY" in error.hint


def test_a_proxy_that_says_nothing(tmp_path: Path, certificate: tuple[Path, object]) -> None:
    """The tunnel is part of connecting: the connect deadline ends the wait for it."""
    limits = attrs.evolve(FAST, connect_timeout_s=0.3, retries=0)
    harness = FetchHarness(tmp_path, limits=limits)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        proxy = f"http://127.0.0.1:{silent.getsockname()[1]}"
        context = ProviderContext(base=tmp_path, limits=limits, environ={"https_proxy": proxy})
        with pytest.raises(WanrecError) as caught:
            harness.fetch("a.bin", CONTENT, (f"https://{HOST}/m", context))
    harness.fetcher.close()
    assert caught.value.code is ErrorCode.NETWORK_TIMEOUT


@pytest.mark.parametrize(
    "value",
    [
        f"socks5://u:{CANARY}@127.0.0.1:1080",
        "https://proxy:3128",
        f"http://{CANARY}:x:y",
        "http://",
    ],
)
def test_a_proxy_that_cannot_be_used(site: Site, value: str) -> None:
    """What names no http:// proxy is refused by the name of its variable, never passed by."""
    error = site.refused({"ALL_PROXY": value})
    assert error.code is ErrorCode.INVALID_CONFIG
    assert "ALL_PROXY" in error.summary


# --- who is asked directly --------------------


@pytest.mark.parametrize(
    ("rule", "url", "direct"),
    [
        ("*", "https://a.example/", True),
        ("example", "https://a.example/", True),
        (".a.example", "https://a.example/", True),
        ("*.example", "https://a.example/", True),
        ("xample", "https://a.example/", False),
        ("b.example, A.EXAMPLE", "https://a.example./", True),
        ("b.example a.example", "https://a.example/", True),
        ("a.example:443", "https://a.example/", True),
        ("a.example:8443", "https://a.example/", False),
        ("a.example:8443", "https://a.example:8443/", True),
        ("10.0.0.0/8", "https://10.1.2.3/", True),
        ("10.0.0.0/8", "https://11.1.2.3/", False),
        ("10.1.2.3", "https://10.1.2.3/", True),
        ("fd00::/8", "https://[fd00::1]/", True),
        ("[fd00::1]:443", "https://[fd00::1]/", True),
        ("10.0.0.0/8", "https://a.example/", False),
        ("", "https://a.example/", False),
        ("[", "https://a.example/", False),
    ],
)
def test_exceptions(rule: str, url: str, direct: bool) -> None:
    """NO_PROXY: hosts with what is below them, addresses, networks, ports, and `*` for all."""
    origin = parse_url(url)[0]
    environ = {"HTTPS_PROXY": "http://proxy.example:3128", "NO_PROXY": rule}
    assert (proxy_for(origin, environ) is None) is direct


@pytest.mark.parametrize(
    ("environ", "port"),
    [
        ({}, None),
        ({"HTTP_PROXY": "http://p:1"}, 1),
        ({"HTTP_PROXY": "p:1"}, 1),
        ({"HTTP_PROXY": "p"}, 80),
        ({"HTTPS_PROXY": "http://p:1"}, None),
        ({"http_proxy": "http://p:1", "HTTP_PROXY": "http://p:2"}, 1),
        ({"http_proxy": "", "HTTP_PROXY": "http://p:2"}, None),
        ({"HTTP_PROXY": "", "ALL_PROXY": "http://p:3"}, 3),
        ({"HTTP_PROXY": "http://p:1", "REQUEST_METHOD": "GET"}, None),
        ({"http_proxy": "http://p:1", "REQUEST_METHOD": "GET"}, 1),
        ({"HTTP_PROXY": "http://p:1", "no_proxy": "", "NO_PROXY": "*"}, 1),
    ],
)
def test_which_variable_counts(environ: dict[str, str], port: int | None) -> None:
    """The scheme's own before ALL_PROXY, lower case before upper, none in a CGI program."""
    proxy = proxy_for(parse_url("http://a.example/")[0], environ)
    assert (proxy and proxy.port) == port


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]", "x.localhost"])
def test_loopback_is_not_asked_of_another_machine(host: str) -> None:
    """This machine's own addresses mean something else at a proxy elsewhere."""
    origin = parse_url(f"http://{host}:9000/")[0]
    assert proxy_for(origin, {"HTTP_PROXY": "http://proxy.example:3128"}) is None
    assert proxy_for(origin, {"HTTP_PROXY": "http://127.0.0.1:3128"}) is not None


def test_a_proxy_shows_no_credentials() -> None:
    """Neither its representation nor what people read of it holds user or password."""
    environ = {"HTTP_PROXY": f"http://me{CANARY}:{CANARY}@p.example:1"}
    proxy = proxy_for(parse_url("http://a.example/")[0], environ)
    assert proxy is not None
    assert proxy.authorization is not None
    assert CANARY not in f"{proxy!r} {proxy} {proxy.place} {proxy.hint}"
    assert proxy.authorization not in f"{proxy!r} {proxy}"


# --- certificate authorities --------------------


@pytest.mark.parametrize(
    "name", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "AWS_CA_BUNDLE"]
)
def test_an_authority_of_the_environment_is_trusted(
    site: Site, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of the usual variables makes a server of a private authority acceptable."""
    monkeypatch.delenv(name, raising=False)
    site.fetch({"SSL_CERT_FILE": "", name: str(site.authority), "https_proxy": site.proxy.url})


def test_an_unknown_authority_is_refused(site: Site) -> None:
    """Without it nothing is sent to that server, nor asked twice, and the hint says what helps."""
    error = site.refused({"SSL_CERT_FILE": "", "https_proxy": site.proxy.url})
    assert error.code is ErrorCode.SOURCE_UNAVAILABLE
    assert "self-signed" in error.summary or "certificate" in error.summary
    assert "SSL_CERT_FILE" in error.hint
    assert site.server.requests == []
    assert len(site.proxy.heard) == 1


@pytest.mark.parametrize("text", [None, "no certificate\n"])
def test_a_bundle_that_is_none(site: Site, tmp_path: Path, text: str | None) -> None:
    """A variable that names nothing usable is INVALID_CONFIG, not silently passed by."""
    file = tmp_path / "none.pem"
    if text is not None:
        file.write_text(text)
    error = site.refused({"REQUESTS_CA_BUNDLE": str(file), "https_proxy": site.proxy.url})
    assert error.code is ErrorCode.INVALID_CONFIG
    assert "REQUESTS_CA_BUNDLE" in error.summary


# --- the program --------------------


def test_apply_through_a_proxy_keeps_its_password(wanrec: Program, plain: Site) -> None:
    """A whole apply: the bytes come through the proxy, its password comes out nowhere."""
    plain.proxy.credentials = f"me:{CANARY}"
    plain.server.on("/m/a.txt", serve_ranges(CONTENT))
    model = declare({"a.txt": CONTENT}, f"http://{HOST}/m")
    wanrec.write("specs/m.toml", spec_text({"m@1": model}))
    trace = wanrec.project / "trace.jsonl"
    environ: dict[str, str | None] = {
        "HTTP_PROXY": f"http://me:{CANARY}@127.0.0.1:{plain.proxy.port}",
        "WANREC_ALLOW_HTTP": "1",
    }
    words = ("-vv", "--trace-file", str(trace), "--format", "json")
    done = wanrec.ok("apply", "-y", *words, env=environ)
    assert list(wanrec.files().values()) == [CONTENT]
    said = wanrec.ok("config", env=environ), wanrec.ok("sources", "--json", env=environ)
    outputs = "".join(one.stdout + one.stderr for one in (done, *said))
    files = [file for place in (wanrec.root, wanrec.project) for file in place.rglob("*")]
    assert CANARY not in outputs
    assert not [file for file in files if file.is_file() and CANARY.encode() in file.read_bytes()]


def test_an_exhausted_look_up_ends_at_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    """A resolver that never answers does not hold a connection longer than the deadline."""
    from wanrec.providers.dialing import dial

    asked = threading.Event()

    def look_up(*_args: object, **_named: object) -> list[object]:
        asked.wait(30)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    limits = attrs.evolve(FAST, connect_timeout_s=0.1)
    with pytest.raises(WireFault) as caught:
        dial(parse_url("http://a.example/")[0], None, lambda: pytest.fail("no TLS"), limits)
    asked.set()
    assert caught.value.code is ErrorCode.NETWORK_TIMEOUT


# --- the SDK of S3 --------------------


def test_a_listing_goes_the_way_of_the_bytes(seaweed: Seaweed, tmp_path: Path) -> None:
    """The SDK's requests take the same proxy, with its credentials, and the same exceptions."""
    bucket = seaweed.bucket({"m/a.txt": b"one"})
    with ProxyServer({"127.0.0.1": parse_url(seaweed.url)[0].port}) as proxy:
        proxy.credentials = f"me:{CANARY}"
        named = {"HTTP_PROXY": f"http://me:{CANARY}@127.0.0.1:{proxy.port}"}
        assert _listed(bucket, tmp_path, {**seaweed.environ, **named}) == ["a.txt"]
        assert any("list-type=2" in one.target for one in proxy.heard)
        asked = len(proxy.heard)
        excepted = {**seaweed.environ, **named, "NO_PROXY": "127.0.0.1"}
        assert _listed(bucket, tmp_path, excepted) == ["a.txt"]
        assert len(proxy.heard) == asked


def test_a_bucket_that_is_not_there_is_said_at_once(tmp_path: Path) -> None:
    """A listing from nobody fails in our own time: the SDK's patience is not waited for."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    keys = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
    with pytest.raises(WanrecError) as caught:
        _listed("bucket", tmp_path, {**keys, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}"})
    assert caught.value.code is ErrorCode.SOURCE_UNAVAILABLE
    assert f"127.0.0.1:{port}" in caught.value.summary  # the SDK's own failure names no address


def _listed(bucket: str, folder: Path, environ: Mapping[str, str]) -> list[str]:
    context = ProviderContext(base=folder, environ=environ, limits=FAST)
    provider = provider_for(f"s3://{bucket}/m", context)
    try:
        return [entry.path for entry in provider.catalogue()]
    finally:
        provider.session.close()
