"""Checksums that an S3 server keeps of its objects count where the spec has no sha256."""

from __future__ import annotations

import base64
import hashlib
import zlib
from pathlib import Path

import attrs
import pytest
from support.lying_server import LyingServer, Peer, Request, head
from support.program import Program
from support.seaweed import Seaweed

from wanrec.providers import provider_for
from wanrec.providers.base import ProviderContext
from wanrec.providers.limits import MIB
from wanrec.providers.testing import FetchHarness
from wanrec.reconcile.errors import ErrorCode, WanrecError

CHECKSUMS = ["SHA256", "CRC64NVME", "CRC32C", "CRC32"]


@attrs.frozen
class Vouching:
    """A server of one object with the checksum of `stated`, that sends `sent`."""

    algorithm: str
    stated: bytes
    sent: bytes

    def __call__(self, request: Request, peer: Peer) -> bool:
        """Answer HEAD and GET."""
        name = f"x-amz-checksum-{self.algorithm.lower()}"
        value = _checksum(self.algorithm, self.stated)
        fields = {name: value, "ETag": '"v"', "Content-Length": len(self.sent)}
        peer.send(head("200 OK", **fields), body=False)
        if request.method == "GET":
            peer.send(self.sent)
        return True


def _checksum(algorithm: str, content: bytes) -> str:
    if algorithm == "SHA256":
        value = hashlib.sha256(content).digest()
    elif algorithm == "CRC32":
        value = zlib.crc32(content).to_bytes(4, "big")
    else:
        crt = pytest.importorskip("awscrt.checksums")
        number = getattr(crt, algorithm.lower())(content)
        value = number.to_bytes(8 if algorithm == "CRC64NVME" else 4, "big")
    return base64.b64encode(value).decode()


@pytest.mark.parametrize("size", [3000, 3 * MIB])
@pytest.mark.parametrize("algorithm", CHECKSUMS)
def test_a_checksum_of_the_server_holds_where_the_spec_has_none(
    tmp_path: Path, algorithm: str, size: int
) -> None:
    """Without a sha256 of ours the server's own checksum decides; wrong bytes leave nothing."""
    good, wrong = b"g" * size, b"w" * size
    with LyingServer() as server:
        server.on("/bucket/good.bin", Vouching(algorithm, good, good))
        server.on("/bucket/wrong.bin", Vouching(algorithm, good, wrong))
        environ = {"AWS_ENDPOINT_URL": server.url}
        source = ("s3://bucket?anonymous=1", ProviderContext(base=tmp_path, environ=environ))
        harness = FetchHarness(tmp_path / "root")
        fetched = harness.fetch("good.bin", None, source)
        with pytest.raises(WanrecError) as caught:
            harness.fetch("wrong.bin", None, source)
        harness.fetcher.close()
    assert caught.value.code is ErrorCode.CHECKSUM_FAIL
    assert list(harness.staged()) == [fetched.sha256]
    assert harness.partial() == []


@pytest.mark.parametrize("algorithm", CHECKSUMS)
def test_the_checksums_of_a_real_server_hold(
    seaweed: Seaweed, tmp_path: Path, algorithm: str
) -> None:
    """What a server says of an object that was uploaded with a checksum is what we compute."""
    content = b"0123456789" * 500_000
    _checksum(algorithm, content)  # left out where it cannot be computed
    bucket = seaweed.bucket()
    seaweed.put(bucket, {"a.bin": content}, algorithm)
    context = ProviderContext(base=tmp_path, environ=seaweed.environ)
    provider = provider_for(f"s3://{bucket}", context)
    located = provider.locate("a.bin", probe=True)
    provider.session.close()
    if algorithm == "SHA256":
        assert located.sha256 == hashlib.sha256(content).hexdigest()
    else:
        assert located.checksum is not None
        assert located.checksum.holds([memoryview(content)])
        assert not located.checksum.holds([memoryview(content[1:])])


def test_lock_records_no_bytes_that_the_server_does_not_vouch_for(wanrec: Program) -> None:
    """A file that `lock` has to read is compared with the server's checksum before it is pinned."""
    good, wrong = b"good\n", b"evil\n"
    listing = (
        b"<ListBucketResult><Name>bucket</Name><KeyCount>1</KeyCount><IsTruncated>false"
        b"</IsTruncated><Contents><Key>m/a.txt</Key><Size>5</Size><ETag>&quot;v&quot;</ETag>"
        b"</Contents></ListBucketResult>"
    )

    def listed(request: Request, peer: Peer) -> bool:
        peer.send(head("200 OK", Content_Length=len(listing)), body=False)
        peer.send(b"" if request.method == "HEAD" else listing)
        return True

    wanrec.write(
        "specs/m.toml",
        'schema_version = 1\n[models."m@1"]\nsources = ["s3://bucket/m?anonymous=1"]\n',
    )
    with LyingServer() as server:
        server.on("/bucket", listed)
        server.on("/bucket/m/a.txt", Vouching("CRC32", good, wrong))
        environ: dict[str, str | None] = {"AWS_ENDPOINT_URL": server.url}
        done = wanrec.run("lock", env=environ)
        assert done.exit == 4, done.stderr
        assert "CHECKSUM_FAIL" in done.stderr
        assert not (wanrec.project / "specs/m.lock.toml").exists()
        server.on("/bucket/m/a.txt", Vouching("CRC32", good, good))
        wanrec.ok("lock", env=environ)
