"""Selection: command-line words and match expressions in, a `Selection` of models and files out.

Pure. A word is a SPEC (`collect` has said which ones are), a NODEID ``SPEC::MODEL[::PATH]``, a
MODEL, or an ADDRESS ``MODEL::PATH``, where PATH may be a folder or hold ``* ? [``. Several words
add up; ``-k``, ``-m`` and ``--exclude`` narrow what the words chose. Whatever the selected models
require comes along. Only a MODEL word, as a whole model, names something to ``--destroy``.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterable, Iterator, Mapping

from wanrec.reconcile.desired_lookup import ModelIndex
from wanrec.reconcile.errors import ErrorCode, WanrecError
from wanrec.reconcile.expressions import compile_keyword, compile_marks, mark_names
from wanrec.reconcile.model import DesiredModel, FileSpec, Selection
from wanrec.reconcile.names import nearest
from wanrec.reconcile.select_args import SelectArgs

__all__ = ["SelectArgs", "select"]

_Chosen = dict[str, frozenset[str] | None]
"""Model key → chosen paths, None for all of them."""


def select(
    models: Mapping[str, DesiredModel],
    index: ModelIndex,
    args: SelectArgs,
    spec_words: Mapping[str, tuple[str, ...]],
) -> Selection:
    """Return the part of `models` the arguments speak of.

    Args:
        models: every desired model by key.
        index: the same models, for look-ups by word.
        args: what the user chose.
        spec_words: words (and first parts of node ids) that name spec files → those files.

    Raises:
        WanrecError: MODEL_NOT_FOUND, VARIANT_NOT_FOUND, NOTHING_SELECTED, or USAGE for a
            malformed expression.
    """
    keep = _expressions(args)
    if not args.words and not keep:
        return Selection()
    chosen, specs = _by_words(models, index, args.words, spec_words)
    for expression in keep:
        chosen = _narrow(models, chosen, expression)
    narrowed = bool(keep) or any(word not in spec_words for word in args.words)
    if not chosen and narrowed:
        raise _nothing(args)
    pulled = _pull_in(models, chosen)
    return Selection(
        keys=frozenset(chosen) | pulled,
        addresses=_addresses(models, chosen, pulled),
        specs=specs,
        partial=narrowed,
        pulled_in=pulled,
        named=frozenset() if keep else _named(models, index, args.words, spec_words),
    )


def _by_words(
    models: Mapping[str, DesiredModel],
    index: ModelIndex,
    words: tuple[str, ...],
    spec_words: Mapping[str, tuple[str, ...]],
) -> tuple[_Chosen, frozenset[str] | None]:
    if not words:
        return dict.fromkeys(models), None
    chosen: _Chosen = {}
    specs: set[str] = set()
    for word in words:
        if word in spec_words:
            specs.update(spec_words[word])
            continue
        for key, paths in _word(models, index, word, spec_words):
            known = chosen.get(key, frozenset())
            chosen[key] = None if paths is None or known is None else known | paths
    for key, model in models.items():
        if model.spec in specs:
            chosen[key] = None
    return chosen, frozenset(specs) or None


def _named(
    models: Mapping[str, DesiredModel],
    index: ModelIndex,
    words: Iterable[str],
    spec_words: Mapping[str, tuple[str, ...]],
) -> frozenset[str]:
    """Return the keys of the whole models that MODEL words name."""
    names = (word for word in words if word not in spec_words and "::" not in word)
    return frozenset(key for name in names for key in _keys(models, index, name))


def _word(
    models: Mapping[str, DesiredModel],
    index: ModelIndex,
    word: str,
    spec_words: Mapping[str, tuple[str, ...]],
) -> Iterator[tuple[str, frozenset[str] | None]]:
    """Yield (key, paths) of one NODEID, MODEL or ADDRESS."""
    first, _, rest = word.partition("::")
    specs = spec_words.get(first) if rest else None
    address = rest if specs is not None else word
    model_word, _, pattern = address.partition("::")
    keys = _keys(models, index, model_word)
    if specs is not None:
        keys = tuple(key for key in keys if models[key].spec in specs)
        if not keys:
            raise WanrecError(
                ErrorCode.MODEL_NOT_FOUND, f'{first} declares no model "{model_word}"'
            )
    if not pattern:
        yield from ((key, None) for key in keys)
        return
    found = {key: _matching(models[key].files, pattern) for key in keys}
    if not any(found.values()):
        known = {file.path for key in keys for file in models[key].files}
        guess = nearest(pattern, known)
        raise WanrecError(
            ErrorCode.NOTHING_SELECTED,
            f'{model_word} has no file "{pattern}"'
            + (f'; did you mean "{guess}"?' if guess else ""),
            hint=f"`wanrec collect {model_word}` lists its files",
        )
    for key, paths in found.items():
        if paths:
            yield key, None if len(paths) == len(models[key].files) else paths


def _keys(models: Mapping[str, DesiredModel], index: ModelIndex, word: str) -> tuple[str, ...]:
    """Return the keys a MODEL word covers; ``*`` and ``?`` are globs over keys and ids."""
    if "*" not in word and "?" not in word:
        # A model whose own fault kept it out of `models` is declared all the same.
        return tuple(key for key in index.keys(word) if key in models)
    pattern = word.replace("[", "[[]")
    found = tuple(
        key
        for key, model in models.items()
        if fnmatch.fnmatchcase(key, pattern) or fnmatch.fnmatchcase(model.id, pattern)
    )
    if not found:
        raise WanrecError(ErrorCode.NOTHING_SELECTED, f'no model matches "{word}"')
    return found


def _matching(files: tuple[FileSpec, ...], pattern: str) -> frozenset[str]:
    """Return the paths of a PATH word: the file, else the folder, else the glob."""
    paths = [file.path for file in files]
    if pattern in paths:
        return frozenset((pattern,))
    folder = pattern.rstrip("/") + "/"
    below = frozenset(path for path in paths if path.startswith(folder))
    if below or not any(char in pattern for char in "*?["):
        return below
    return frozenset(path for path in paths if fnmatch.fnmatchcase(path, pattern))


def _expressions(args: SelectArgs) -> list[Callable[[DesiredModel, FileSpec], bool]]:
    """Compile the expressions that were given; a blank one is not given, as in pytest."""
    found: list[Callable[[DesiredModel, FileSpec], bool]] = []
    if args.keyword and args.keyword.strip():
        keyword = compile_keyword(args.keyword)
        found.append(lambda model, file: keyword(_names(model, file)))
    if args.marks and args.marks.strip():
        _check_marks(args.marks, args.declared_marks)
        marks = compile_marks(args.marks)
        found.append(lambda model, _file: marks(model.facts.marks))
    if args.exclude and args.exclude.strip():
        exclude = compile_keyword(args.exclude, "--exclude")
        found.append(lambda model, file: not exclude(_names(model, file)))
    return found


def _names(model: DesiredModel, file: FileSpec) -> tuple[str, ...]:
    """What ``-k`` looks at: address, component, name of the spec file, marks."""
    spec_name = model.spec.rpartition("/")[2]
    return (f"{model.key}::{file.path}", file.component or "", spec_name, *model.facts.marks)


def _check_marks(expression: str, declared: tuple[str, ...] | None) -> None:
    known = None if declared is None else {mark.partition("(")[0] for mark in declared}
    unknown = sorted(mark_names(expression) - known) if known is not None else []
    if unknown and known is not None:
        guess = nearest(unknown[0], known)
        raise WanrecError(
            ErrorCode.USAGE,
            f'-m: the configuration declares no mark "{unknown[0]}"'
            + (f'; did you mean "{guess}"?' if guess else ""),
            hint=f"declared marks: {', '.join(sorted(known))}",
        )


def _narrow(
    models: Mapping[str, DesiredModel],
    chosen: _Chosen,
    keep: Callable[[DesiredModel, FileSpec], bool],
) -> _Chosen:
    narrowed: _Chosen = {}
    for key, paths in chosen.items():
        model = models[key]
        kept = frozenset(
            file.path
            for file in model.files
            if (paths is None or file.path in paths) and keep(model, file)
        )
        if kept:
            narrowed[key] = None if len(kept) == len(model.files) else kept
    return narrowed


def _pull_in(models: Mapping[str, DesiredModel], chosen: Iterable[str]) -> frozenset[str]:
    """Return what the chosen models require, at any depth, and is not chosen itself."""
    seen = set(chosen)
    waiting, pulled = list(seen), set()
    while waiting:
        for required in models[waiting.pop()].requires:
            if required not in seen:
                seen.add(required)
                pulled.add(required)
                waiting.append(required)
    return frozenset(pulled)


def _addresses(
    models: Mapping[str, DesiredModel], chosen: _Chosen, pulled: frozenset[str]
) -> frozenset[str] | None:
    if all(paths is None for paths in chosen.values()):
        return None
    return frozenset(
        f"{key}::{path}"
        for key in (*chosen, *pulled)
        for path in (chosen.get(key) or (file.path for file in models[key].files))
    )


def _nothing(args: SelectArgs) -> WanrecError:
    given = [*args.words]
    for option, text in (("-k", args.keyword), ("-m", args.marks), ("--exclude", args.exclude)):
        if text:
            given += [option, repr(text)]
    return WanrecError(
        ErrorCode.NOTHING_SELECTED,
        f"nothing matches {' '.join(given)}",
        hint="`wanrec collect` lists what there is to select",
    )
