"""What the tools of the HuggingFace Hub left on this machine: its cache, its token, its switches.

Reads the environment, the token file and the layout of the cache; no SDK, no network, and nothing
is ever written. What lies in the cache is a guess until its sha256 was computed: a damaged blob is
not noticed here.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

__all__ = [
    "cached_files",
    "endpoint",
    "is_commit",
    "offline_switch",
    "repository_cache",
    "token",
]

_TRUE = frozenset({"1", "on", "true", "yes"})
_MAX_SMALL_FILE = 64 * 1024
is_commit = re.compile(r"[0-9a-f]{40}").fullmatch


def endpoint(environ: Mapping[str, str]) -> str:
    """The address of the Hub, without a slash at its end."""
    return (environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")


def offline_switch(environ: Mapping[str, str]) -> str | None:
    """The variable that forbids the network, if one does."""
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        if environ.get(name, "").lower() in _TRUE:
            return name
    return None


def token(environ: Mapping[str, str]) -> str | None:
    """The token of the environment, else of the file that ``hf auth login`` writes."""
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        if environ.get(name, "").strip():
            return environ[name].strip()
    if environ.get("HF_HUB_DISABLE_IMPLICIT_TOKEN", "").lower() in _TRUE:
        return None
    place = environ.get("HF_TOKEN_PATH")
    return _read(Path(place).expanduser() if place else _home(environ) / "token") or None


def repository_cache(environ: Mapping[str, str], repository: str) -> Path:
    """Where the Hub's tools keep what they downloaded of a repository."""
    place = environ.get("HF_HUB_CACHE") or environ.get("HUGGINGFACE_HUB_CACHE")
    cache = Path(place).expanduser() if place else _home(environ) / "hub"
    return cache / f"models--{repository.replace('/', '--')}"


def cached_files(
    folder: Path, path: str, *, revision: str, size: int | None, sha256: str
) -> Iterator[Path]:
    """Yield files of a repository's cache that may have this content, the likeliest first.

    Big files lie under their sha256. Small ones lie under git's own hash: they are found by their
    name, in the wanted revision first, then in every other one that was downloaded.
    """
    seen: set[str] = set()
    for file in (folder / "blobs" / sha256, *_by_name(folder, path, revision)):
        try:
            found = file.stat().st_size
        except OSError:  # not there, or a link that leads nowhere
            continue
        real = os.path.realpath(file)
        if real not in seen and size in (None, found):
            seen.add(real)
            yield Path(real)


def _by_name(folder: Path, path: str, revision: str) -> Iterator[Path]:
    commit = revision if is_commit(revision) else _read(folder / "refs" / revision)
    try:
        others = sorted(os.listdir(folder / "snapshots"))
    except OSError:
        return
    for name in dict.fromkeys((commit, *others)):
        if name in others:
            yield folder / "snapshots" / name / path


def _home(environ: Mapping[str, str]) -> Path:
    if environ.get("HF_HOME"):
        return Path(environ["HF_HOME"]).expanduser()
    home = Path(environ["HOME"]) if environ.get("HOME") else Path.home()
    caches = environ.get("XDG_CACHE_HOME")
    return (Path(caches) if caches else home / ".cache") / "huggingface"


def _read(file: Path) -> str:
    try:
        with file.open("rb") as stream:
            return stream.read(_MAX_SMALL_FILE).decode("utf-8", "replace").strip()
    except (OSError, ValueError):
        return ""
