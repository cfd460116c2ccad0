"""What a user chose of the specs, before anybody has read them."""

from __future__ import annotations

import attrs

__all__ = ["SelectArgs"]


@attrs.frozen(kw_only=True)
class SelectArgs:
    """What the user chose.

    Attributes:
        words: SPEC, NODEID, MODEL or ADDRESS each.
        keyword, marks, exclude: the expressions of ``-k``, ``-m`` and ``--exclude``.
        declared_marks: the closed list of marks of a strict configuration, None when open.
        of_models: the words are MODELs: a file or folder of such a name is not meant.
    """

    words: tuple[str, ...] = ()
    keyword: str | None = None
    marks: str | None = None
    exclude: str | None = None
    declared_marks: tuple[str, ...] | None = None
    of_models: bool = False
