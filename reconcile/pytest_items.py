"""Spec files as pytest collectors, model files as items; loaded by ``pytest --wanrec`` only.

An item looks at one file: is it there, is it the right size, are its bytes trusted or, when they
are not (or with ``--wanrec-deep``), do they hash to what the spec says, and does the policy allow
what is in it. What differs is a failure; what could not be looked at is an error. Nothing is
written, no lock is taken, no network is used.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from wanrec.reconcile.errors import ErrorCode, WanrecError
from wanrec.reconcile.facts import EntryKind, FileFact, Presence
from wanrec.reconcile.findings import Content, DriftItem, DriftKind

if TYPE_CHECKING:
    from wanrec.reconcile.disk import Root
    from wanrec.reconcile.engine import Engine
    from wanrec.reconcile.engine_view import View
    from wanrec.reconcile.model import DesiredModel, FileSpec

__all__ = ["Collectors", "Differs", "FileItem", "ModelNode", "SpecNode"]

_SAYS_VERSION = re.compile(rb"^\s*schema_version\s*=", re.MULTILINE)
_HEAD = 1 << 16


class Differs(Exception):
    """A file is not what the spec says; the text is that of `wanrec drift`."""


class Collectors:
    """The hooks of a run with ``--wanrec``, and what all its items share."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._models: dict[str, list[DesiredModel]] | None = None
        self._opened: tuple[Root, View] | WanrecError | None = None
        self._marks: set[str] = set()
        self.engine = self._make_engine()
        self.given = _given(config)

    def _make_engine(self) -> Engine:
        from wanrec.reconcile.engine import Engine

        root = self._config.getoption("--wanrec-root")
        try:
            return Engine.from_config(self._config.invocation_params.dir, root=root)
        except WanrecError as error:
            raise pytest.UsageError(str(error)) from None

    def pytest_collect_file(self, file_path: Path, parent: pytest.Collector) -> SpecNode | None:
        """Take spec files: those that were named, and what says it is one in a folder."""
        if not file_path.name.endswith(".toml") or file_path.name.endswith(".lock.toml"):
            return None
        named = any(path == file_path for path, _ in self.given)
        if not named and not _is_spec(file_path):
            return None
        node: SpecNode = SpecNode.from_parent(parent, path=file_path)
        node.shared = self
        return node

    def pytest_unconfigure(self) -> None:
        """Let go of the root."""
        if isinstance(self._opened, tuple):
            self._opened[0].close()

    def models_of(self, path: Path) -> list[DesiredModel]:
        """The models of one spec file. All specs of the project are read once.

        Raises:
            WanrecError: the faults of this spec.
        """
        if self._models is None:
            self._models = self._of_project()
        place = _relative(path, self.engine.project_dir)
        if place not in self._models:
            self._models[place] = [m for m in self._wanted([str(path)]) if m.spec == place]
        return self._models[place]

    def _of_project(self) -> dict[str, list[DesiredModel]]:
        found: dict[str, list[DesiredModel]] = {}
        try:
            for model in self._wanted([]):
                found.setdefault(model.spec, []).append(model)
        except WanrecError:
            return {}  # each spec tells its own faults
        return found

    def _wanted(self, words: Iterable[str]) -> tuple[DesiredModel, ...]:
        from wanrec.reconcile.select_args import SelectArgs

        return self.engine.collect(SelectArgs(words=tuple(words))).models

    def mark(self, node: pytest.Item, mark: str) -> None:
        """Give an item one mark of its model; it is declared, so strict markers accept it."""
        from wanrec.reconcile.expressions import parse_mark

        name, arguments = parse_mark(mark)
        if name not in self._marks:
            self._marks.add(name)
            self._config.addinivalue_line("markers", f"{name}: a mark of a model")
        node.add_marker(getattr(pytest.mark, name)(**arguments))

    def opened(self) -> tuple[Root, View]:
        """The root and the state, opened by the first item that asks.

        Raises:
            WanrecError: of the root or the state; the same for every item.
        """
        if self._opened is None:
            from wanrec.reconcile.disk import Root
            from wanrec.reconcile.engine_view import open_store, view_of

            try:
                root = Root.open(self.engine.root)
                store = open_store(self.engine.settings, self.engine.now)
                self._opened = (root, view_of(root, store))
            except WanrecError as error:
                self._opened = error
        if isinstance(self._opened, WanrecError):
            raise self._opened
        return self._opened

    def installed(self, model: DesiredModel) -> bool:
        """True when the model is wanted on this disk, or recorded there."""
        if model.installed:
            return True
        try:
            return model.key in self.opened()[1].state.models
        except WanrecError:
            return False


class SpecNode(pytest.File):
    """One spec file."""

    shared: Collectors

    def collect(self) -> Iterator[pytest.Item | pytest.Collector]:
        """One node a model; the files of a variant stand directly below the spec.

        pytest takes what follows the first ``[`` of a node id as one name, so that only this
        shape makes ``SPEC::MODEL[VARIANT]::PATH`` select what it names.
        """
        asked = {rest for path, rest in self.shared.given if path == self.path}
        for model in sorted(self.shared.models_of(self.path), key=lambda model: model.key):
            if not self.shared.installed(model):
                continue
            if model.variant is None or model.key in asked:
                node: ModelNode = ModelNode.from_parent(self, name=model.key)
                node.model, node.shared = model, self.shared
                yield node
            if model.variant is not None and asked != {model.key}:
                yield from _items(self, self.shared, model, f"{model.key}::")

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """A fault of the spec is told as `wanrec validate` tells it."""
        if isinstance(excinfo.value, WanrecError):
            return str(excinfo.value)
        return super().repr_failure(excinfo)


class ModelNode(pytest.Collector):
    """One model of a spec file."""

    model: DesiredModel
    shared: Collectors

    def collect(self) -> Iterator[pytest.Item]:
        """One item a file."""
        yield from _items(self, self.shared, self.model, "")


class FileItem(pytest.Item):
    """One file of one model."""

    model: DesiredModel
    spec: FileSpec
    shared: Collectors
    _fact: FileFact

    def setup(self) -> None:
        """Look at the file; what cannot be looked at is an error, never a failure."""
        root, view = self.shared.opened()
        if self.model.key in view.busy:
            pytest.skip("busy: a run is working on the model")
        place = f"{self.model.directory}/{self.spec.path}"
        self._fact = root.stat(place)
        recorded = self.model.key in view.state.models
        absent = self._fact.kind is EntryKind.MISSING
        if absent and not recorded and self.model.presence is Presence.ON_DEMAND:
            pytest.skip("on demand: nothing has asked for the model yet")
        if absent and self.spec.optional and self.address not in view.state.files:
            pytest.skip("optional: no apply could bring it")
        if self._fact.kind is EntryKind.UNREADABLE:
            raise WanrecError(
                ErrorCode.PERMISSION_DENIED,
                f"could not look: {self._fact.error}",
                address=self.address,
                where=place,
            )

    @property
    def address(self) -> str:
        """``MODEL::PATH``."""
        return f"{self.model.key}::{self.spec.path}"

    def runtest(self) -> None:
        """Compare the file with the spec.

        Raises:
            Differs: it is missing, of another kind or size, or has other bytes.
            WanrecError: the policy does not allow what is in it.
        """
        fact, spec = self._fact, self.spec
        if fact.kind is EntryKind.MISSING:
            self._differs(DriftKind.MISSING, None)
        if fact.kind is not EntryKind.FILE:
            self._differs(DriftKind.TYPE, None)
        if spec.size is not None and fact.size != spec.size:
            self._differs(DriftKind.SIZE, Content(size=fact.size))
        self._compare_bytes()

    def _compare_bytes(self) -> None:
        from wanrec.reconcile.content import hash_fd, inspect_content

        deep = self.config.getoption("--wanrec-deep")
        root, _ = self.shared.opened()
        fd = root.open_read(f"{self.model.directory}/{self.spec.path}")
        try:
            if self.spec.sha256 is not None and (deep or not self._trusted()):
                digest, size = hash_fd(fd, self._fact.size)
                if digest != self.spec.sha256:
                    self._differs(DriftKind.CONTENT, Content(size=size, sha256=digest))
            allowed = self.model.policy.allow_pickle or self.spec.allow_pickle is not None
            fault = inspect_content(fd, self._fact.size, self.spec.path, allow_pickle=allowed)
        finally:
            os.close(fd)
        if fault is not None:
            raise WanrecError(fault.code, fault.message, address=self.address)

    def _trusted(self) -> bool:
        from wanrec.reconcile.trust import is_trusted

        fact = self._fact
        record = self.shared.opened()[1].state.files.get(self.address)
        return (
            record is not None
            and record.sha256 == self.spec.sha256
            and is_trusted(record, fact.size, fact.mtime_ns, fact.ctime_ns, fact.ino)
        )

    def _differs(self, kind: DriftKind, found: Content | None) -> None:
        from wanrec.reconcile.render_drift import finding

        expected = Content(size=self.spec.size, sha256=self.spec.sha256)
        raise Differs(
            finding(
                DriftItem(
                    address=self.address,
                    model=self.model.key,
                    path=self.spec.path,
                    kind=kind,
                    expected=expected,
                    found=found,
                )
            )
        )

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """A finding in one line, an error with its help; anything else as pytest does."""
        if isinstance(excinfo.value, (Differs, WanrecError)):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, int | None, str]:
        """Where the file is declared.

        In a title that ends the node id pytest would make ``::`` of each dot.
        """
        return self.path, None, f"{self.address} of {self.path.name}"


def _items(
    parent: pytest.Collector, shared: Collectors, model: DesiredModel, prefix: str
) -> Iterator[FileItem]:
    for file in model.files:
        item: FileItem = FileItem.from_parent(parent, name=f"{prefix}{file.path}")
        item.model, item.spec, item.shared = model, file, shared
        item.user_properties.append(("address", item.address))  # JUnit mangles names with "["
        if file.component:
            item.extra_keyword_matches.add(file.component)
        for mark in model.facts.marks:
            shared.mark(item, mark)
        yield item


def _given(config: pytest.Config) -> tuple[tuple[Path, str], ...]:
    """The arguments of the run: absolute path, and what stands behind the first ``::``."""
    here = config.invocation_params.dir
    parts = (argument.partition("::") for argument in config.args)
    return tuple((Path(os.path.normpath(here / first)), rest) for first, _, rest in parts)


def _is_spec(path: Path) -> bool:
    if path.name in ("defaults.toml", "pyproject.toml", "wanrec.toml"):
        return False
    try:
        with path.open("rb") as file:
            return _SAYS_VERSION.search(file.read(_HEAD)) is not None
    except OSError:
        return True  # named as an error of collection, not passed over


def _relative(path: Path, start: Path) -> str:
    try:
        return Path(os.path.relpath(path, start)).as_posix()
    except ValueError:  # another drive on Windows
        return path.as_posix()
