"""Which model a word means: ``ID``, ``NAME`` when it is unique, ``ID[VARIANT]``, ``ID@VARIANT``.

Pure. One index over the declared models answers for `requires`, for words on a command line and
for the Python API, so that the same word means the same model everywhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from wanrec.reconcile.errors import ErrorCode, WanrecError
from wanrec.reconcile.model import DesiredModel, model_key
from wanrec.reconcile.names import nearest, split_model_id

__all__ = ["Declared", "ModelIndex", "addresses_of"]


class Declared(NamedTuple):
    """What a look-up needs to know of a model."""

    id: str
    variants: tuple[str, ...] = ()
    default_variant: str | None = None


class ModelIndex:
    """Every declared model by id and by name."""

    def __init__(self, declared: Iterable[Declared]) -> None:
        self._by_id: Mapping[str, Declared] = {model.id: model for model in declared}
        by_name: dict[str, list[str]] = {}
        for model_id in sorted(self._by_id):
            by_name.setdefault(split_model_id(model_id)[0], []).append(model_id)
        self._by_name = by_name

    def key(self, word: str) -> str:
        """Return the one model key a word means; the default variant when it names none.

        Raises:
            WanrecError: MODEL_NOT_FOUND, also for a NAME of several models; VARIANT_NOT_FOUND.
        """
        model, variant = self._find(word)
        return model_key(model.id, variant or model.default_variant)

    def keys(self, word: str) -> tuple[str, ...]:
        """Return every model key a word covers: all variants when it names none.

        Raises:
            WanrecError: as `key`.
        """
        model, variant = self._find(word)
        if variant is not None or not model.variants:
            return (model_key(model.id, variant),)
        return tuple(model_key(model.id, name) for name in model.variants)

    def _find(self, word: str) -> tuple[Declared, str | None]:
        base, variant = self._split(word)
        model = self._by_id.get(base) or self._by_unique_name(base, word)
        if variant is not None and variant not in model.variants:
            raise self._no_variant(model, variant)
        return model, variant

    def _split(self, word: str) -> tuple[str, str | None]:
        if word.endswith("]") and "[" in word:
            base, _, variant = word[:-1].rpartition("[")
            return base, variant
        if word not in self._by_id:
            base, _, variant = word.rpartition("@")
            if base in self._by_id:
                return base, variant
        return word, None

    def _by_unique_name(self, name: str, word: str) -> Declared:
        ids = self._by_name.get(name, [])
        if len(ids) == 1:
            return self._by_id[ids[0]]
        if ids:
            raise WanrecError(
                ErrorCode.MODEL_NOT_FOUND,
                f'"{word}" could be any of {", ".join(ids)}',
                hint=f"write the whole id, for example {ids[-1]}",
            )
        guess = nearest(name, [*self._by_id, *self._by_name])
        raise WanrecError(
            ErrorCode.MODEL_NOT_FOUND,
            f'no spec declares a model "{word}"' + (f'; did you mean "{guess}"?' if guess else ""),
            hint="`wanrec collect` lists every model",
        )

    @staticmethod
    def _no_variant(model: Declared, variant: str) -> WanrecError:
        if not model.variants:
            summary = f'{model.id} has no variants, so none is called "{variant}"'
            return WanrecError(ErrorCode.VARIANT_NOT_FOUND, summary, address=model.id)
        guess = nearest(variant, model.variants)
        return WanrecError(
            ErrorCode.VARIANT_NOT_FOUND,
            f'{model.id} has no variant "{variant}"'
            + (f'; did you mean "{guess}"?' if guess else ""),
            address=model.id,
            hint=f"its variants are {', '.join(model.variants)}",
        )


def addresses_of(models: Iterable[DesiredModel], words: Iterable[str]) -> tuple[str, ...]:
    """Return the full addresses of ADDRESS words; what no model has stays as it was written.

    A word without a variant means the installed ones that have the file.
    """
    known = tuple(models)
    found: list[str] = []
    for word in words:
        model_word, _, path = word.partition("::")
        hits = [
            model
            for model in known
            if model_word in _names_of(model) and any(file.path == path for file in model.files)
        ]
        exact = [m for m in hits if model_word in (m.key, f"{m.id}@{m.variant}")]
        chosen = exact or [m for m in hits if m.installed] or hits
        if len({model.id for model in chosen}) == 1:
            found += [f"{model.key}::{path}" for model in chosen]
        else:
            found.append(word)
    return tuple(found)


def _names_of(model: DesiredModel) -> set[str]:
    names = {model.id, model.name}
    if model.variant is None:
        return names
    written = {f"{name}[{model.variant}]" for name in names}
    return names | written | {f"{model.id}@{model.variant}"}
