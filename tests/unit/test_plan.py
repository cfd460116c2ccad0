"""The planner's table: what one file, its record and the disk come to."""

from __future__ import annotations

import attrs
import pytest
from unit.paper_disk import sha
from unit.plan_words import (
    ADDRESS,
    CONFIG,
    PLACE,
    WEIGHTS,
    A,
    B,
    C,
    blocks,
    one,
    only,
    rerecorded,
    said,
)
from unit.strategies import World, applied, desired, file_spec, model

from wanrec.reconcile.actions import Content, Plan, PlanOptions
from wanrec.reconcile.errors import ErrorCode, WanrecError
from wanrec.reconcile.model import (
    Assurance,
    Desired,
    EntryKind,
    FileFact,
    MoveRule,
    Observed,
    Via,
)
from wanrec.reconcile.plan import make_plan
from wanrec.reconcile.plan_files import public_source


# --- one wanted file ---------------------------------------------------------------------------
def test_an_absent_file_is_created_from_all_sources() -> None:
    """Nothing recorded, nothing there: create, with the bytes counted and the sources bare."""
    action = only(World().plan(one(sources=("hf://u:p@x/y?token=1", "local://mirror"))))
    assert f"{action.action}/{action.reason}" == "create/missing"
    assert action.sources == ("hf://x/y", "local://mirror")
    assert (action.before, action.after) == (None, Content(size=len(A), sha256=sha(A)))
    assert (action.via, action.bytes_to_fetch) == (Via.FETCH, len(A))


@pytest.mark.parametrize(
    ("url", "bare"),
    [
        ("https://u:p@h:8/a/b?x=1#f", "https://h:8/a/b"),
        ("local://mirror/t2v", "local://mirror/t2v"),
        ("file:///srv/x", "file:///srv/x"),
        ("hf://Wan-AI/Wan2.2@5be7", "hf://Wan-AI/Wan2.2@5be7"),
        ("s3://b", "s3://b"),
        ("odd?x", "odd"),
    ],
)
def test_sources_are_shown_without_secrets(url: str, bare: str) -> None:
    """User info, query and fragment go; a revision after the host stays."""
    assert public_source(url) == bare


@pytest.mark.parametrize(
    ("change", "deep", "expected"),
    [
        ("nothing", False, []),
        ("nothing", True, []),
        ("touch", False, ["verify/stat_changed"]),
        ("touch", True, ["verify/stat_changed"]),
        ("spoil", False, ["verify/stat_changed"]),
        ("spoil", True, ["replace/corrupt"]),
        ("remove", False, ["create/missing"]),
        ("truncate", False, ["replace/size_differs"]),
    ],
)
def test_a_recorded_file_after_life(change: str, deep: bool, expected: list[str]) -> None:
    """Only known wrong bytes are replaced; a touched clock leads to a hash."""
    world = applied(one())
    match change:
        case "touch":
            world.disk.touch(PLACE)
        case "spoil":
            world.disk.spoil(PLACE)
        case "remove":
            del world.disk.files[PLACE]
        case "truncate":
            world.disk.put(PLACE, b"x")
    plan = world.plan(one(), deep=deep)
    assert [row.partition(" ")[2] for row in said(plan)] == expected
    assert bool(plan.drift) == (expected not in ([], ["verify/stat_changed"]))


def test_a_verify_moves_no_bytes() -> None:
    """Verify keeps its sources for the case that the hash differs, and fetches nothing."""
    world = applied(one())
    world.disk.touch(PLACE)
    action = only(world.plan(one()))
    assert (action.via, action.bytes_to_fetch, action.sources) == (None, 0, ("s3://bucket/models",))
    assert action.before == action.after == Content(size=len(A), sha256=sha(A))


def test_wrong_bytes_that_were_never_verified_are_not_called_corrupt() -> None:
    """`corrupt` means that wanrec had seen the right bytes there."""
    world = rerecorded(applied(one()), assurance=Assurance.FOUND)
    world.disk.spoil(PLACE)
    assert said(world.plan(one(), deep=True)) == [f"{ADDRESS} replace/hash_differs"]


def test_an_assumed_record_is_verified() -> None:
    """What was taken on trust is hashed by the next apply."""
    world = rerecorded(applied(one()), assurance=Assurance.ASSUMED)
    assert said(world.plan(one())) == [f"{ADDRESS} verify/never_verified"]


def test_old_verifications_expire_on_request() -> None:
    """verified_before makes older records due, newer ones not."""
    world = applied(one())
    assert said(world.plan(one(), verified_before="2099-01-01T00:00:00Z")) == [
        f"{ADDRESS} verify/verify_expired"
    ]
    assert not world.plan(one(), verified_before="2001-01-01T00:00:00Z")


@pytest.mark.parametrize("state_only", [False, True])
def test_replace_on_request(state_only: bool) -> None:
    """--replace brings a good file anew."""
    world = applied(one())
    plan = world.plan(one(), replace=frozenset([ADDRESS]), state_only=state_only)
    assert said(plan) == [f"{ADDRESS} replace/requested"]
    assert only(plan).bytes_to_fetch == len(A)


@pytest.mark.parametrize(
    "options", [{"replace": frozenset(["a@1.0::x"])}, {"ensure": frozenset(["z"])}]
)
def test_an_unknown_request_is_an_error(options: dict[str, object]) -> None:
    """A typing error in --replace or ensure does not pass for success."""
    with pytest.raises(WanrecError) as caught:
        World().plan(one(), **options)
    assert caught.value.code is ErrorCode.MODEL_NOT_FOUND


def test_several_unknown_requests_are_all_named() -> None:
    """The detail lists every unknown address."""
    with pytest.raises(WanrecError) as caught:
        World().plan(one(), replace=frozenset(["y", "x"]))
    assert caught.value.detail == "x, y"


@pytest.mark.parametrize("state_only", [False, True])
def test_a_changed_spec_replaces(state_only: bool) -> None:
    """Other bytes in the spec than in the record: replace, old and new size shown."""
    plan = applied(one(A)).plan(one(C), state_only=state_only)
    assert said(plan) == [f"{ADDRESS} replace/spec_changed"]
    before, after = only(plan).before, only(plan).after
    assert before == Content(size=len(A), sha256=sha(A))
    assert after == Content(size=len(C), sha256=sha(C))


def test_a_changed_spec_whose_bytes_lie_there_already_adopts() -> None:
    """A user who has put the new file there is not made to fetch it (seen with --deep)."""
    world = applied(one(A))
    world.disk.put(PLACE, B)
    plan = world.plan(one(B), deep=True)
    assert said(plan) == [f"{ADDRESS} adopt/found_by_hash"]
    assert only(plan).via is None


def test_a_spec_without_size_and_hash_accepts_the_record() -> None:
    """What a spec does not say, it does not ask for; unknown sizes are warned of."""
    loose = desired(model("a", [attrs.evolve(file_spec(CONFIG, A), size=None, sha256=None)]))
    plan = World().plan(loose)
    assert only(plan).bytes_to_fetch == 0
    assert "state no size" in plan.warnings[0]
    assert not applied(one()).plan(loose)


def test_optional_files_say_so() -> None:
    """The executor has to know that a failure only warns."""
    wanted = desired(model("a", [file_spec(CONFIG, A, optional=True)]))
    assert only(World().plan(wanted)).optional


# --- files that the state does not know --------------------------------------------------------
def found(fact: FileFact, **options: object) -> Plan:
    """Plan one unrecorded file with this fact at its path."""
    return make_plan(one(), World().state, Observed(facts={ADDRESS: fact}), PlanOptions(**options))


def test_right_bytes_are_adopted_in_place() -> None:
    """Nothing is moved or fetched; the record comes with apply."""
    world = World()
    world.disk.put(PLACE, A)
    action = only(world.plan(one()))
    assert (f"{action.action}/{action.reason}", action.via) == ("adopt/found_by_hash", None)
    assert (action.bytes_to_fetch, action.before) == (0, action.after)


FOREIGN = {
    "size": FileFact(kind=EntryKind.FILE, size=3),
    "hash": FileFact(kind=EntryKind.FILE, size=len(A), sha256="0" * 64),
    "unhashed": FileFact(kind=EntryKind.FILE, size=len(A)),
    "unreadable": FileFact(kind=EntryKind.UNREADABLE, error="EACCES"),
}


@pytest.mark.parametrize(
    ("name", "reason", "message"),
    [
        ("size", "size_differs", "3 bytes instead of 20"),
        ("hash", "hash_differs", "other content"),
        ("unhashed", "hash_differs", "content not known"),
        ("unreadable", "size_differs", "cannot be read (EACCES)"),
    ],
)
def test_a_foreign_file_is_refused_unless_allowed(name: str, reason: str, message: str) -> None:
    """Other bytes at a wanted path: FOREIGN_FILE, or replace with --allow-foreign."""
    plan = found(FOREIGN[name])
    assert (blocks(plan), plan.actions) == ([ErrorCode.FOREIGN_FILE], ())
    assert message in plan.blocked[0].message
    allowed = found(FOREIGN[name], allow_foreign=True)
    assert (said(allowed), blocks(allowed)) == ([f"{ADDRESS} replace/{reason}"], [])


@pytest.mark.parametrize("kind", [EntryKind.DIRECTORY, EntryKind.SYMLINK, EntryKind.OTHER])
def test_what_is_no_file_is_never_replaced(kind: EntryKind) -> None:
    """A link or directory at a wanted path: UNSAFE_PATH, recorded or not, allowed or not."""
    assert blocks(found(FileFact(kind=kind), allow_foreign=True)) == [ErrorCode.UNSAFE_PATH]
    world = applied(one())
    world.disk.odd[PLACE] = kind
    plan = world.plan(one())
    assert blocks(plan) == [ErrorCode.UNSAFE_PATH]
    assert plan.drift[0].kind == "type"


def test_a_recorded_file_that_cannot_be_read_is_verified() -> None:
    """Apply then says why it cannot be read, with the right code."""
    world = applied(one())
    world.disk.odd[PLACE] = EntryKind.UNREADABLE
    assert said(world.plan(one())) == [f"{ADDRESS} verify/stat_changed"]
    assert only(world.plan(one(B))).before == Content()


def test_foreign_files_are_listed_and_left() -> None:
    """What neither state nor spec names is only listed, sorted."""
    world = applied(one())
    world.disk.put("wan22/a@1.0/zz", b"1")
    world.disk.put("wan22/a@1.0/notes.txt", b"2")
    plan = world.plan(one())
    assert (plan.foreign, plan.actions) == (("wan22/a@1.0/notes.txt", "wan22/a@1.0/zz"), ())


# --- renames -----------------------------------------------------------------------------------
def renamed(content: bytes = A, to: str = "new.json") -> Desired:
    """Return one file that a moved rule renames."""
    rule = MoveRule(from_path=CONFIG, to_path=to)
    return desired(model("a", [file_spec(to, content)], moved=(rule,)))


def test_a_moved_rule_renames_without_a_download() -> None:
    """One move, no delete of the old path, nothing to fetch."""
    plan = applied(one()).plan(renamed())
    assert said(plan) == ["a@1.0::new.json move/moved"]
    assert (only(plan).donor, plan.summary.bytes_to_fetch) == (ADDRESS, 0)
    assert applied(one()).plan(renamed(), state_only=True).summary.move == 1


def test_a_moved_rule_whose_file_is_gone_or_other_creates() -> None:
    """The rule helps only where the right bytes lie at the old path."""
    world = applied(one())
    assert said(world.plan(renamed(B))) == [
        "a@1.0::new.json create/missing",
        f"{ADDRESS} delete/not_in_spec",
    ]
    del world.disk.files[PLACE]
    assert said(world.plan(renamed()))[0] == "a@1.0::new.json create/missing"
    kept = attrs.evolve(renamed().models[0], files=(file_spec(CONFIG, A),))
    assert not applied(one()).plan(desired(kept))


def test_a_moved_rule_whose_target_is_there_deletes_the_old_name() -> None:
    """The new name is adopted in place; one plan is enough to let the old one go."""
    world = applied(one())
    world.disk.put("wan22/a@1.0/new.json", A)
    assert said(world.apply(renamed())) == [
        "a@1.0::new.json adopt/found_by_hash",
        f"{ADDRESS} delete/not_in_spec",
    ]
    assert not world.plan(renamed())


def test_another_family_moves_the_files() -> None:
    """The model directory has a new name: files are moved there, not fetched."""
    world = applied(one())
    plan = world.plan(one(family="video"))
    assert said(plan) == [f"{ADDRESS} move/moved"]
    assert only(plan).donor == ADDRESS
    assert said(world.plan(one(family="video"), state_only=True)) == [f"{ADDRESS} move/moved"]
    assert said(world.plan(one(B, family="video"))) == [f"{ADDRESS} create/missing"]


@pytest.mark.parametrize("damage", ["remove", "spoil", "truncate", "link"])
def test_another_family_creates_what_is_not_whole_at_the_old_place(damage: str) -> None:
    """Only bytes that may be right are moved; the rest is fetched to the new place."""
    world = applied(one())
    match damage:
        case "remove":
            del world.disk.files[PLACE]
        case "spoil":
            world.disk.spoil(PLACE)
        case "truncate":
            world.disk.put(PLACE, b"x")
        case _:
            world.disk.odd[PLACE] = EntryKind.SYMLINK
    plan = world.plan(one(family="video"), deep=True)
    assert said(plan) == [f"{ADDRESS} create/missing"]


def test_files_judged_by_the_observer_are_not_judged_again() -> None:
    """A trusted address needs no fact."""
    world = applied(one())
    seen = Observed(trusted=frozenset([ADDRESS]))
    assert not make_plan(one(), world.state, seen, PlanOptions())
    assert make_plan(one(B), world.state, seen, PlanOptions())


# --- order -------------------------------------------------------------------------------------
def test_requirements_and_configs_come_first() -> None:
    """The required model first; in a model its config before its weights."""
    base = model("z", [file_spec(WEIGHTS, B), file_spec(CONFIG, C)])
    top = model("a", [file_spec(WEIGHTS, A)], requires=(base.key,))
    plan = World().plan(desired(base, top))
    assert [a.address for a in plan.actions] == [
        "z@1.0::config.json",
        "z@1.0::model.safetensors",
        "a@1.0::model.safetensors",
    ]
    assert plan.actions[2].depends_on == ("z@1.0::model.safetensors",)
