"""`wanrec mirror`: specs, locks and model files onto a disk that is carried somewhere else.

Copies what lies whole under the root and hashes every byte on the way. The folder it writes is a
project of its own (its specs are found in it) and a source: ``--mirror DEST`` tries it first. What
an earlier run copied stays as it is; a run that was cut short goes on.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from wanrec.reconcile.disk_errors import translate_os_error
from wanrec.reconcile.engine_files import write_output
from wanrec.reconcile.errors import ErrorCode, WanrecError

if TYPE_CHECKING:
    from wanrec.reconcile.desired import SelectArgs
    from wanrec.reconcile.model import DesiredModel, FileSpec
    from wanrec.reconcile.workbench import Workbench

__all__ = ["SUMS", "Mirrored", "mirror"]

SUMS = "SHA256SUMS"
_CHUNK = 1024 * 1024


@attrs.frozen(kw_only=True)
class Mirrored:
    """What was done: files copied and kept, their bytes, and models that are not whole here."""

    copied: int = 0
    kept: int = 0
    bytes_copied: int = 0
    models: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()


def mirror(
    bench: Workbench,
    dest: str,
    select: SelectArgs,
    *,
    progress: Callable[[int], None],
    stop: threading.Event,
) -> Mirrored:
    """Copy the selected models that lie whole under the root.

    Raises:
        WanrecError: INVALID_CONFIG for a place that cannot be written to; CHECKSUM_FAIL when a
            file under the root is not what the spec says; disk errors; INTERRUPTED.
    """
    target = _folder(dest)
    desired = bench.collect(select)
    chosen = [m for m in desired.models if desired.selection.has_model(m.key)]
    whole = [model for model in chosen if _is_whole(bench.root, model)]
    run = _Run(target, progress, stop)
    for source in desired.sources:
        run.small(bench.project_dir / source.path, _inside(source.path))
    for model in whole:
        for file in model.files:
            run.model_file(bench.root / model.directory / file.path, model, file)
    run.write_sums()
    wanted = {model.key for model in chosen if model.installed}
    return Mirrored(
        copied=run.copied,
        kept=run.kept,
        bytes_copied=run.bytes_copied,
        models=tuple(model.key for model in whole),
        absent=tuple(sorted(wanted - {model.key for model in whole})),
    )


def _folder(dest: str) -> Path:
    scheme, sep, rest = dest.partition("://")
    if sep and scheme not in ("local", "file"):
        raise WanrecError(
            ErrorCode.INVALID_CONFIG,
            f"a mirror is written into a folder, not to {scheme}://",
            hint="mirror into a folder and copy that into the bucket; --mirror reads it there",
        )
    return Path(rest if sep else dest)


def _inside(path: str) -> str:
    """A spec from outside the project keeps its name only."""
    return path if not path.startswith(("../", "/")) else f"specs/{path.rpartition('/')[2]}"


def _is_whole(root: Path, model: DesiredModel) -> bool:
    folder = root / model.directory
    return all(
        file.optional or ((path := folder / file.path).is_file() and _fits(path, file))
        for file in model.files
    )


def _fits(path: Path, file: FileSpec) -> bool:
    return file.size is None or path.stat().st_size == file.size


class _Run:
    """One run into one folder."""

    def __init__(
        self, target: Path, progress: Callable[[int], None], stop: threading.Event
    ) -> None:
        self.copied = self.kept = self.bytes_copied = 0
        self._target = target
        self._progress = progress
        self._stop = stop
        self._sums = dict(_read_sums(target / SUMS))

    def small(self, source: Path, name: str) -> None:
        """Copy a spec or lock file; a changed one replaces the earlier."""
        try:
            data = source.read_bytes()
        except OSError as error:
            raise translate_os_error(error, str(source), "read") from error
        place = self._place(name)
        write_output(place, data)
        self._sums[name] = hashlib.sha256(data).hexdigest()

    def model_file(self, source: Path, model: DesiredModel, file: FileSpec) -> None:
        """Copy one model file, unless an earlier run did."""
        if file.optional and not source.is_file():
            return
        name = f"{model.directory}/{file.source_path or file.path}"
        place = self._place(name)
        known = file.sha256 is not None and self._sums.get(name) == file.sha256
        if known and place.is_file() and _fits(place, file):
            self.kept += 1
            return
        draft = place.with_name(f".{place.name}.part")
        try:
            digest, size = self._copy(source, draft)
            if file.sha256 not in (None, digest):
                raise WanrecError(
                    ErrorCode.CHECKSUM_FAIL,
                    "the file under the root is not what the spec says",
                    address=f"{model.key}::{file.path}",
                    hint="wanrec drift --deep, then wanrec apply",
                )
            draft.replace(place)
        except OSError as error:
            raise translate_os_error(error, str(place), "write") from error
        finally:
            draft.unlink(missing_ok=True)
        self._sums[name] = digest
        self.copied += 1
        self.bytes_copied += size

    def write_sums(self) -> None:
        """Write SHA256SUMS, in the form `sha256sum -c` reads."""
        present = {n: digest for n, digest in self._sums.items() if (self._target / n).is_file()}
        lines = [f"{digest}  {name}\n" for name, digest in sorted(present.items())]
        write_output(self._target / SUMS, "".join(lines).encode())

    def _place(self, name: str) -> Path:
        place = self._target / name
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise translate_os_error(error, str(place.parent), "create") from error
        return place

    def _copy(self, source: Path, draft: Path) -> tuple[str, int]:
        digest, size = hashlib.sha256(), 0
        with source.open("rb") as reader, draft.open("wb") as writer:
            while chunk := reader.read(_CHUNK):
                if self._stop.is_set():
                    raise WanrecError(ErrorCode.INTERRUPTED, "stopped; run it again to go on")
                digest.update(chunk)
                writer.write(chunk)
                size += len(chunk)
                self._progress(len(chunk))
            writer.flush()
            os.fsync(writer.fileno())
        return digest.hexdigest(), size


def _read_sums(path: Path) -> Mapping[str, str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return {}
    return {name: digest for digest, sep, name in (line.partition("  ") for line in lines) if sep}
