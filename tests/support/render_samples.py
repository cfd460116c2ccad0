"""Plans, reports and results to render: a few told by hand, any number drawn by Hypothesis."""

from __future__ import annotations

from typing import Any

import attrs
from hypothesis import strategies as st

from wanrec.reconcile.actions import (
    Action,
    Block,
    Content,
    DriftItem,
    DriftKind,
    DriftReport,
    Plan,
    PlanOptions,
    RecordChange,
    Summary,
)
from wanrec.reconcile.errors import ErrorCode
from wanrec.reconcile.model import ActionKind, Reason, Via, model_key

WAN = "t2v-A14B@2.2.0"
HOSTILE = "a\x1b[31m\u202egpj.\nexe`````|<b>&\"'\u200b\ud800%::#x"


def digest(start: str) -> str:
    """A sha256 that begins with `start`."""
    return (start * 64)[:64]


def action(
    kind: ActionKind, path: str, reason: Reason = Reason.MISSING, **values: object
) -> Action:
    """An action of the bf16 variant of the sample model, unless told otherwise."""
    model, variant = str(values.pop("model", WAN)), values.pop("variant", "bf16")
    address = f"{model_key(model, variant)}::{path}"  # type: ignore[arg-type] # a str or None
    told = {"address": address, "model": model, "variant": variant, "path": path}
    return Action(**(told | {"action": kind, "reason": reason} | values))  # type: ignore[arg-type]


def fetched(path: str, size: int, sha256: str) -> Action:
    """A file that is missing and comes from the bucket."""
    return action(
        ActionKind.CREATE,
        path,
        size=size,
        sha256=sha256,
        sources=("s3://ai-models/wan22/t2v-A14B",),
        via=Via.FETCH,
        bytes_to_fetch=size,
    )


def contract_plan() -> Plan:
    """The plan of the contract's own example."""
    index = action(
        ActionKind.REPLACE,
        "model_index.json",
        Reason.HASH_DIFFERS,
        size=600,
        sha256=digest("beef"),
        before=Content(size=498),
        sources=("s3://ai-models/wan22/t2v-A14B",),
        via=Via.FETCH,
        bytes_to_fetch=780_897_628,
    )
    return Plan(
        lineage="0c7c",
        serial=3,
        specs={},
        actions=(
            fetched("vae/config.json", 724, digest("0d1c")),
            index,
            fetched("vae/diffusion_pytorch_model.safetensors", 507_591_892, digest("d6e5")),
        ),
        summary=Summary(create=2, replace=1, bytes_to_fetch=1_288_490_244),
    )


def every_kind() -> Plan:
    """One action of every kind and origin, with every section a plan can have."""
    donor = "umt5-xxl@1.0.0::tokenizer.json"
    size: dict[str, Any] = {"size": 2048, "sha256": digest("cafe")}
    old: dict[str, Any] = {"model": "old@1", "variant": None, "before": Content(size=3_000_000)}
    actions = (
        fetched("vae/config.json", 724, digest("0d1c")),
        attrs.evolve(fetched("vae/part.bin", 4096, digest("aa11")), bytes_to_fetch=1024),
        attrs.evolve(fetched("vae/staged.bin", 4096, digest("bb22")), bytes_to_fetch=0),
        action(ActionKind.CREATE, "l.json", donor=donor, via=Via.LINK, **size),
        action(ActionKind.CREATE, "r.json", Reason.CORRUPT, donor=donor, via=Via.REFLINK, **size),
        action(ActionKind.CREATE, "nobody.json", optional=True),
        action(ActionKind.VERIFY, "v.json", Reason.STAT_CHANGED, **size),
        action(ActionKind.REPLACE, "s.json", Reason.SIZE_DIFFERS, before=Content(size=1), **size),
        action(ActionKind.REPLACE, "u.json", Reason.CORRUPT, **size),
        action(ActionKind.ADOPT, "a.json", Reason.FOUND_BY_HASH, **size),
        action(ActionKind.ADOPT, "b.json", Reason.FOUND_BY_HASH, donor=donor, via=Via.COPY, **size),
        action(
            ActionKind.MOVE,
            "new.json",
            Reason.MOVED,
            donor=f"{WAN}[bf16]::old.json",
            depends_on=(f"{WAN}[bf16]::a.json",),
            **size,
        ),
        action(ActionKind.DELETE, "gone.bin", Reason.NOT_IN_SPEC, **old),
        action(ActionKind.FORGET, "kept.bin", Reason.REMOVED_BLOCK, **old),
    )
    return Plan(
        lineage="0c7c",
        serial=3,
        specs={"specs/wan22.toml": digest("5bec")},
        actions=actions,
        records=(RecordChange(model=WAN, field="protect", before="false", after="true"),),
        foreign=("wan22/t2v-A14B@2.2.0@bf16/nohup.out",),
        drift=(sample_item(),),
        warnings=("the source said something\nin two lines",),
        blocked=(
            Block(
                code=ErrorCode.PROTECTED,
                message="old@1 is protected",
                address="old@1::gone.bin",
                hint="apply protect = false first",
            ),
            Block(code=ErrorCode.DELETE_BUDGET, message="1 of 1 models would be deleted"),
        ),
        summary=Summary(
            create=6,
            verify=1,
            replace=2,
            delete=1,
            adopt=2,
            move=1,
            forget=1,
            bytes_to_fetch=5844,
            bytes_to_free=3_000_000,
            bytes_saved=6144,
        ),
        partial=True,
        selection=("-k", "vae or old"),
        options=PlanOptions(state_only=True, delete_first=True),
    )


def sample_item(kind: DriftKind = DriftKind.CONTENT) -> DriftItem:
    """One drifted file."""
    found = {
        DriftKind.CONTENT: Content(size=724, sha256=digest("ffff")),
        DriftKind.SIZE: Content(size=700),
    }
    return DriftItem(
        address=f"{WAN}[bf16]::vae/{kind}.json",
        model=WAN,
        path=f"vae/{kind}.json",
        kind=kind,
        expected=Content(size=724, sha256=digest("0d1c")),
        found=found.get(kind),
    )


def every_drift() -> DriftReport:
    """A report with every kind of finding."""
    shared = attrs.evolve(sample_item(), paths=("wan22/a@1/x.json", "wan22/b@1/x.json"))
    return DriftReport(
        checked=60,
        items=(shared, *(sample_item(k) for k in DriftKind if k is not DriftKind.CONTENT)),
        suspects=(f"{WAN}[fp16]::model_index.json",),
        busy=("busy@1",),
        unreadable=(("umt5-xxl@1.0.0::tokenizer.json", "EACCES"), ("wan22/dir", "EIO")),
        foreign=("wan22/a@1/nohup.out",),
        ignored=2,
        models=(f"{WAN}[bf16]", f"{WAN}[fp16]", "busy@1", "clean@1", "umt5-xxl@1.0.0"),
    )


def clean_drift() -> DriftReport:
    """A report of a disk that is as the state says."""
    return DriftReport(checked=60, models=("clean@1", f"{WAN}[bf16]"))


words = st.text(max_size=60) | st.sampled_from([HOSTILE, "vae/配置.json", "`" * 40, "a" * 200])
names = words.filter(bool)
sizes = st.none() | st.integers(0, 2**50)
digests = st.none() | st.text("0123456789abcdef", min_size=64, max_size=64)


@st.composite
def actions(draw: st.DrawFn) -> Action:
    """Any action, whether or not a planner would make it."""
    model, path = draw(st.sampled_from(["a@1", "b@2", WAN, HOSTILE])), draw(names)
    before = st.none() | st.builds(Content, size=sizes, sha256=digests)
    return action(
        draw(st.sampled_from(list(ActionKind))),
        path,
        draw(st.sampled_from(list(Reason))),
        model=model,
        variant=draw(st.sampled_from([None, "bf16"])),
        size=draw(sizes),
        sha256=draw(digests),
        before=draw(before),
        sources=tuple(draw(st.lists(words, max_size=2))),
        via=draw(st.none() | st.sampled_from(list(Via))),
        donor=draw(st.none() | words),
        bytes_to_fetch=draw(st.integers(0, 2**50)),
        optional=draw(st.booleans()),
    )


blocks = st.builds(
    Block,
    code=st.sampled_from([ErrorCode.PROTECTED, ErrorCode.FOREIGN_FILE]),
    message=words,
    address=st.none() | names,
    hint=words,
)
records = st.builds(
    RecordChange, model=names, field=names, before=st.none() | words, after=st.none() | words
)
plans = st.builds(
    Plan,
    lineage=st.none(),
    serial=st.integers(0, 9),
    specs=st.just({}),
    actions=st.lists(actions(), max_size=12).map(tuple),
    records=st.lists(records, max_size=3).map(tuple),
    foreign=st.lists(words, max_size=30).map(tuple),
    warnings=st.lists(words, max_size=30).map(tuple),
    blocked=st.lists(blocks, max_size=3).map(tuple),
    partial=st.booleans(),
    selection=st.lists(words, max_size=3).map(tuple),
)
items = st.builds(
    DriftItem,
    address=st.builds("{}::{}".format, names, names),
    model=names,
    path=names,
    kind=st.sampled_from(list(DriftKind)),
    expected=st.none() | st.builds(Content, size=sizes, sha256=digests),
    found=st.none() | st.builds(Content, size=sizes, sha256=digests),
    paths=st.lists(names, max_size=3).map(tuple),
)
reports = st.builds(
    DriftReport,
    checked=st.integers(0, 99),
    items=st.lists(items, max_size=4).map(tuple),
    suspects=st.lists(names, max_size=3).map(tuple),
    busy=st.lists(names, max_size=2).map(tuple),
    unreadable=st.lists(st.tuples(names, words), max_size=3).map(tuple),
    foreign=st.lists(names, max_size=30).map(tuple),
    models=st.lists(names, max_size=3).map(tuple),
)
