"""One spec file and its lock → its models, variant by variant, with everything filled in.

Pure, and a function of these two files only: `Expanded` is kept by their digests. Words in
`requires` are still words here, because only `desired_link` sees the other specs.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping

import attrs

from wanrec.reconcile.desired_expanded import Expanded
from wanrec.reconcile.desired_lookup import Declared
from wanrec.reconcile.errors import ErrorCode, Fault
from wanrec.reconcile.lockfile import (
    LockedFile,
    LockedModel,
    LockFile,
    declaration_digest,
    pin_source,
)
from wanrec.reconcile.manifest import Manifest
from wanrec.reconcile.manifest_models import ModelDecl, allowed_by_patterns
from wanrec.reconcile.manifest_schema import PICKLE_SUFFIXES
from wanrec.reconcile.model import (
    DesiredModel,
    FileSpec,
    ModelFacts,
    model_key,
)
from wanrec.reconcile.names import model_directory, nearest

__all__ = ["content_digest", "expand", "source_for", "source_urls"]


def expand(manifest: Manifest, lock: LockFile | None) -> Expanded:
    """Resolve one spec file on its own; faults are collected in the result, none is raised."""
    models: list[DesiredModel] = []
    faults: list[Fault] = []
    notes: dict[str, str] = {}
    for decl in manifest.models:
        locked = lock.models.get(decl.id) if lock else None
        one = _Expansion(manifest, decl, locked)
        if decl.id in manifest.faulty:
            models += one.bare()
            continue
        models += one.models()
        faults += one.faults
        if locked is not None and locked.unpinned:
            notes[decl.id] = _incomplete(manifest.path, decl.id, locked.unpinned)
    return Expanded(
        path=manifest.path,
        models=tuple(models),
        declared=tuple(
            Declared(decl.id, decl.variants, decl.default_variant) for decl in manifest.models
        ),
        lines={decl.id: decl.line for decl in manifest.models},
        removed=manifest.removed,
        policy=manifest.policy,
        faults=tuple(faults),
        notes=notes,
    )


def _incomplete(spec: str, model_id: str, unpinned: tuple[str, ...]) -> str:
    more = f" and {len(unpinned) - 1} more" if len(unpinned) > 1 else ""
    return (
        f"{model_id} is incomplete: {unpinned[0]}{more} not pinned yet and left out;"
        f" on a connected machine run: wanrec lock {spec}"
    )


def content_digest(files: Iterable[FileSpec]) -> str:
    """Return the sha256 over the (path, size, sha256) of files sorted by path."""
    rows = [[file.path, file.size, file.sha256] for file in files]
    return hashlib.sha256(json.dumps(rows, separators=(",", ":")).encode()).hexdigest()


class _Expansion:
    """One declaration on its way to its variants."""

    def __init__(self, manifest: Manifest, decl: ModelDecl, locked: LockedModel | None) -> None:
        self.manifest = manifest
        self.decl = decl
        self.locked = locked
        self.faults: list[Fault] = []

    def models(self) -> list[DesiredModel]:
        """Return one model for each variant, or one without; none when a fault forbids it."""
        if self.locked and self.locked.spec_sha256 != declaration_digest(self.decl):
            self._fault(
                "the lock file was written for an earlier form of this model",
                "",
                ErrorCode.LOCK_OUTDATED,
            )
            return []
        files = self._files()
        if files is None:
            return []
        wanted = self._chosen(files)
        self._check_files(wanted)
        built = [self._model(variant, wanted) for variant in self.decl.variants or (None,)]
        return [] if self.faults else built

    def bare(self) -> list[DesiredModel]:
        """Return a faulty model without its files: its requirements and sources can be judged."""
        return [self._model(variant, ()) for variant in self.decl.variants or (None,)]

    def _files(self) -> tuple[FileSpec, ...] | None:
        """Return the declared files with gaps filled from the lock, or the lock's own list."""
        locked = self.locked.files if self.locked else ()
        if self.decl.files is None:
            if self.locked is None:
                self._fault(
                    f"the spec lists no files and no lock file does; run: wanrec lock"
                    f" {self.manifest.path}",
                    "files",
                    ErrorCode.LOCK_MISSING,
                )
                return None
            return tuple(_from_lock(file) for file in locked)
        unpinned = frozenset(self.locked.unpinned if self.locked else ())
        if not locked and not unpinned:
            return self.decl.files
        by_name = {(file.variant, file.path): file for file in locked}
        return tuple(
            self._filled(file, by_name) for file in self.decl.files if file.path not in unpinned
        )

    def _filled(
        self, file: FileSpec, locked: Mapping[tuple[str | None, str], LockedFile]
    ) -> FileSpec:
        pin = locked.get((file.variant, file.path)) or locked.get((None, file.path))
        if pin is None:
            return file
        same_size = file.size in (None, pin.size)
        if not same_size or file.sha256 not in (None, pin.sha256):
            self._fault(
                f"the spec and the lock file disagree about {file.path}",
                "files",
                ErrorCode.LOCK_OUTDATED,
            )
        if file.size is None or file.sha256 is None:
            return attrs.evolve(file, size=pin.size, sha256=pin.sha256)
        return file

    def _chosen(self, files: tuple[FileSpec, ...]) -> tuple[FileSpec, ...]:
        """Return the files that patterns and components let through, sorted by path."""
        decl = self.decl
        allow, ignore = decl.allow_patterns, decl.ignore_patterns
        wanted = [file for file in files if allowed_by_patterns(file.path, allow, ignore)]
        if decl.components is not None:
            self._check_components(decl.components, files)
            allowed = {*decl.components, None}
            wanted = [file for file in wanted if file.component in allowed]
        elif decl.optional_components:
            left_out = frozenset(decl.optional_components)
            wanted = [file for file in wanted if file.component not in left_out]
        return tuple(sorted(wanted, key=lambda file: file.path))

    def _check_components(self, components: Iterable[str], files: Iterable[FileSpec]) -> None:
        """A misspelt component would leave files out without a word."""
        known = {file.component for file in files if file.component}
        known.update(self.decl.optional_components)
        for name in components:
            if name not in known:
                guess = nearest(name, known)
                hint = f'; did you mean "{guess}"?' if guess else ""
                self._fault(f'no file belongs to a component "{name}"{hint}', "components")

    def _check_files(self, files: tuple[FileSpec, ...]) -> None:
        """What a file needs before it may be wanted: a digest, and for locked ones the policy."""
        policy = self.manifest.policy
        bare = [file.path for file in files if file.sha256 is None]
        if bare and policy.require_sha256:
            more = f" and {len(bare) - 1} more" if len(bare) > 1 else ""
            message = f"no sha256 for {bare[0]}{more}; run: wanrec lock {self.manifest.path}"
            self._fault(message, "files", ErrorCode.LOCK_MISSING)
        if self.decl.files is not None:
            return
        for file in files:
            if not policy.allow_pickle and file.path.lower().endswith(PICKLE_SUFFIXES):
                message = (
                    f"{file.path} (from the lock file) can run code when it is loaded; leave it"
                    " out with ignore_patterns, or list the model's files in the spec, with"
                    ' allow_pickle = "REASON" at this one'
                )
                self._fault(message, "", ErrorCode.POLICY_DENIED)
            if file.variant is not None and file.variant not in self.decl.variants:
                message = f'{file.path} is locked for "{file.variant}", which is no variant'
                self._fault(message, "variants", ErrorCode.LOCK_OUTDATED)

    def _model(self, variant: str | None, wanted: tuple[FileSpec, ...]) -> DesiredModel:
        decl, manifest = self.decl, self.manifest
        files = tuple(file for file in wanted if file.variant in (None, variant))
        if not files:
            whose = f' for the variant "{variant}"' if variant else ""
            message = f"no file is left{whose}: patterns, components and variants leave all out"
            self._fault(message, "files")
        return DesiredModel(
            key=model_key(decl.id, variant),
            id=decl.id,
            name=decl.name,
            version=decl.version,
            variant=variant,
            family=decl.family,
            directory=model_directory(decl.family, decl.id, variant),
            files=files,
            sources=self._sources(variant),
            presence=decl.presence,
            installed=self._installed(variant),
            protect=decl.protect,
            requires=decl.requires,
            default_variant=decl.default_variant,
            spec=manifest.path,
            spec_sha256=content_digest(files),
            moved=decl.moved,
            policy=manifest.policy,
            facts=ModelFacts(description=decl.description, marks=decl.marks, values=decl.facts),
        )

    def _installed(self, variant: str | None) -> bool:
        install = self.decl.install
        if variant is None or install == "all":
            return True
        if install == "default":
            return variant == self.decl.default_variant
        return variant in install

    def _sources(self, variant: str | None) -> tuple[str, ...]:
        """Return the source URLs, placeholders filled in and revisions pinned."""
        revisions = self.locked.revisions if self.locked else {}
        urls = source_urls(self.decl, variant)
        return tuple(pin_source(url, revisions[url]) if url in revisions else url for url in urls)

    def _fault(self, message: str, at: str, code: ErrorCode = ErrorCode.INVALID_MANIFEST) -> None:
        where = f"models.{json.dumps(self.decl.id)}" + (f".{at}" if at else "")
        if not any((known.message, known.at) == (message, where) for known in self.faults):
            self.faults.append(Fault(self.manifest.path, self.decl.line, message, where, code))


def _from_lock(file: LockedFile) -> FileSpec:
    folder, slash, _ = file.path.partition("/")
    return FileSpec(
        path=file.path,
        size=file.size,
        sha256=file.sha256,
        component=file.component or (folder if slash else None),
        variant=file.variant,
        optional=file.optional,
        source_path=file.source_path,
    )


def source_urls(decl: ModelDecl, variant: str | None) -> list[str]:
    """Return the source URLs of one variant, placeholders filled in, as a lock file names them."""
    words = {
        "{id}": decl.id,
        "{name}": decl.name,
        "{version}": decl.version,
        "{variant}": variant or "",
        "{family}": decl.family,
    }
    return [_filled_in(template, words) for template in decl.sources]


def source_for(template: str, model: DesiredModel) -> str:
    """Return a source that is given for all models (`--mirror`), filled in for one of them."""
    words = {
        "{id}": model.id,
        "{name}": model.name,
        "{version}": model.version,
        "{variant}": model.variant or "",
        "{family}": model.family,
        "{directory}": model.directory,
    }
    return _filled_in(template, words)


def _filled_in(template: str, words: Mapping[str, str]) -> str:
    """Fill in placeholders; names are checked, so no value can hold another placeholder."""
    for word, value in words.items():
        template = template.replace(word, value)
    return template
