"""The servers of the docs, run as they stand there; and the reference is what the code says."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from support.program import Program
from support.small import declare

import wanrec as api
from wanrec.reconcile.errors import ErrorCode, WanrecError

FILES = {"a@1": {"x.txt": b"one", "d/y.txt": b"two"}, "b@1": {"z.txt": b"three"}}


@pytest.fixture
def inside(wanrec: Program, monkeypatch: pytest.MonkeyPatch) -> Program:
    """This process stands in a project whose server is to hold a@1."""
    declare(wanrec, FILES)
    monkeypatch.chdir(wanrec.project)
    for name in [name for name in os.environ if name.startswith(("WANREC_", "MODELS_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("MODELS_ROOT", str(wanrec.root))
    monkeypatch.setenv("MODEL", "a@1")
    return wanrec


def example(checkout: Path, name: str) -> ModuleType:
    """Import an example from its file."""
    path = checkout / "docs/examples" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"example_{name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@asynccontextmanager
async def serving(app: Any) -> Any:
    """Run the application's lifespan, as a server does, and yield a way to send it requests."""
    inbox: asyncio.Queue[dict[str, str]] = asyncio.Queue()
    outbox: asyncio.Queue[dict[str, str]] = asyncio.Queue()
    scope = {"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}
    running = asyncio.create_task(app(scope, inbox.get, outbox.put))
    await inbox.put({"type": "lifespan.startup"})
    assert (await outbox.get())["type"] == "lifespan.startup.complete"

    async def request(method: str, path: str) -> tuple[int, Any]:
        answers: list[dict[str, Any]] = []
        messages: Iterator[dict[str, Any]] = iter([{"type": "http.request", "body": b""}])
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "headers": [],
            "scheme": "http",
            "server": ("test", 80),
        }

        async def receive() -> dict[str, Any]:
            return next(messages, {"type": "http.disconnect"})

        async def send(message: dict[str, Any]) -> None:
            answers.append(message)

        await app(scope, receive, send)
        body = b"".join(message.get("body", b"") for message in answers)
        return int(answers[0]["status"]), json.loads(body)

    yield request
    await inbox.put({"type": "lifespan.shutdown"})
    assert (await outbox.get())["type"] == "lifespan.shutdown.complete"
    await running


def test_fastapi(inside: Program, checkout: Path) -> None:
    """The FastAPI example serves, holds its model, brings others, and says what is missing."""
    app = example(checkout, "fastapi_app").app

    async def main() -> None:
        async with serving(app) as request:
            assert await request("GET", "/healthz") == (200, {"model": "a@1", "state": "COMPLETE"})
            assert await request("GET", "/weights") == (200, {"x.txt": 3, "d/y.txt": 3})
            assert await request("POST", "/models/b@1") == (200, {"z.txt": 5})
            status, body = await request("POST", "/models/nobody@1")
            assert (status, body["detail"]["code"]) == (404, "MODEL_NOT_FOUND")
            swap = await asyncio.to_thread(_other_version, inside)
            assert swap == 7, "held by the server"
            (inside.root / "test/a@1/x.txt").unlink()
            assert (await request("GET", "/healthz"))[0] == 503

    asyncio.run(main())
    assert _other_version(inside) == 0, "let go by the server"


def _other_version(program: Program) -> int:
    declare(program, {**FILES, "a@1": {"x.txt": b"new"}})
    try:
        return program.run("apply", "-y", "--lock-timeout", "0").exit
    finally:
        declare(program, FILES)


def test_ray_replica(inside: Program, checkout: Path) -> None:
    """The replica of the Ray Serve example holds its model, answers and checks its health."""
    inside.ok("apply", "-y")
    module = example(checkout, "ray_serve_app")
    replica = module.Generator("a@1")
    assert asyncio.run(replica(None)) == ["x.txt", "y.txt"]
    replica.check_health()
    assert _other_version(inside) == 7
    (replica.path / "x.txt").unlink()
    with pytest.raises(RuntimeError, match="a@1 is PARTIAL"):
        replica.check_health()
    replica._held.close()
    assert _other_version(inside) == 0


def test_the_reference_is_up_to_date(checkout: Path) -> None:
    """docs/api.md says of every public name what its docstring says."""
    done = subprocess.run(
        [sys.executable, "docs/generate_api.py", "--check"],
        cwd=checkout,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_every_public_name_loads() -> None:
    """What `wanrec.__all__` promises is there, and an unknown name is an AttributeError."""
    for name in api.__all__:
        assert getattr(api, name) is not None
    assert set(api.__all__) <= set(dir(api))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        api.nothing  # type: ignore[attr-defined]  # noqa: B018 - the look-up is the test
    assert issubclass(api.WanrecError, Exception)
    assert WanrecError(ErrorCode.USAGE, "x").exit_code == 64


def test_wan_models(inside: Program) -> None:
    """The earlier command line: status, ensure, path, pin, gc and usage on the same engine."""
    run = inside.run("models", "ensure", "--all", "--json")
    assert run.json()["models"] == {
        "a@1": str(inside.root / "test/a@1"),
        "b@1": str(inside.root / "test/b@1"),
    }
    rows = inside.ok("models", "status", "--only", "a@1", "--json").json()["models"]
    assert [(row["model"], row["state"]) for row in rows] == [("a@1", "COMPLETE")]
    assert inside.ok("models", "path", "a@1").stdout.strip() == str(inside.root / "test/a@1")
    for words in (("pin", "a@1"), ("unpin", "a@1"), ("gc", "--dry-run"), ("usage", "--json")):
        inside.ok("models", *words)
    pinned = inside.ok("models", "pin", "a", "b@1", "--json").json()
    assert (pinned["models"], pinned["pinned"]) == (["a@1", "b@1"], True)
    assert inside.ok("models", "unpin", "a", "--json").json()["pinned"] is False
    missing = inside.run("models", "ensure", "--only", "a@1", "--only", "nobody@1", "--json")
    assert (missing.exit, list(missing.json()["models"])) == (9, ["a@1"])
    assert [failed["code"] for failed in missing.json()["failed"]] == ["MODEL_NOT_FOUND"]
    assert inside.run("models", "ensure", "--only", "nobody@1").exit == 3
