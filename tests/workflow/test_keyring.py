"""Keys and tokens may lie in the system's keyring; a real `keyring` with a backend in a file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.hub_server import HubServer, running_hub
from support.program import Program
from support.seaweed import ACCESS_KEY, SECRET_KEY, Seaweed
from support.specs import declare, spec_text

REPO = "Org/wan-tiny"
MODEL = "tiny@1.0.0"
FILES = {"config.json": b"{}\n"}
TOKEN = "hf_fromTheKeyring"
BACKEND = """
import json, os
from keyring.backend import KeyringBackend
from keyring.errors import KeyringLocked

class Keyring(KeyringBackend):
    priority = 1

    def get_password(self, service, username):
        secrets = json.load(open(os.environ["SECRETS"]))
        if secrets == "locked":
            raise KeyringLocked
        return secrets.get(service + " " + username)

    def set_password(self, service, username, password):
        raise NotImplementedError
"""


@pytest.fixture
def hub() -> Iterator[HubServer]:
    """A hub that wants a token."""
    with running_hub() as server:
        server.push(REPO, FILES)
        server.token = TOKEN
        yield server


def _keyring(folder: Path, secrets: object) -> dict[str, str | None]:
    (folder / "filekeyring.py").write_text(BACKEND)
    (folder / "secrets.json").write_text(json.dumps(secrets))
    return {
        "PYTHONPATH": str(folder),
        "PYTHON_KEYRING_BACKEND": "filekeyring.Keyring",
        "SECRETS": str(folder / "secrets.json"),
        "WANREC_KEYRING": "1",
    }


def _want(program: Program, source: str) -> None:
    program.write("specs/models.toml", spec_text({MODEL: declare(FILES, source)}))


def test_hub_token(wanrec: Program, hub: HubServer, tmp_path: Path) -> None:
    """The token is stored under the Hub's address; without WANREC_KEYRING nobody asks for it."""
    _want(wanrec, f"hf://{REPO}")
    environ = {**_keyring(tmp_path, {f"wanrec {hub.url}": TOKEN}), "HF_ENDPOINT": hub.url}
    assert wanrec.run("apply", "-y", env={**environ, "WANREC_KEYRING": None}).exit == 5
    done = wanrec.ok("apply", "-y", env=environ)
    assert TOKEN not in done.stdout + done.stderr


def test_s3_keys(wanrec: Program, seaweed: Seaweed, tmp_path: Path) -> None:
    """Keys are stored under the bucket, for bytes and for listings."""
    bucket = seaweed.bucket(FILES)
    _want(wanrec, f"s3://{bucket}")
    secrets = {f"wanrec s3://{bucket}": f"{ACCESS_KEY}:{SECRET_KEY}"}
    environ = {**seaweed.environ, **_keyring(tmp_path, secrets)}
    environ |= {"AWS_ACCESS_KEY_ID": None, "AWS_SECRET_ACCESS_KEY": None}
    done = wanrec.ok("apply", "-y", env=environ)
    assert SECRET_KEY not in done.stdout + done.stderr


def test_a_locked_keyring_is_an_error_with_a_way_out(
    wanrec: Program, hub: HubServer, tmp_path: Path
) -> None:
    """A keyring that cannot be asked is AUTH_FAIL and says what helps."""
    _want(wanrec, f"hf://{REPO}")
    environ = {**_keyring(tmp_path, "locked"), "HF_ENDPOINT": hub.url}
    done = wanrec.run("apply", "-y", env=environ)
    assert done.exit == 5
    assert "AUTH_FAIL" in done.stderr
    assert "KeyringLocked" in done.stderr
