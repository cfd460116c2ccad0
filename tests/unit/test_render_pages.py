"""The plan as a pull-request comment and as a page."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.render_samples import HOSTILE, action, contract_plan, every_kind, fetched, plans
from syrupy.assertion import SnapshotAssertion

from wanrec.reconcile.actions import Block, Plan, Summary
from wanrec.reconcile.errors import ErrorCode
from wanrec.reconcile.model import ActionKind, Reason
from wanrec.reconcile.render import PlanFormat, render_plan
from wanrec.reconcile.render_pages import COMMENT_LIMIT, MARKER, plan_markdown
from wanrec.reconcile.render_rows import groups_of

VOID = {"meta", "link", "br", "img"}
EMPTY = Plan(lineage=None, serial=0, specs={})


def big(models: int, files: int) -> Plan:
    """A plan that creates `files` files in each of `models` models and deletes one in the last."""
    made = [
        attrs.evolve(
            fetched(f"d/{n:04}.bin", 9, "ab" * 32),
            address=f"m{m:04}@1::d/{n:04}.bin",
            model=f"m{m:04}@1",
            variant=None,
        )
        for m in range(models)
        for n in range(files)
    ]
    gone = action(
        ActionKind.DELETE, "z.bin", Reason.NOT_IN_SPEC, model=f"m{models - 1:04}@1", variant=None
    )
    summary = Summary(create=len(made), delete=1)
    return attrs.evolve(EMPTY, actions=(*made, gone), summary=summary)


def fenced(markdown: str) -> list[str]:
    """The contents of the code blocks, read as CommonMark reads them; fails on an open one."""
    blocks: list[str] = []
    fence = ""
    lines: list[str] = []
    for line in markdown.split("\n"):
        opening = re.match(r"(`{3,})text$", line)
        if not fence and opening:
            fence, lines = opening[1], []
        elif fence and re.fullmatch(f" {{0,3}}`{{{len(fence)},}} *", line):
            blocks.append("\n".join(lines))
            fence = ""
        elif fence:
            lines.append(line)
    assert not fence
    return blocks


def test_markdown(snapshot: SnapshotAssertion) -> None:
    """Marker, frozen line, risks, what is in the way, then one collapsed part per model."""
    assert render_plan(every_kind(), PlanFormat.MARKDOWN) == snapshot


def test_html(snapshot: SnapshotAssertion) -> None:
    """The page has the same parts, in full."""
    assert render_plan(every_kind(), PlanFormat.HTML) == snapshot


def test_markdown_begins_with_the_marker() -> None:
    """A bot finds its earlier comment by the first line, also when nothing changes."""
    lines = plan_markdown(EMPTY).splitlines()
    assert lines[0] == MARKER
    assert "No changes. Disk matches the specs." in lines


@pytest.mark.parametrize(("models", "files"), [(1, 3000), (3000, 1), (60, 60), (2, 400)])
def test_long_markdown_is_cut_and_says_so(models: int, files: int) -> None:
    """A long plan fits a comment, counts what is missing, and keeps the delete."""
    text = plan_markdown(big(models, files))
    assert 0.5 * COMMENT_LIMIT < len(text) <= COMMENT_LIMIT
    said = re.search(r"Shortened to fit a comment: (\d+) actions? left out", text)
    assert said is not None
    shown = sum(len(re.findall(r"^ {2,4}\S+  \S+\.bin", block, re.M)) for block in fenced(text))
    assert shown + int(said[1]) == models * files + 1
    assert "z.bin" in text
    assert "`wanrec show PLANFILE`" in text


def test_small_models_stay_whole() -> None:
    """Only what is big is cut; a small model beside it is shown in full."""
    plan = big(1, 3000)
    small = attrs.evolve(fetched("vae/config.json", 1, "cd" * 32))
    text = plan_markdown(attrs.evolve(plan, actions=(*plan.actions, small)))
    assert "vae/config.json" in text
    assert "models wholly" not in text


@given(plans, st.integers(0, 200))
def test_markdown_always_fits(plan: Plan, copies: int) -> None:
    """Whatever the names, a comment fits, its code blocks close, and nobody is mentioned."""
    text = plan_markdown(attrs.evolve(plan, actions=plan.actions * copies), limit=32_768)
    assert len(text) <= 32_768
    inside = fenced(text)
    outside = text
    for block in inside:
        outside = outside.replace(block, "", 1)
    assert "<b>" not in outside
    assert all(line.isprintable() for line in text.split("\n"))


def test_a_model_whose_name_fills_its_share_is_counted() -> None:
    """A model that cannot show a single line is left out as a whole, and counted."""
    names = [f"{n:04}" + "`" * 5000 for n in range(40)]
    actions = tuple(action(ActionKind.CREATE, name, model=f"m{name[:4]}@1") for name in names)
    text = plan_markdown(attrs.evolve(EMPTY, actions=actions), limit=32_768)
    left = re.search(r"Shortened to fit a comment: (\d+) actions left out, (\d+) models", text)
    assert left is not None
    assert left[1] == left[2]
    assert text.count("<details>") + int(left[2]) == 40
    assert len(text) <= 32_768


def test_code_fences_are_safe_against_backticks() -> None:
    """A fence is longer than any run of backticks inside it."""
    plan = attrs.evolve(EMPTY, actions=(action(ActionKind.CREATE, "````x"),), warnings=("``````",))
    blocks = fenced(plan_markdown(plan))
    assert any("````x" in block for block in blocks)
    assert any("``````" in block for block in blocks)


class Balanced(HTMLParser):
    """Fails on a tag that is not closed in order, collects text and foreign elements."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Open a tag."""
        self.seen.add(tag)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        """Close the tag that was opened last."""
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Collect what a reader sees."""
        self.text += data


@given(plans)
def test_html_is_whole_and_safe(plan: Plan) -> None:
    """The page is well formed, holds every row, and no name becomes an element."""
    page = Balanced()
    page.feed(render_plan(plan, PlanFormat.HTML))
    assert page.open == []
    assert not page.seen & {"b", "script", "img", "a", "link"}
    assert all(row.path in page.text for group in groups_of(plan) for row in group.rows)


def test_html_shows_everything() -> None:
    """The page shortens nothing, names are escaped once, blocks are marked."""
    block = Block(code=ErrorCode.PROTECTED, message="kept", address=f"{HOSTILE}::{HOSTILE}")
    plan = attrs.evolve(
        contract_plan(),
        actions=(action(ActionKind.DELETE, HOSTILE, model=HOSTILE, variant=None),),
        foreign=tuple(f"wan22/f{i}" for i in range(50)),
        blocked=(block,),
    )
    html = render_plan(plan, PlanFormat.HTML)
    assert "wan22/f49" in html
    assert "&lt;b&gt;&amp;&#34;&#39;" in html
    assert '<strong class="blocked">blocked: PROTECTED</strong>' in html


def test_long_sections_are_cut_and_counted() -> None:
    """Many or very long warnings leave room for the models, and are counted."""
    plan = attrs.evolve(contract_plan(), warnings=("w" * 500,) * 19)
    text = plan_markdown(plan)
    assert "w" * 390 in text
    assert "w" * 410 not in text
    assert "  … and 10 more\n" in text
    assert "vae/config.json" in text
