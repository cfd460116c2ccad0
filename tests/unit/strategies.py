"""Builders and Hypothesis strategies for specs, states and disks of small worlds.

Small on purpose: few names, few paths, few contents, so that collisions, sharing, renames and
drops happen in most examples instead of in none. States and disks are never invented: they are
what applying earlier specs left behind, plus what may happen to a disk afterwards.
"""

from __future__ import annotations

from collections.abc import Sequence

import attrs
from hypothesis import strategies as st
from unit.paper_disk import PaperDisk, sha

from wanrec.reconcile.actions import PlanOptions
from wanrec.reconcile.model import (
    Desired,
    DesiredModel,
    FileSpec,
    MoveRule,
    Policy,
    Presence,
    RemovedRule,
    Selection,
    SpecSource,
    model_key,
)
from wanrec.reconcile.plan import make_plan
from wanrec.state.model import State

CONTENTS = tuple(text * 4 for text in (b"alpha", b"bravo", b"charlie", b"delta!"))
PATHS = ("config.json", "model.safetensors", "vae/config.json", "vae/model.safetensors")
NAMES = ("a", "b", "c")
SPECS = ("specs/one.toml", "specs/two.toml")
ANY_DELETE = Policy(max_delete=1.0)


def file_spec(path: str, content: bytes, **fields: object) -> FileSpec:
    """Return the spec of one file with known bytes."""
    return FileSpec(path=path, size=len(content), sha256=sha(content), **fields)  # type: ignore[arg-type]


def model(
    name: str = "a",
    files: Sequence[FileSpec] = (),
    *,
    version: str = "1.0",
    variant: str | None = None,
    family: str = "wan22",
    **fields: object,
) -> DesiredModel:
    """Return a wanted model; what the test does not say is plain."""
    model_id = f"{name}@{version}"
    folder = model_id if variant is None else f"{model_id}@{variant}"
    defaults: dict[str, object] = {
        "sources": ("s3://bucket/models",),
        "presence": Presence.REQUIRED,
        "spec": SPECS[0],
        "spec_sha256": sha("".join(f"{f.path}{f.sha256}" for f in files).encode()),
        "policy": ANY_DELETE,
    }
    return DesiredModel(
        key=model_key(model_id, variant),
        id=model_id,
        name=name,
        version=version,
        variant=variant,
        family=family,
        directory=f"{family}/{folder}",
        files=tuple(sorted(files, key=lambda f: f.path)),
        **{**defaults, **fields},  # type: ignore[arg-type]
    )


def desired(*models: DesiredModel, **fields: object) -> Desired:
    """Return a desired set of these models; deletes are not limited unless said."""
    defaults: dict[str, object] = {
        "policy": ANY_DELETE,
        "sources": tuple(SpecSource(path=path, sha256=sha(path.encode())) for path in SPECS),
    }
    ordered = tuple(sorted(models, key=lambda m: m.key))
    return Desired(models=ordered, **{**defaults, **fields})  # type: ignore[arg-type]


def selected(wanted: Desired, *keys: str) -> Desired:
    """Return the same set, narrowed to some models as `-k` would."""
    return attrs.evolve(wanted, selection=Selection(keys=frozenset(keys), partial=True))


@attrs.define
class World:
    """A disk with its state, and the sources that have every content."""

    disk: PaperDisk = attrs.field(factory=PaperDisk)
    state: State = attrs.field(factory=State)

    def plan(self, wanted: Desired, **options: object):
        """Plan against what the disk is now."""
        chosen = PlanOptions(**options)  # type: ignore[arg-type]
        observed = self.disk.observe(wanted, self.state, deep=chosen.deep)
        return make_plan(wanted, self.state, observed, chosen)

    def apply(self, wanted: Desired, steps: int = -1, **options: object):
        """Plan, carry the plan out if nothing blocks it, and return the plan."""
        plan = self.plan(wanted, **options)
        if not plan.blocked:
            self.state = self.disk.apply(plan, wanted, self.state, CONTENTS, steps)
        return plan


def applied(wanted: Desired, **options: object) -> World:
    """Return a world that has converged to a desired set."""
    world = World()
    world.apply(wanted, **options)
    return world


@st.composite
def models(draw: st.DrawFn, name: str, spec: str) -> list[DesiredModel]:
    """One declared model: its variants, files, presence, renames and requirements."""
    variants: tuple[str | None, ...] = draw(st.sampled_from([(None,), ("fp16", "bf16")]))
    version = draw(st.sampled_from(["1.0", "2.0"]))
    chosen = draw(st.dictionaries(st.sampled_from(PATHS), st.sampled_from(CONTENTS), min_size=1))
    presence = draw(st.sampled_from([Presence.REQUIRED, Presence.REQUIRED, Presence.ON_DEMAND]))
    moved = draw(
        st.lists(
            st.builds(MoveRule, from_path=st.sampled_from(PATHS), to_path=st.sampled_from(PATHS)),
            max_size=1,
        )
    )
    return [
        model(
            name,
            [file_spec(path, content) for path, content in chosen.items()],
            version=version,
            variant=variant,
            family=draw(st.sampled_from(["wan22", "wan22", "other"])),
            presence=presence,
            installed=variant in (None, "fp16") or draw(st.booleans()),
            moved=tuple(moved),
            spec=spec,
        )
        for variant in variants
    ]


@st.composite
def desired_sets(draw: st.DrawFn) -> Desired:
    """What the spec files of a project want; requirements only point to earlier names."""
    chosen: list[DesiredModel] = []
    for name in draw(st.lists(st.sampled_from(NAMES), min_size=1, unique=True).map(sorted)):
        needed = (
            draw(st.lists(st.sampled_from([m.key for m in chosen]), max_size=2)) if chosen else []
        )
        for declared in draw(models(name, draw(st.sampled_from(SPECS)))):
            chosen.append(attrs.evolve(declared, requires=tuple(sorted(set(needed)))))
    rules = draw(
        st.lists(
            st.builds(
                RemovedRule,
                model=st.sampled_from([f"{name}@1.0" for name in NAMES]),
                delete=st.booleans(),
                spec=st.sampled_from(SPECS),
            ),
            max_size=1,
        )
    )
    present = {m.id for m in chosen}
    return desired(*chosen, removed=tuple(r for r in rules if r.model not in present))


@st.composite
def worlds(draw: st.DrawFn) -> World:
    """A root that other specs of two projects were applied to, and that life has touched since."""
    world = World()
    for project in draw(st.lists(st.sampled_from(["default", "other"]), max_size=3)):
        wanted = draw(desired_sets())
        ensure = draw(st.sets(st.sampled_from([m.key for m in wanted.models]), max_size=1))
        world.apply(wanted, project=project, ensure=frozenset(ensure), allow_delete=True)
    for path in draw(st.lists(st.sampled_from(sorted(world.disk.files) or ["-"]), max_size=3)):
        if path in world.disk.files:
            match draw(st.sampled_from(["touch", "spoil", "remove", "truncate"])):
                case "touch":
                    world.disk.touch(path)
                case "spoil":
                    world.disk.spoil(path)
                case "truncate":
                    world.disk.put(path, b"short")
                case _:
                    del world.disk.files[path]
    for content in draw(st.lists(st.sampled_from(CONTENTS), max_size=2)):
        name, path = draw(st.sampled_from(NAMES)), draw(st.sampled_from([*PATHS, "notes.txt"]))
        world.disk.files.setdefault(f"wan22/{name}@1.0/{path}", _loose(world, content))
    return world


def _loose(world: World, content: bytes):
    world.disk.put("loose", content)
    return world.disk.files.pop("loose")
