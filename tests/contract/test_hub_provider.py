"""hf:// keeps the provider contract against a local Hub, and adds what only the Hub has."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import socket
import subprocess
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from pathlib import Path

import attrs
import pytest
from support.hub_server import HubServer, running_hub

from wanrec.providers import provider_for
from wanrec.providers.base import Provider, ProviderContext, TransferEvent
from wanrec.providers.limits import MIB, Limits
from wanrec.providers.testing import FetchHarness, ProviderContract, Served
from wanrec.providers.testing_faults import FaultContract
from wanrec.reconcile.errors import ErrorCode, WanrecError

REPO = "Org/wan-tiny"
TOKEN = "hf_canaryTokenThatNobodyMaySee"
BIG = bytes(range(256)) * (20 * 1024)  # 5 MiB: several ranges of 1 MiB
SMALL_RANGES = Limits(range_bytes=MIB, backoff_s=0.01, backoff_cap_s=0.05)


@pytest.fixture
def hub() -> Iterator[HubServer]:
    """An empty local Hub."""
    with running_hub() as server:
        yield server


def _context(hub: HubServer, home: Path, **environ: str) -> ProviderContext:
    return ProviderContext(
        base=home,
        environ={"HF_ENDPOINT": hub.url, "HOME": str(home), **environ},
        limits=SMALL_RANGES,
    )


@contextlib.contextmanager
def _harness(root: Path) -> Iterator[FetchHarness]:
    harness = FetchHarness(root, limits=SMALL_RANGES)
    yield harness
    harness.fetcher.close()


@contextlib.contextmanager
def _provider(url: str, context: ProviderContext) -> Iterator[Provider]:
    provider = provider_for(url, context)
    yield provider
    provider.session.close()


class TestAtABranch(FaultContract):
    """A public repository at its main branch."""

    @pytest.fixture(autouse=True)
    def _hub(self, hub: HubServer) -> None:
        self.hub = hub

    def serve(self, files: Mapping[str, bytes], folder: Path) -> Served:
        """As the contract asks."""
        self.hub.push(REPO, files)
        return f"hf://{REPO}", _context(self.hub, folder)

    def alter(self, path: str, content: bytes, folder: Path) -> None:
        """As the contract asks."""
        self.hub.spoil(REPO, path, content)


class TestInAFolderOfAPrivateCommit(ProviderContract):
    """A commit, a folder in it, a token, and a listing in pages."""

    @pytest.fixture(autouse=True)
    def _hub(self, hub: HubServer) -> None:
        self.hub = hub

    def serve(self, files: Mapping[str, bytes], folder: Path) -> Served:
        """As the contract asks."""
        self.hub.token = TOKEN
        self.hub.page = 2
        commit = self.hub.push(REPO, {f"fp-16/x/{path}": data for path, data in files.items()})
        self.hub.push(REPO, {"other.txt": b"later"})
        token = folder / "token"
        token.write_text(TOKEN + "\n")
        url = f"hf://{REPO}@{commit}/fp-16/x"
        return url, _context(self.hub, folder, HF_TOKEN_PATH=str(token))


def test_the_real_client_accepts_the_local_hub(hub: HubServer, tmp_path: Path) -> None:
    """`hf download` gets every file through it, so what passes here speaks the protocol."""
    files = {"config.json": b"{}", "vae/big.bin": BIG}
    commit = hub.push(REPO, files)
    hub.token = TOKEN
    program = shutil.which("hf", path=sysconfig.get_path("scripts"))
    assert program, "hf is missing: pip install huggingface_hub"
    environ = {"HF_ENDPOINT": hub.url, "HOME": str(tmp_path), "HF_TOKEN": TOKEN}
    subprocess.run(
        [program, "download", REPO], env=environ, check=True, capture_output=True, timeout=120
    )
    snapshot = tmp_path / f".cache/huggingface/hub/models--Org--wan-tiny/snapshots/{commit}"
    assert {path: (snapshot / path).read_bytes() for path in files} == files
    assert hub.count("cdn", "GET") == 1


def test_one_commit_for_all_files_asked_once(hub: HubServer, tmp_path: Path) -> None:
    """A branch is resolved once a run; a push in the midst of it mixes nothing."""
    files = {f"{number}.txt": b"old%d" % number for number in range(5)}
    commit = hub.push(REPO, files)
    source = (f"hf://{REPO}@main", _context(hub, tmp_path))
    with _harness(tmp_path / "root") as harness:
        for number, (path, content) in enumerate(files.items()):
            assert harness.fetch(path, content, source).revision == commit
            if number == 0:
                hub.push(REPO, dict.fromkeys(files, b"new"))
    assert hub.count("/revision/") == 1


def test_a_commit_in_the_url_costs_no_metadata_request(hub: HubServer, tmp_path: Path) -> None:
    """At a commit a small file is one GET, and no SDK is involved."""
    commit = hub.push(REPO, {"a.txt": b"a"})
    source = (f"hf://{REPO}@{commit}", _context(hub, tmp_path))
    with _harness(tmp_path / "root") as harness:
        assert harness.fetch("a.txt", b"a", source).revision == commit
    assert [(one.method, one.host) for one in hub.asked] == [("GET", "hub")]


def test_the_token_stays_at_the_hub(hub: HubServer, tmp_path: Path) -> None:
    """Ranges of a big file go straight to the second host, which never sees the token."""
    hub.token = TOKEN
    hub.push(REPO, {"big.bin": BIG, "linked.txt": b"x" * 5000})
    source = (f"hf://{REPO}", _context(hub, tmp_path, HF_TOKEN=TOKEN))
    with _harness(tmp_path / "root") as harness:
        harness.fetch("big.bin", BIG, source)
        harness.fetch("linked.txt", b"x" * 5000, source)
        assert TOKEN not in repr(harness.events)
    assert hub.count("hub", "HEAD", "big.bin") == 1
    assert hub.count("cdn", "GET", "big.bin") >= 5
    assert hub.count("hub", "GET", "big.bin") == 0
    cdn = [one for one in hub.asked if one.host == "cdn"]
    assert cdn
    assert not any("authorization" in one.headers for one in cdn)


def test_an_expired_address_is_asked_for_again(hub: HubServer, tmp_path: Path) -> None:
    """When the second host no longer accepts an address, the Hub gives a new one."""
    hub.push(REPO, {"big.bin": BIG})
    hub.expire_after = 2
    limits = attrs.evolve(SMALL_RANGES, workers_per_file=1)
    harness = FetchHarness(tmp_path / "root", limits=limits)
    source = (f"hf://{REPO}", _context(hub, tmp_path))
    assert harness.fetch("big.bin", BIG, source).size == len(BIG)
    harness.fetcher.close()
    assert hub.count("hub", "HEAD", "big.bin") > 1


@pytest.mark.parametrize("gated", [True, False])
def test_gated_and_private_name_the_page(hub: HubServer, tmp_path: Path, gated: bool) -> None:
    """Without access: AUTH_FAIL with the page to visit, for bytes and for the listing."""
    commit = hub.push(REPO, {"a.txt": b"a"})
    if gated:
        hub.gated.add(REPO)
    else:
        hub.token = "hf_another"
    context = _context(hub, tmp_path, HF_TOKEN=TOKEN)
    with _provider(f"hf://{REPO}@{commit}", context) as provider:
        with pytest.raises(WanrecError) as caught:
            provider.open_range(provider.locate("a.txt"), 0, None)
        health = provider.check()
    for code, hint in ((caught.value.code, caught.value.hint), (health.code, health.hint)):
        assert code is ErrorCode.AUTH_FAIL
        assert f"{hub.url}/{REPO}" in hint
    assert TOKEN not in repr(caught.value.to_dict())


@pytest.mark.parametrize(("url", "said"), [("@nope", "revision"), ("@" + "0" * 40, "revision")])
def test_a_missing_revision_is_not_found(
    hub: HubServer, tmp_path: Path, url: str, said: str
) -> None:
    """A branch or commit that is not there is NOT_FOUND_AT_SOURCE, and it says so."""
    hub.push(REPO, {"a.txt": b"a"})
    with (
        _provider(f"hf://{REPO}{url}", _context(hub, tmp_path)) as provider,
        pytest.raises(WanrecError) as caught,
    ):
        provider.open_range(provider.locate("a.txt"), 0, None)
    assert caught.value.code is ErrorCode.NOT_FOUND_AT_SOURCE
    assert said in caught.value.summary


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_hub_is_asked_again(hub: HubServer, tmp_path: Path, status: int) -> None:
    """429 and 503 with Retry-After, for metadata and for bytes: tried again, then delivered."""
    hub.push(REPO, {"big.bin": BIG})
    for pattern in ("/revision/", "/resolve/"):
        hub.fail(pattern, status, times=1, Retry_After="0")
    with _harness(tmp_path / "root") as harness:
        harness.fetch("big.bin", BIG, (f"hf://{REPO}", _context(hub, tmp_path)))
        assert harness.kinds() == [TransferEvent.RETRY]


def test_a_dead_hub_is_not_hammered(hub: HubServer, tmp_path: Path) -> None:
    """A revision that could not be resolved is not asked for again for every file.

    Each file has an error of its own, with its own address.
    """
    hub.push(REPO, {f"{number}.txt": b"a" for number in range(5)})
    hub.fail("/revision/", 503)
    errors = []
    with _harness(tmp_path / "root") as harness:
        for number in range(5):
            with pytest.raises(WanrecError) as caught:
                source = (f"hf://{REPO}", _context(hub, tmp_path))
                harness.fetch(f"{number}.txt", b"a", source)
            errors.append(caught.value)
    assert {error.code for error in errors} == {ErrorCode.SOURCE_UNAVAILABLE}
    assert [error.address for error in errors] == [f"m@1::{number}.txt" for number in range(5)]
    assert hub.count("/revision/") == 3


def test_a_gated_branch_is_told_in_whole_words(hub: HubServer, tmp_path: Path) -> None:
    """Without access a branch cannot be resolved: the error is about the repository, no file."""
    hub.push(REPO, {"a.txt": b"a"})
    hub.gated.add(REPO)
    context = _context(hub, tmp_path)
    with _provider(f"hf://{REPO}", context) as provider, pytest.raises(WanrecError) as caught:
        provider.locate("a.txt")
    assert caught.value.summary == "the repository is gated (HTTP 403)"


@pytest.mark.parametrize("name", ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"])
def test_the_hubs_own_switch_is_honoured(hub: HubServer, tmp_path: Path, name: str) -> None:
    """HF_HUB_OFFLINE=1 is OFFLINE, says which variable it was, and sends nothing."""
    hub.push(REPO, {"a.txt": b"a"})
    context = _context(hub, tmp_path, **{name: "1"})
    with _harness(tmp_path / "root") as harness, pytest.raises(WanrecError) as caught:
        harness.fetch("a.txt", b"a", (f"hf://{REPO}", context))
    assert caught.value.code is ErrorCode.OFFLINE
    assert name in caught.value.summary
    assert hub.asked == []


def test_the_catalogue_has_the_hash_of_big_files(hub: HubServer, tmp_path: Path) -> None:
    """Files above the Hub's limit are listed, and probed, with their sha256; small ones cannot."""
    hub.push(REPO, {"big.bin": BIG, "small.txt": b"s"})
    with _provider(f"hf://{REPO}", _context(hub, tmp_path)) as provider:
        listed = {entry.path: entry.sha256 for entry in provider.catalogue()}
        probed = {path: provider.locate(path, probe=True) for path in listed}
    big = hashlib.sha256(BIG).hexdigest()
    assert listed == {"big.bin": big, "small.txt": None}
    assert {path: (one.size, one.sha256) for path, one in probed.items()} == {
        "big.bin": (len(BIG), big),
        "small.txt": (1, None),
    }


def test_listing_without_the_sdk_names_the_command(hub: HubServer, tmp_path: Path) -> None:
    """Without huggingface_hub a listing is INVALID_CONFIG with the pip command."""
    hub.push(REPO, {})
    program = (
        "import os, pathlib, sys\n"
        "sys.modules['huggingface_hub'] = None\n"
        "from wanrec.providers import provider_for\n"
        "from wanrec.providers.base import ProviderContext\n"
        "context = ProviderContext(base=pathlib.Path('.'), environ=dict(os.environ))\n"
        "health = provider_for(sys.argv[1], context).check()\n"
        "print(health.code, health.hint)\n"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", program, f"hf://{REPO}"],
        env={"HF_ENDPOINT": hub.url, "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "INVALID_CONFIG pip install huggingface_hub"


@pytest.mark.parametrize("revision", ["", "@" + "5" * 40])
def test_the_listing_of_a_dead_hub_fails_in_our_own_time(tmp_path: Path, revision: str) -> None:
    """Nobody listens: the code, the address and a hint, without the SDK's half a minute."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    limits = attrs.evolve(SMALL_RANGES, retries=0)
    environ = {"HF_ENDPOINT": f"http://{address}", "HOME": str(tmp_path)}
    context = ProviderContext(base=tmp_path, environ=environ, limits=limits)
    with _provider(f"hf://{REPO}{revision}", context) as provider:
        with pytest.raises(WanrecError) as caught:
            provider.catalogue()
        assert caught.value.code is ErrorCode.SOURCE_UNAVAILABLE
        assert address in caught.value.summary
        assert caught.value.hint
        assert provider.check().code is ErrorCode.SOURCE_UNAVAILABLE


def test_a_listing_that_never_comes_is_given_up(hub: HubServer, tmp_path: Path) -> None:
    """The SDK asks a failing Hub again and again: we wait as long as a source may be silent."""
    hub.push(REPO, {"a.txt": b"a"})
    hub.fail("/tree/", 503)
    limits = attrs.evolve(SMALL_RANGES, connect_timeout_s=0.1, stall_window_s=0.2)
    context = attrs.evolve(_context(hub, tmp_path), limits=limits)
    with _provider(f"hf://{REPO}", context) as provider, pytest.raises(WanrecError) as caught:
        provider.catalogue()
    assert caught.value.code is ErrorCode.NETWORK_TIMEOUT
