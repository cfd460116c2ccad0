"""s3:// keeps the provider contract against a real S3 server, and adds what only S3 has."""

from __future__ import annotations

import contextlib
import hashlib
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import ClassVar

import pytest
from support.lying_server import LyingServer, Peer, Request
from support.seaweed import ACCESS_KEY, SECRET_KEY, Seaweed

from wanrec.providers import provider_for
from wanrec.providers.base import Provider, ProviderContext, TransferEvent
from wanrec.providers.limits import MIB, Limits
from wanrec.providers.s3_account import Account
from wanrec.providers.s3_signing import Credentials, signed_headers
from wanrec.providers.testing import FetchHarness, ProviderContract, Served
from wanrec.providers.testing_faults import FaultContract
from wanrec.reconcile.errors import ErrorCode, WanrecError


class _OnSeaweed(ProviderContract):
    @pytest.fixture(autouse=True)
    def _server(self, seaweed: Seaweed) -> None:
        self.seaweed = seaweed


class TestWithKeys(_OnSeaweed, FaultContract):
    """A private bucket, keys in the environment, a prefix with a percent sign."""

    def serve(self, files: Mapping[str, bytes], folder: Path) -> Served:
        """As the contract asks."""
        objects = {f"wan%20/m+1/{path}": data for path, data in files.items()}
        self.bucket = self.seaweed.bucket(objects)
        context = ProviderContext(base=folder, environ=self.seaweed.environ)
        return f"s3://{self.bucket}/wan%20/m+1", context

    def alter(self, path: str, content: bytes, folder: Path) -> None:
        """As the contract asks."""
        self.seaweed.put(self.bucket, {f"wan%20/m+1/{path}": content})


class TestAnonymous(_OnSeaweed):
    """A public bucket, no keys at all, the endpoint in the URL."""

    def serve(self, files: Mapping[str, bytes], folder: Path) -> Served:
        """As the contract asks."""
        place = self.seaweed.public(folder.parent.name, files)
        url = f"s3://{place}?anonymous=1&endpoint_url={self.seaweed.url}&region=us-east-1"
        return url, ProviderContext(base=folder)


class TestWithProfile(_OnSeaweed):
    """Keys, region and endpoint from a profile of the AWS config files, through the SDK."""

    def serve(self, files: Mapping[str, bytes], folder: Path) -> Served:
        """As the contract asks."""
        config = folder / "config"
        config.write_text(
            f"[profile work]\nregion = us-east-1\nendpoint_url = {self.seaweed.url}\n"
            f"aws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {SECRET_KEY}\n"
        )
        self.patch.setenv("AWS_CONFIG_FILE", str(config))
        self.patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        bucket = self.seaweed.bucket(files)
        return f"s3://{bucket}?profile=work", ProviderContext(base=folder)

    @pytest.fixture(autouse=True)
    def _environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.patch = monkeypatch


@contextlib.contextmanager
def _provider(url: str, context: ProviderContext) -> Iterator[Provider]:
    provider = provider_for(url, context)
    yield provider
    provider.session.close()


def _context(seaweed: Seaweed, base: Path, **environ: str) -> ProviderContext:
    return ProviderContext(base=base, environ={**seaweed.environ, **environ})


def _code(seen: pytest.ExceptionInfo[WanrecError]) -> ErrorCode:
    return seen.value.code


def test_signature_is_the_one_of_the_sdk() -> None:
    """For odd keys, a session token and a version, our signature equals botocore's."""
    from datetime import UTC, datetime

    from botocore.auth import S3SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials as Theirs

    target = "/b/a%20b/%2B%25/%C3%A9.bin?versionId=a.b_c%2Fd"
    theirs = AWSRequest(
        method="GET",
        url=f"http://127.0.0.1:9000{target}",
        headers={"x-amz-request-payer": "requester"},
    )
    S3SigV4Auth(Theirs("AK", "s/k", "tok"), "s3", "eu-west-1").add_auth(theirs)
    stamp = theirs.context["timestamp"]
    then = datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp()
    ours = signed_headers(
        Credentials(access_key="AK", secret_key="s/k", token="tok"),
        method="GET",
        host="127.0.0.1:9000",
        target=target,
        headers={"x-amz-request-payer": "requester", "Range": "bytes=0-1"},
        region="eu-west-1",
        now_s=then,
    )
    assert ours["Authorization"].split() == theirs.headers["Authorization"].split()


@pytest.mark.parametrize(
    ("query", "bucket", "address"),
    [
        ({}, "models", "https://models.s3.us-east-1.amazonaws.com"),
        ({"region": "eu-west-1"}, "models", "https://models.s3.eu-west-1.amazonaws.com"),
        ({"region": "cn-north-1"}, "models", "https://models.s3.cn-north-1.amazonaws.com.cn"),
        ({}, "with.dots", "https://s3.us-east-1.amazonaws.com/with.dots"),
        ({"endpoint_url": "https://minio:9000/"}, "models", "https://minio:9000/models"),
    ],
)
def test_where_a_bucket_is_addressed(
    tmp_path: Path, query: dict[str, str], bucket: str, address: str
) -> None:
    """AWS by host name where a certificate covers it, every other server by path."""
    account = Account(bucket, query, {"HOME": str(tmp_path)}, Limits())
    assert account.address(bucket, account.region()) == address


@pytest.mark.parametrize(
    ("change", "code", "said"),
    [
        ({"AWS_SECRET_ACCESS_KEY": "wrong"}, ErrorCode.AUTH_FAIL, "AWS_ACCESS_KEY_ID"),
        ({"AWS_ACCESS_KEY_ID": "AKIDNOBODY0000000009"}, ErrorCode.AUTH_FAIL, "AWS_ACCESS_KEY_ID"),
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, ErrorCode.SOURCE_UNAVAILABLE, ""),
        ({"AWS_ENDPOINT_URL": "http://192.0.2.1"}, ErrorCode.POLICY_DENIED, "allow_http"),
        ({"AWS_ENDPOINT_URL": "minio:9000"}, ErrorCode.INVALID_CONFIG, ""),
    ],
)
def test_what_keeps_us_out_has_its_code(
    seaweed: Seaweed, tmp_path: Path, change: dict[str, str], code: ErrorCode, said: str
) -> None:
    """Wrong keys, a dead or forbidden endpoint: one code for bytes and listing, no secret in it."""
    bucket = seaweed.bucket({"a.txt": b"a"})
    with _provider(f"s3://{bucket}", _context(seaweed, tmp_path, **change)) as provider:
        with pytest.raises(WanrecError) as bytes_error:
            provider.open_range(provider.locate("a.txt"), 0, None)
        with pytest.raises(WanrecError) as listing_error:
            list(provider.catalogue())
    assert (_code(bytes_error), _code(listing_error)) == (code, code)
    for seen in (bytes_error, listing_error):
        assert said in seen.value.hint
        assert seen.value.source == f"s3://{bucket}"
        assert not any(secret in repr(seen.value.to_dict()) for secret in (SECRET_KEY, ACCESS_KEY))


def test_missing_bucket_and_missing_credentials(seaweed: Seaweed, tmp_path: Path) -> None:
    """A bucket that is not there is NOT_FOUND_AT_SOURCE; no credentials at all is AUTH_FAIL."""
    with _provider("s3://no-such-bucket", _context(seaweed, tmp_path)) as gone:
        assert gone.check().code is ErrorCode.NOT_FOUND_AT_SOURCE
    private = f"s3://{seaweed.bucket()}?anonymous=1&endpoint_url={seaweed.url}"
    with _provider(private, ProviderContext(base=tmp_path)) as provider:
        health = provider.check()
    assert health.code is ErrorCode.AUTH_FAIL
    assert "not public" in health.hint


def test_probe_reports_the_whole_sha256_and_no_multipart_etag(
    seaweed: Seaweed, tmp_path: Path
) -> None:
    """The server's sha256 of a whole object is passed on; an ETag of parts is only a validator."""
    bucket = seaweed.bucket({"one.bin": b"one"})
    parts = [b"a" * 5 * MIB, b"b"]
    etag = seaweed.put_in_parts(bucket, "many.bin", parts)
    with _provider(f"s3://{bucket}", _context(seaweed, tmp_path)) as provider:
        one = provider.locate("one.bin", probe=True)
        many = provider.locate("many.bin", probe=True)
    assert one.sha256 == hashlib.sha256(b"one").hexdigest()
    assert (many.sha256, many.etag, many.size) == (None, etag, 5 * MIB + 1)
    assert etag.endswith('-2"')


def test_an_object_made_of_parts_is_fetched_and_verified(seaweed: Seaweed, tmp_path: Path) -> None:
    """A multipart object lands under the sha256 of its bytes."""
    bucket = seaweed.bucket()
    seaweed.put_in_parts(bucket, "many.bin", [b"a" * 5 * MIB, b"b"])
    harness = FetchHarness(tmp_path / "root")
    content = b"a" * 5 * MIB + b"b"
    source = (f"s3://{bucket}", _context(seaweed, tmp_path))
    assert harness.fetch("many.bin", content, source).etag is not None
    assert list(harness.staged().values()) == [content]
    harness.fetcher.close()


def test_a_version_that_was_started_is_finished(seaweed: Seaweed, tmp_path: Path) -> None:
    """In a versioned bucket an overwrite in the midst of a transfer changes nothing for it."""
    old = bytes(range(256)) * (16 * 4096)
    bucket = seaweed.bucket({"w.bin": old}, versioned=True)
    harness = FetchHarness(
        tmp_path / "root", limits=Limits(range_bytes=MIB, workers_per_file=1, progress_interval_s=0)
    )
    overwritten = []

    def overwrite_once(kind: TransferEvent) -> None:
        if not overwritten:
            overwritten.append(kind)
            seaweed.put(bucket, {"w.bin": b"new" + old[3:]})

    harness.react = overwrite_once
    fetched = harness.fetch("w.bin", old, (f"s3://{bucket}", _context(seaweed, tmp_path)))
    assert overwritten
    assert (list(harness.staged()), fetched.failovers) == ([fetched.sha256], ())
    assert fetched.bytes_fetched == len(old)
    harness.fetcher.close()


def test_a_probed_version_is_pinned(seaweed: Seaweed, tmp_path: Path) -> None:
    """What was located by a probe is read in that version, whatever came after."""
    bucket = seaweed.bucket({"a.txt": b"first"}, versioned=True)
    with _provider(f"s3://{bucket}", _context(seaweed, tmp_path)) as provider:
        located = provider.locate("a.txt", probe=True)
        seaweed.put(bucket, {"a.txt": b"later"})
        with provider.open_range(located, 0, None) as body:
            buffer = memoryview(bytearray(16))
            assert bytes(buffer[: body.readinto(buffer)]) == b"first"
    assert located.revision


class _Bucket:
    """A scripted S3 that wants `region`, and keeps the Authorization headers it saw."""

    def __init__(self, region: str, status: str) -> None:
        self.region = region
        self.status = status
        self.seen: list[str] = []

    def __call__(self, request: Request, peer: Peer) -> bool:
        self.seen.append(request.headers.get("authorization", ""))
        if f"/{self.region}/s3/" in self.seen[-1]:
            peer.send_head("200 OK", Content_Length=2, ETag='"e"')
            peer.send(b"ok")
        else:
            region = {"x-amz-bucket-region": self.region}
            peer.send_head(self.status, Content_Length=0, **region)
        return True


@pytest.mark.parametrize("status", ["301 Moved Permanently", "400 Bad Request", "403 Forbidden"])
def test_a_bucket_elsewhere_is_asked_in_its_own_region(tmp_path: Path, status: str) -> None:
    """A server that names the bucket's region gets one more request, signed for it."""
    bucket = _Bucket("eu-west-1", status)
    harness = FetchHarness(tmp_path / "root")
    with LyingServer() as server:
        server.on("/bkt/a.txt", bucket)
        environ = {"AWS_ACCESS_KEY_ID": "AK", "AWS_SECRET_ACCESS_KEY": "SK", "HOME": str(tmp_path)}
        url = f"s3://bkt?endpoint_url={server.url}&requester_pays=1"
        harness.fetch("a.txt", b"ok", (url, ProviderContext(base=tmp_path, environ=environ)))
        harness.fetcher.close()
    assert len(bucket.seen) == 2
    assert "x-amz-request-payer" in bucket.seen[1]


def test_small_known_files_cost_one_request_each(seaweed: Seaweed, tmp_path: Path) -> None:
    """Size and hash known, keys in the environment: one GET a file, and no SDK is loaded."""
    program = """
import sys, pathlib
from wanrec.providers.base import ProviderContext
from wanrec.providers.testing import FetchHarness
import os
root = pathlib.Path(sys.argv[2]); root.mkdir()
harness = FetchHarness(root)
context = ProviderContext(base=root, environ=dict(os.environ))
harness.fetch("a.txt", b"a", (sys.argv[1], context))
harness.fetcher.close()
print(sorted({"boto3", "botocore"} & set(sys.modules)))
"""
    url = f"s3://{seaweed.bucket({'a.txt': b'a'})}"
    done = subprocess.run(
        [sys.executable, "-P", "-c", program, url, str(tmp_path / "root")],
        env={**seaweed.environ, "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"


class TestWithoutSdk:
    """boto3 is an extra: what needs it says which command installs it."""

    _HIDE: ClassVar[str] = "import sys; sys.modules['botocore'] = None\n"

    def test_listing_names_the_command(self, seaweed: Seaweed, tmp_path: Path) -> None:
        """Without the SDK a listing is INVALID_CONFIG with the pip command."""
        program = self._HIDE + (
            "import os, pathlib\n"
            "from wanrec.providers import provider_for\n"
            "from wanrec.providers.base import ProviderContext\n"
            "context = ProviderContext(base=pathlib.Path('.'), environ=dict(os.environ))\n"
            "health = provider_for(sys.argv[1], context).check()\n"
            "print(health.code, health.hint)\n"
        )
        done = subprocess.run(
            [sys.executable, "-P", "-c", program, f"s3://{seaweed.bucket()}"],
            env={**seaweed.environ, "HOME": str(tmp_path)},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.strip() == "INVALID_CONFIG pip install boto3"
