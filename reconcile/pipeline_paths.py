"""Where the parts of one pipeline lie, and whether they lie there whole: stats only.

A value that `pipelines.resolve` makes; it reads nothing but stats and imports no framework.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path

import attrs

from wanrec.reconcile.errors import ErrorCode, WanrecError
from wanrec.reconcile.pipeline_rules import CLASSES, Task, Vram, input_faults

__all__ = ["Lora", "PipelinePaths", "refuse_missing"]


@attrs.frozen(kw_only=True)
class Lora:
    """One LoRA file: which expert it belongs on, and how strong it is by default."""

    model: str
    path: Path
    component: str
    scale: float = 1.0


@attrs.frozen(kw_only=True)
class PipelinePaths:
    """Where the parts of one pipeline lie. May be used as a path: it is the model directory.

    Attributes:
        model: key of the base model.
        path: its directory, absolute.
        task: what it does, None when nothing says so.
        layout: repository layout.
        pipeline_class: the diffusers class, None when diffusers has none for it.
        components: role → absolute path of the file or folder.
        required: roles a run cannot do without.
        loras: overlays to put on, in order.
        facts: what the spec says for the pipeline (fps, frames, guidance, boundary_ratio, …).
        vram: the estimated memory.
        files: role → absolute paths of the files it consists of, with their sizes.
    """

    model: str
    path: Path
    task: Task | None
    layout: str
    pipeline_class: str | None
    components: Mapping[str, Path]
    required: tuple[str, ...]
    loras: tuple[Lora, ...] = ()
    facts: Mapping[str, object] = attrs.field(factory=dict)
    vram: Vram
    files: Mapping[str, tuple[tuple[Path, int | None], ...]] = attrs.field(factory=dict, repr=False)

    def __fspath__(self) -> str:
        return str(self.path)

    def __getitem__(self, component: str) -> Path:
        """The path of one component; KeyError when the pipeline has none."""
        return self.components[component]

    def check(self) -> None:
        """Make sure that every component lies there whole, by stats alone.

        Raises:
            WanrecError: INCOMPLETE_MODEL, naming what is missing and the command that brings it.
        """
        refuse_missing(self.model, self.required, self.components)
        broken: dict[str, tuple[Path, str]] = {}
        for role, files in self.files.items():
            for path, size in files:
                problem = _absent(path, size)
                if problem:
                    broken.setdefault(role, (path, problem))
        if broken:
            (role, (path, problem)), *rest = broken.items()
            raise WanrecError(
                ErrorCode.INCOMPLETE_MODEL,
                f"{self.model} cannot be loaded: its {role} is not whole, {problem}"
                + (f"; nor are {', '.join(name for name, _ in rest)}" if rest else ""),
                detail="\n".join(f"{name}: {why}" for name, (_, why) in rest),
                where=str(path),
                address=self.model,
                hint=f"wanrec ensure {self.model}",
            )

    def check_inputs(
        self,
        *,
        image: object = None,
        audio: object = None,
        video: object = None,
        width: int | None = None,
        height: int | None = None,
        frames: int | None = None,
    ) -> None:
        """Refuse a request that the pipeline cannot answer, before any memory is taken.

        Raises:
            WanrecError: USAGE, with every fault: an image for t2v, none for i2v, odd sizes.
        """
        named = {"image": image, "audio": audio, "video": video}
        given = [name for name, value in named.items() if value is not None]
        faults = input_faults(self.task, given, width=width, height=height, frames=frames)
        if faults:
            raise WanrecError(
                ErrorCode.USAGE,
                f"{self.model}: {faults[0]}",
                detail="\n".join(faults[1:]),
                address=self.model,
            )

    def class_for(self, *, image: object = None) -> str | None:
        """The diffusers class for a request; TI2V takes another one when an image is given."""
        if self.pipeline_class and self.task is Task.TI2V and image is not None:
            return CLASSES[Task.I2V]
        return self.pipeline_class


def refuse_missing(
    key: str, required: Iterable[str], there: Iterable[str], spec: str = "", note: str = ""
) -> None:
    """Make sure that every required role has a part.

    Raises:
        WanrecError: INCOMPLETE_MODEL, with `note` (what is known of the cause) and the command.
    """
    missing = [role for role in required if role not in there]
    if not missing:
        return
    hint = f"list it in files or components, or pin it: wanrec lock; then: wanrec ensure {key}"
    raise WanrecError(
        ErrorCode.INCOMPLETE_MODEL,
        f"{key} cannot be loaded without {', '.join(missing)}",
        detail=note or "no pinned file of the model, nor of a model it requires, belongs to it",
        address=key,
        where=spec or None,
        hint=hint,
    )


def _absent(path: Path, size: int | None) -> str:
    try:
        found = os.stat(path, follow_symlinks=False)
    except OSError as error:
        return f"{path.name}: {error.strerror}"
    if not stat.S_ISREG(found.st_mode):
        return f"{path.name} is no regular file"
    if size is not None and found.st_size != size:
        return f"{path.name} has {found.st_size} bytes of {size}"
    return ""
