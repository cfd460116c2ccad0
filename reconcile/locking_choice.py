"""Which models `wanrec lock` is about: words and expressions in, model ids out.

An entry pins a model whole, so a model is chosen whole or not at all: by itself, or because one of
its files is selected. What nobody has pinned yet has no files, and is matched by its names alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

import attrs

from wanrec.reconcile.desired_lookup import Declared, ModelIndex
from wanrec.reconcile.model import DesiredModel, FileSpec, ModelFacts, model_key

if TYPE_CHECKING:
    from wanrec.reconcile.collect import Collection
    from wanrec.reconcile.manifest import Manifest
    from wanrec.reconcile.manifest_models import ModelDecl
    from wanrec.reconcile.select_args import SelectArgs

__all__ = ["chosen_models"]

LockedPaths = Callable[["Manifest"], Mapping[str, Iterable[str]]]
"""Model id → paths that the lock file beside a spec lists."""


def chosen_models(
    select: SelectArgs, collection: Collection, locked_paths: LockedPaths
) -> frozenset[str]:
    """Return the ids of the models that are selected; all of them when nothing narrows.

    Raises:
        WanrecError: as `desired_select.select`.
    """
    from wanrec.reconcile.desired_select import select as narrowed

    decls = [decl for manifest in collection.manifests for decl in manifest.models]
    paths: dict[str, Iterable[str]] = {}
    if select.keyword or select.exclude:
        for manifest in collection.manifests:
            paths |= locked_paths(manifest)
    models = {model.key: model for decl in decls for model in _stand_ins(decl, paths)}
    index = ModelIndex(Declared(decl.id, decl.variants, decl.default_variant) for decl in decls)
    words = tuple(_without_path(word, collection.spec_words) for word in select.words)
    selection = narrowed(models, index, attrs.evolve(select, words=words), collection.spec_words)
    return frozenset(model.id for model in models.values() if selection.has_model(model.key))


def _without_path(word: str, spec_words: Mapping[str, tuple[str, ...]]) -> str:
    """An ADDRESS or NODEID as the MODEL it is in."""
    first, sep, rest = word.partition("::")
    if sep and first in spec_words:
        return f"{first}::{rest.partition('::')[0]}"
    return first


def _stand_ins(decl: ModelDecl, paths: Mapping[str, Iterable[str]]) -> Iterator[DesiredModel]:
    """A declaration as what selection looks at, once for each variant."""
    known = decl.files
    if known is None:
        known = tuple(
            FileSpec(path=path, component=_folder(path)) for path in paths.get(decl.id, ())
        )
    for variant in decl.variants or (None,):
        yield DesiredModel(
            key=model_key(decl.id, variant),
            id=decl.id,
            name=decl.name,
            version=decl.version,
            variant=variant,
            family=decl.family,
            directory="",
            files=known or (FileSpec(path=""),),
            sources=decl.sources,
            presence=decl.presence,
            spec=decl.spec,
            facts=ModelFacts(marks=decl.marks),
        )


def _folder(path: str) -> str | None:
    folder, slash, _ = path.partition("/")
    return folder if slash else None
