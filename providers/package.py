"""`package://DIST_OR_MODULE/PATH`: files inside an installed Python package.

The package's folder is found from metadata only: the import system is asked where a top-level
module *would* come from, else the distribution's file list is read. Nothing of the package runs.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator
from pathlib import Path

from wanrec.providers.base import ProviderContext
from wanrec.providers.local import LocalProvider
from wanrec.providers.source_url import SourceUrl
from wanrec.reconcile.errors import ErrorCode

__all__ = ["PackageProvider"]


class PackageProvider(LocalProvider):
    """A folder of an installed package; its revision is the distribution's version."""

    def __init__(self, url: SourceUrl, context: ProviderContext) -> None:
        super().__init__(url, context)
        self._package, _, self._inside = url.location.partition("/")
        self._lock = threading.Lock()
        self._found: Path | None = None

    def _folder(self) -> Path:
        with self._lock:
            if self._found is None:
                self._found = self._find_folder()
            return self._found

    def _find_folder(self) -> Path:
        installed = False
        for home, inside in _candidates(self._package, self._inside):
            installed = True
            if (home / inside).is_dir():
                return home / inside
        if installed:
            raise self.error(
                ErrorCode.NOT_FOUND_AT_SOURCE,
                f"package {self._package!r} is installed but has no folder {self._inside!r}",
            )
        raise self.error(
            ErrorCode.SOURCE_UNAVAILABLE,
            f"package {self._package!r} is not installed",
            hint=f"pip install {self._package}",
        )

    @functools.cached_property
    def _version(self) -> str | None:
        from importlib import metadata

        try:
            return metadata.version(self._package.replace("_", "-"))
        except metadata.PackageNotFoundError:
            return None

    def _revision(self) -> str | None:
        return self._version


def _candidates(name: str, inside: str) -> Iterator[tuple[Path, str]]:
    """Yield (folder, path in it): the module of that name first, then the distribution's."""
    for folder in _module_folders(name):
        yield folder, inside
    for folder in _distribution_folders(name):
        yield folder, inside
        first, _, rest = inside.partition("/")
        if first == folder.name:  # `package://DIST/MODULE/PATH` names the module folder as well
            yield folder, rest


def _module_folders(name: str) -> Iterator[Path]:
    import importlib.util

    top, *inner = name.split(".")
    if not top.isidentifier():
        return
    try:
        spec = importlib.util.find_spec(top)  # a top-level name: finders are asked, nothing runs
    except (ImportError, ValueError):  # ValueError: a half-made module without a spec
        return
    for place in (spec.submodule_search_locations or ()) if spec is not None else ():
        folder = Path(place).joinpath(*inner)
        if folder.is_dir():
            yield folder


def _distribution_folders(name: str) -> Iterator[Path]:
    from importlib import metadata

    try:
        distribution = metadata.distribution(name)
    except (metadata.PackageNotFoundError, ValueError):
        return
    tops = dict.fromkeys(
        file.parts[0]
        for file in distribution.files or ()
        if len(file.parts) > 1 and not file.parts[0].endswith((".dist-info", ".data", ".."))
    )
    for top in tops:
        folder = Path(str(distribution.locate_file(top)))
        if folder.is_dir():
            yield folder
