"""The plan as text."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import attrs
import pytest
from hypothesis import given
from support.render_samples import HOSTILE, action, contract_plan, every_kind, plans
from syrupy.assertion import SnapshotAssertion

from wanrec.reconcile.actions import Block, Plan, RecordChange, Summary
from wanrec.reconcile.errors import ErrorCode
from wanrec.reconcile.model import ActionKind, Reason
from wanrec.reconcile.render import PlanFormat, render_plan
from wanrec.reconcile.render_rows import groups_of, laid_out
from wanrec.reconcile.render_words import width

EMPTY = Plan(lineage=None, serial=0, specs={})
ANSI = re.compile(r"\x1b\[[0-9;]*m")
EXAMPLE = """\
wanrec will perform the following actions:

  t2v-A14B@2.2.0[bf16]  (2 create, 1 replace; 1.2 GiB to fetch)
    +  vae/config.json                                724 B     sha256:0d1c…  from s3://ai-models/…
    +  vae/diffusion_pytorch_model.safetensors        484.1 MiB sha256:d6e5…  from s3://ai-models/…
  -/+  model_index.json                               498 B → 600 B           hash differs

Plan: 2 to create, 0 to verify, 1 to replace, 0 to delete. 1.2 GiB to fetch, 0 B to free.
"""
LEGEND = """\
Symbols of the actions below:
    +  create
  -/+  replace

"""


def test_contract_example() -> None:
    """The contract's example comes out letter by letter, under a legend of the used symbols."""
    assert render_plan(contract_plan()) == LEGEND + EXAMPLE


def test_every_kind(snapshot: SnapshotAssertion) -> None:
    """Every kind, origin and section has its place and words."""
    assert render_plan(every_kind()) == snapshot


def test_colour_only_adds(snapshot: SnapshotAssertion) -> None:
    """Colour adds escape codes and changes nothing else."""
    coloured = render_plan(every_kind(), color=True)
    assert coloured == snapshot
    assert ANSI.sub("", coloured) == render_plan(every_kind())


def test_no_changes() -> None:
    """An empty plan is the frozen line and nothing else."""
    assert render_plan(EMPTY) == "No changes. Disk matches the specs.\n"


def test_record_notes_follow() -> None:
    """Edits that change only records are no changes, and are listed after the line."""
    plan = attrs.evolve(
        EMPTY, records=(RecordChange(model="a@1", field="owners", before=None, after="lab"),)
    )
    assert render_plan(plan) == (
        "No changes. Disk matches the specs.\n\nOnly records change:\n  a@1  owners: none → lab\n"
    )


def test_blocked_without_actions() -> None:
    """A refusal is never called no changes."""
    block = Block(code=ErrorCode.FOREIGN_FILE, message="other bytes lie there", address="a@1::x")
    assert render_plan(attrs.evolve(EMPTY, blocked=(block,))) == (
        "This plan cannot be applied:\n"
        "  blocked: FOREIGN_FILE a@1::x: other bytes lie there\n\n"
        "Plan: 0 to create, 0 to verify, 0 to replace, 0 to delete."
        " 0 B to fetch, 0 B to free.\n"
    )


def test_optional_counts() -> None:
    """Adopt, move and forget join the frozen line only when there are any."""
    plan = attrs.evolve(contract_plan(), summary=Summary(adopt=1, move=2, forget=3))
    assert render_plan(plan).endswith(
        "Plan: 0 to create, 0 to verify, 0 to replace, 0 to delete, 1 to adopt, 2 to move,"
        " 3 to forget. 0 B to fetch, 0 B to free.\n"
    )


def test_partial_without_a_word() -> None:
    """A partial run says so, also when nothing is known about how it was narrowed."""
    first = render_plan(attrs.evolve(EMPTY, partial=True)).splitlines()[0]
    assert first.startswith("Partial run: it looks only at what was selected")


def test_foreign_is_capped() -> None:
    """Many foreign files and folders are counted, the first ones named."""
    paths = (*(f"wan22/f{i:02}" for i in range(24)), "wan22/old@1/")
    text = render_plan(attrs.evolve(EMPTY, foreign=paths))
    assert "Foreign, never touched (24 files, 1 folder):" in text
    assert "wan22/f19\n  … and 5 more\n" in text


def test_blocked_model_is_marked() -> None:
    """A block on a model marks its heading and its deletes."""
    block = Block(code=ErrorCode.PROTECTED, message="kept", address="t2v-A14B@2.2.0[bf16]")
    gone = action(ActionKind.DELETE, "gone.bin", Reason.NOT_IN_SPEC)
    plan = contract_plan()
    plan = attrs.evolve(plan, actions=(*plan.actions, gone), blocked=(block,))
    marked = [line for line in render_plan(plan).splitlines() if "blocked: PROTECTED" in line]
    assert len(marked) == 3
    assert marked[0].endswith("1.2 GiB to fetch)  blocked: PROTECTED")
    assert marked[1].endswith("not in spec  blocked: PROTECTED")


def test_moved_with_its_directory() -> None:
    """A file that moves only because its model directory has another name says so."""
    moved = action(ActionKind.MOVE, "x.bin", Reason.MOVED, donor="t2v-A14B@2.2.0[bf16]::x.bin")
    other = action(ActionKind.MOVE, "y.bin", Reason.MOVED, donor="a@1::y.bin")
    text = render_plan(attrs.evolve(EMPTY, actions=(moved, other)))
    assert "from its former directory\n" in text
    assert "from a@1::y.bin\n" in text


def test_hostile_names() -> None:
    """No control or bidirectional character of a name reaches the terminal."""
    plan = attrs.evolve(EMPTY, actions=(action(ActionKind.CREATE, HOSTILE, model=HOSTILE),))
    text = render_plan(plan)
    assert "\\x1b[31m\\u202egpj.\\x0aexe" in text
    assert all(line.isprintable() for line in text.splitlines())


@given(plans)
def test_nothing_is_left_out(plan: Plan) -> None:
    """Every action has its line; each line is printable; the frozen line stands alone."""
    text = render_plan(plan)
    lines = text.split("\n")
    assert all(line.isprintable() for line in lines)
    frozen = [line for line in lines if line.startswith(("Plan: ", "No changes. "))]
    assert len(frozen) == 1
    for group in groups_of(plan):
        for line in laid_out(group):
            assert line in lines
    assert sum(len(group.rows) for group in groups_of(plan)) == len(plan.actions)


@given(plans)
def test_columns_line_up(plan: Plan) -> None:
    """Symbols end in the fifth column, paths start in the eighth, sizes share one column."""
    for group in groups_of(plan):
        starts = set()
        for row, line in zip(group.rows, laid_out(group), strict=True):
            assert line[:5] == f"  {row.kind.glyph:>3}"
            assert line[5:7].strip() == ""
            assert line[7:].startswith(row.path.rstrip() or "")
            if row.size and width(row.path) <= 80:
                column = width(line[: line.index(row.size, 7 + len(row.path))])
                starts.add(column)
        assert len(starts) <= 1


@given(plans)
def test_order_inside_a_model_does_not_matter(plan: Plan) -> None:
    """A model's rows stand by kind and path, whatever order the actions run in."""
    by_model = sorted(plan.actions, key=lambda each: each.key)
    forward = groups_of(attrs.evolve(plan, actions=tuple(by_model)))
    assert [group.key for group in forward] == list(dict.fromkeys(g.key for g in forward))
    places = list(ActionKind)
    for group in forward:
        kinds = [places.index(row.kind) for row in group.rows]
        assert kinds == sorted(kinds)


PRINT_ALL = (
    "import sys; sys.path.insert(0, 'tests');"
    "from support.render_samples import *;"
    "from wanrec.reconcile.render import *;"
    "from wanrec.reconcile.render_graph import *;"
    "forms = [PlanFormat.TEXT, PlanFormat.MARKDOWN, PlanFormat.HTML];"
    "out = [render_plan(every_kind(), f) for f in forms];"
    "out += [render_drift(every_drift(), f) for f in DriftFormat];"
    "out += [render_graph(every_kind(), f) for f in GraphFormat];"
    "sys.stdout.buffer.write(''.join(out).encode())"
)


def test_same_bytes_under_any_hash_seed(checkout: os.PathLike[str]) -> None:
    """Every form is the same bytes whatever PYTHONHASHSEED says."""
    outputs = {
        subprocess.run(
            [sys.executable, "-c", PRINT_ALL],
            env=os.environ | {"PYTHONHASHSEED": seed},
            cwd=checkout,
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("0", "1", "4711")
    }
    assert len(outputs) == 1


LIGHT = (
    "import sys;"
    "from wanrec.reconcile.actions import Plan, DriftReport;"
    "from wanrec.reconcile.render import *;"
    "render_plan(Plan(lineage=None, serial=0, specs={}));"
    "render_drift(DriftReport(checked=1));"
    "render_drift(DriftReport(checked=1), DriftFormat.JSON);"
    "print(sorted({'jinja2', 'rich', 'networkx', 'wanrec.reconcile.render_pages'}"
    " & set(sys.modules)))"
)


def test_common_runs_are_light(checkout: os.PathLike[str]) -> None:
    """No changes and drift load no template engine and nothing else heavy."""
    ran = subprocess.run(
        [sys.executable, "-c", LIGHT], cwd=checkout, capture_output=True, check=True, text=True
    )
    assert ran.stdout == "[]\n"


def test_json_is_the_plan_file_form() -> None:
    """JSON is what the plan file holds, indented, in ASCII, ending with a line end."""
    planfile = pytest.importorskip("wanrec.reconcile.planfile")
    import json

    text = render_plan(contract_plan(), PlanFormat.JSON)
    assert json.loads(text) == json.loads(json.dumps(planfile.plan_to_dict(contract_plan())))
    assert text.isascii()
    assert text.startswith('{\n  "format_version": ')
    assert text.endswith("}\n")
