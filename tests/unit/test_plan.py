"""The planner's table: one situation a row, and what is planned for it."""

from __future__ import annotations

import attrs
import pytest
from unit.paper_disk import sha
from unit.strategies import CONTENTS, World, applied, desired, file_spec, model, selected

from wanrec.reconcile.actions import Action, Content, Plan, PlanOptions
from wanrec.reconcile.errors import ErrorCode, WanrecError
from wanrec.reconcile.model import (
    Assurance,
    Desired,
    EntryKind,
    FileFact,
    MoveRule,
    Observed,
    Presence,
    Selection,
    Via,
)
from wanrec.reconcile.plan import make_plan
from wanrec.reconcile.plan_files import public_source
from wanrec.reconcile.plan_scope import record_after
from wanrec.state.model import FileRecord, ModelRecord, Owner

A, B, C, D = CONTENTS
CONFIG, WEIGHTS = "config.json", "model.safetensors"
PLACE = "wan22/a@1.0/config.json"
ADDRESS = "a@1.0::config.json"


def one(content: bytes = A, **fields: object) -> Desired:
    """Return a desired set of one model with one file."""
    return desired(model("a", [file_spec(CONFIG, content)], **fields))


def said(plan: Plan) -> list[str]:
    """Return `ADDRESS kind/reason` of each action."""
    return [f"{a.address} {a.action}/{a.reason}" for a in plan.actions]


def blocks(plan: Plan) -> list[ErrorCode]:
    """Return the codes of the blocks in order."""
    return [block.code for block in plan.blocked]


def only(plan: Plan) -> Action:
    """Return the single action of a plan."""
    (action,) = plan.actions
    return action


def rerecorded(world: World, **fields: object) -> World:
    """Change the record of the one file."""
    files = {a: attrs.evolve(r, **fields) for a, r in world.state.files.items()}
    world.state = attrs.evolve(world.state, files=files)
    return world


def reowned(world: World, *owners: Owner, **fields: object) -> World:
    """Change who owns every model."""
    models = {
        k: attrs.evolve(m, owners=owners or m.owners, **fields)
        for k, m in world.state.models.items()
    }
    world.state = attrs.evolve(world.state, models=models)
    return world


# --- one wanted file -----------------------------------------------------------------------


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


# --- files that the state does not know ----------------------------------------------------


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


# --- renames -------------------------------------------------------------------------------


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


def test_another_family_moves_the_files() -> None:
    """The model directory has a new name: files are moved there, not fetched."""
    world = applied(one())
    plan = world.plan(one(family="video"))
    assert said(plan) == [f"{ADDRESS} move/moved"]
    assert only(plan).donor == ADDRESS
    assert said(world.plan(one(B, family="video"))) == [f"{ADDRESS} create/missing"]


def test_another_family_with_a_file_in_the_way_is_refused() -> None:
    """What lies at the new place is judged like any unrecorded file."""
    world = applied(one())
    seen = Observed(facts={ADDRESS: FileFact(kind=EntryKind.FILE, size=3, ino=99)})
    plan = make_plan(one(family="video"), world.state, seen, PlanOptions())
    assert blocks(plan) == [ErrorCode.FOREIGN_FILE]


# --- sharing -------------------------------------------------------------------------------


def test_equal_bytes_of_one_plan_are_fetched_once() -> None:
    """The first in execution order is created, the others adopt it and wait for it."""
    pair = desired(model("b", [file_spec("x.bin", A)]), model("a", [file_spec("y.bin", A)]))
    plan = World().plan(pair)
    assert said(plan) == ["a@1.0::y.bin create/missing", "b@1.0::x.bin adopt/found_by_hash"]
    link = plan.actions[1]
    assert (link.via, link.donor, link.bytes_to_fetch) == (Via.LINK, "a@1.0::y.bin", 0)
    assert link.depends_on == ("a@1.0::y.bin",)
    assert (plan.summary.bytes_to_fetch, plan.summary.bytes_saved) == (len(A), len(A))


def test_bytes_under_the_root_are_linked() -> None:
    """A recorded, trusted file of another model is a donor; a doubtful one is verified first."""
    both = desired(one().models[0], model("b", [file_spec("x.bin", A)]))
    world = applied(one())
    action = only(world.plan(both))
    assert (action.action, action.donor, action.depends_on) == ("adopt", ADDRESS, ())
    world.disk.touch(PLACE)
    plan = world.plan(both)
    assert said(plan) == [f"{ADDRESS} verify/stat_changed", "b@1.0::x.bin adopt/found_by_hash"]
    assert plan.actions[1].depends_on == (ADDRESS,)


@pytest.mark.parametrize("first", [False, True])
def test_a_dropped_file_still_gives_its_bytes(first: bool) -> None:
    """Deletes are last, so what goes may be linked before; not so with --delete-first."""
    wanted = desired(model("b", [file_spec("x.bin", A)]))
    plan = applied(one()).plan(wanted, delete_first=first)
    kinds = [a.action for a in plan.actions]
    assert kinds == (["delete", "create"] if first else ["adopt", "delete"])
    assert plan.summary.bytes_to_free == (len(A) if first else 0)


def test_a_bad_donor_is_none() -> None:
    """Assumed, doubtful (of another project) and --deep-condemned files give nothing."""
    other = applied(one(), project="other")
    wanted = desired(model("b", [file_spec("x.bin", A)]))
    assert only(other.plan(wanted)).donor == ADDRESS
    assumed = rerecorded(applied(one(), project="other"), assurance=Assurance.ASSUMED)
    assert only(assumed.plan(wanted)).donor is None
    record = other.state.files[ADDRESS]
    lying = FileFact(
        kind=EntryKind.FILE,
        size=record.size,
        mtime_ns=record.mtime_ns,
        ctime_ns=record.ctime_ns,
        ino=record.ino,
        sha256="0" * 64,
    )
    seen = Observed(facts={ADDRESS: lying})
    assert only(make_plan(wanted, other.state, seen, PlanOptions())).donor is None
    other.disk.touch(PLACE)
    assert only(other.plan(wanted)).donor is None


def test_a_damaged_shared_file_is_fetched_once() -> None:
    """Two names of one damaged inode: one replace fetches, the other links to it."""
    pair = desired(model("a", [file_spec("x.bin", A)]), model("b", [file_spec("x.bin", A)]))
    world = applied(pair)
    world.disk.spoil("wan22/a@1.0/x.bin")
    plan = world.plan(pair, deep=True)
    assert said(plan) == ["a@1.0::x.bin replace/corrupt", "b@1.0::x.bin replace/corrupt"]
    assert [a.donor for a in plan.actions] == [None, "a@1.0::x.bin"]
    assert plan.summary.bytes_to_fetch == len(A)


@pytest.mark.parametrize(
    ("staged", "partial", "left"),
    [({}, {}, 20), ({sha(A): 20}, {}, 0), ({sha(A): 7}, {}, 20), ({}, {sha(A): 5}, 15)],
)
def test_the_stage_counts(staged: dict[str, int], partial: dict[str, int], left: int) -> None:
    """Bytes that an earlier run has fetched are not fetched again."""
    seen = Observed(staged=staged, partial=partial)
    assert make_plan(one(), World().state, seen, PlanOptions()).summary.bytes_to_fetch == left


def test_freed_bytes_are_counted_per_inode() -> None:
    """Two names of one inode free its bytes once, and only when both go."""
    pair = desired(model("a", [file_spec("x.bin", A)]), model("b", [file_spec("x.bin", A)]))
    world = applied(pair)
    gone = world.plan(pair, destroy=True, allow_delete=True)
    assert (gone.summary.delete, gone.summary.bytes_to_free) == (2, len(A))
    half = world.plan(desired(pair.models[0]))
    assert (half.summary.delete, half.summary.bytes_to_free) == (1, 0)
    assert world.plan(desired(pair.models[0]), state_only=True).summary.bytes_to_free == len(A)


# --- order ---------------------------------------------------------------------------------


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


# --- models that come and go ---------------------------------------------------------------


def test_a_dropped_model_and_a_dropped_file_are_deleted() -> None:
    """What this project's specs no longer name goes."""
    wide = desired(
        model("a", [file_spec(CONFIG, A), file_spec(WEIGHTS, B)]), model("b", [file_spec("f", C)])
    )
    plan = applied(wide).plan(one())
    assert said(plan) == [
        "a@1.0::model.safetensors delete/not_in_spec",
        "b@1.0::f delete/not_in_spec",
    ]
    assert plan.actions[0].before == Content(size=len(B), sha256=sha(B))
    assert plan.summary.bytes_to_free == len(B) + len(C)


def test_a_dropped_file_that_is_gone_or_a_link_frees_nothing() -> None:
    """Its record goes; a link that somebody has put there is left in place, with a warning."""
    wide = desired(one().models[0], model("b", [file_spec("f", B), file_spec("g", C)]))
    world = applied(wide)
    del world.disk.files["wan22/b@1.0/f"]
    world.disk.odd["wan22/b@1.0/g"] = EntryKind.SYMLINK
    plan = world.plan(one())
    assert said(plan) == ["b@1.0::f delete/not_in_spec", "b@1.0::g forget/not_in_spec"]
    assert plan.summary.bytes_to_free == 0
    assert plan.actions[0].before is None
    assert "b@1.0::g is no regular file" in plan.warnings[0]


@pytest.mark.parametrize("word", ["b@1.0[x]", "b@1.0@x", "b@1.0"])
@pytest.mark.parametrize(("delete", "kind"), [(False, "forget"), (True, "delete")])
def test_removed_blocks_say_how_to_let_go(word: str, delete: bool, kind: str) -> None:
    """[[removed]] forgets or deletes, whatever form the id has."""
    from wanrec.reconcile.model import RemovedRule

    world = applied(desired(one().models[0], model("b", [file_spec("f", B)], variant="x")))
    rule = RemovedRule(model=word, delete=delete, spec="specs/one.toml")
    plan = world.plan(desired(*one().models, removed=(rule,)))
    assert said(plan) == [f"b@1.0[x]::f {kind}/removed_block"]


def test_a_file_of_a_dropped_spec_only_goes_when_that_spec_is_named() -> None:
    """Naming a spec file selects what came from it, and leaves models of other files alone."""
    wide = desired(
        one().models[0],
        model("b", [file_spec("f", B)], spec="specs/two.toml"),
        model("c", [file_spec("f", C)]),
    )
    world = applied(wide)
    for specs, gone in (
        ({"specs/two.toml"}, ["b@1.0::f"]),
        ({"specs/one.toml"}, ["c@1.0::f"]),
        (None, ["b@1.0::f", "c@1.0::f"]),
    ):
        chosen = None if specs is None else frozenset(specs)
        keys = None if specs is None else frozenset(["a@1.0"])
        selection = Selection(keys=keys, specs=chosen)
        plan = world.plan(desired(*one().models, selection=selection))
        assert [a.address for a in plan.actions] == gone


def test_a_narrowed_run_says_so_and_lets_nothing_go() -> None:
    """-k, -m and node ids never delete, and neither does a selection of unknown origin."""
    wide = desired(
        model("a", [file_spec(CONFIG, A), file_spec(WEIGHTS, B)]), model("b", [file_spec("f", C)])
    )
    world = applied(wide)
    plan = world.plan(selected(one(), "a@1.0"))
    assert (plan.actions, plan.partial) == ((), True)
    assert "partial" in plan.warnings[0]
    bare = attrs.evolve(one(), selection=Selection(keys=frozenset(["a@1.0"])))
    assert not world.plan(bare)


def test_selected_addresses_narrow_a_model() -> None:
    """One address plans one file; a model that is pulled in is planned whole."""
    base = model("z", [file_spec("f", C)])
    wide = model("a", [file_spec(CONFIG, A), file_spec(WEIGHTS, B)], requires=("z@1.0",))
    selection = Selection(
        keys=frozenset(["a@1.0", "z@1.0"]),
        addresses=frozenset([ADDRESS]),
        partial=True,
        pulled_in=frozenset(["z@1.0"]),
    )
    plan = World().plan(desired(base, wide, selection=selection))
    assert [a.address for a in plan.actions] == ["z@1.0::f", ADDRESS]
    assert "z@1.0 comes along" in plan.warnings[1]


def test_destroy_needs_its_own_permission() -> None:
    """--destroy plans every delete, and is blocked without --allow-delete."""
    world = applied(one())
    plan = world.plan(one(), destroy=True)
    assert said(plan) == [f"{ADDRESS} delete/requested"]
    assert blocks(plan) == [ErrorCode.DELETE_BUDGET]
    assert blocks(world.plan(one(), destroy=True, allow_delete=True)) == []
    assert not World().plan(desired(), destroy=True)


# --- presence and variants -----------------------------------------------------------------


def test_on_demand_models_come_by_ensure_only() -> None:
    """Absent: nothing, even when named; ensured: created, then kept and repaired."""
    wanted = one(presence=Presence.ON_DEMAND)
    assert not World().plan(wanted)
    assert not World().plan(selected(wanted, "a@1.0"))
    world = applied(wanted, ensure=frozenset(["a@1.0"]))
    assert world.state.models["a@1.0"].presence is Presence.ON_DEMAND
    assert not world.plan(wanted)
    del world.disk.files[PLACE]
    assert said(world.plan(wanted)) == [f"{ADDRESS} create/missing"]


def test_ensure_brings_what_is_required() -> None:
    """An on-demand requirement of an ensured model is wanted, too."""
    base = model("z", [file_spec("f", B)], presence=Presence.ON_DEMAND)
    top = model("a", [file_spec(CONFIG, A)], presence=Presence.ON_DEMAND, requires=("z@1.0", "?@1"))
    plan = World().plan(desired(base, top), ensure=frozenset(["a@1.0"]))
    assert [a.address for a in plan.actions] == ["z@1.0::f", ADDRESS]


def test_another_default_variant_creates_and_deletes() -> None:
    """The new default is created; the old one goes, uncounted by the budget, after it."""
    old, new = [model("a", [file_spec("f", c)], variant=v) for v, c in (("x", A), ("y", B))]
    before = desired(old, attrs.evolve(new, installed=False))
    after = desired(attrs.evolve(old, installed=False), new)
    plan = applied(before).plan(
        attrs.evolve(after, policy=attrs.evolve(after.policy, max_delete=0))
    )
    assert said(plan) == ["a@1.0[y]::f create/missing", "a@1.0[x]::f delete/not_in_spec"]
    assert (blocks(plan), plan.actions[1].depends_on) == ([], ("a@1.0[y]::f",))


def test_an_ensured_variant_is_kept() -> None:
    """A variant outside install stays once it was ensured, as long as the spec lists it."""
    wanted = desired(
        model("a", [file_spec("f", A)], variant="x"),
        model("a", [file_spec("f", B)], variant="y", installed=False),
    )
    world = applied(wanted, ensure=frozenset(["a@1.0[y]"]))
    assert len(world.state.files) == 2
    assert not world.plan(wanted)
    assert said(world.plan(desired(wanted.models[0]))) == ["a@1.0[y]::f delete/not_in_spec"]


# --- projects ------------------------------------------------------------------------------

OTHER = Owner(project="other", spec="specs/theirs.toml")
MINE = Owner(project="default", spec="specs/one.toml")


def test_other_projects_are_never_planned() -> None:
    """Models that only another project owns do not appear."""
    world = applied(desired(model("b", [file_spec("f", B)])), project="other")
    del world.disk.files["wan22/b@1.0/f"]
    assert [a.key for a in world.plan(one()).actions] == ["a@1.0"]


def test_ownership_is_joined_and_left() -> None:
    """The same model wanted by two: records change, files only go with the last owner."""
    world = applied(one(), project="other")
    plan = world.apply(one())
    assert [(c.field, c.before, c.after) for c in plan.records] == [
        ("owners", None, "specs/one.toml")
    ]
    assert (plan.actions, len(world.state.models["a@1.0"].owners)) == ((), 2)
    empty = desired(model("b", [file_spec("f", B)]))
    left = world.apply(empty)
    assert [(c.model, c.before, c.after) for c in left.records] == [
        ("a@1.0", "specs/one.toml", None)
    ]
    assert left.summary.delete == 0
    gone = world.plan(empty, project="other", allow_delete=True)
    assert said(gone)[-1] == f"{ADDRESS} delete/not_in_spec"


def test_other_bytes_under_the_same_id_collide() -> None:
    """Two projects want one id with different bytes: NAME_COLLISION, and nothing is planned."""
    plan = applied(one(A), project="other").plan(one(B))
    assert (blocks(plan), plan.actions) == ([ErrorCode.NAME_COLLISION], ())
    assert plan.blocked[0].address == ADDRESS


def test_a_shared_model_keeps_the_files_of_both() -> None:
    """A file that only the other owner's spec has is not deleted, and nobody flips the record."""
    wide = model("a", [file_spec(CONFIG, A), file_spec(WEIGHTS, B)], protect=True, requires=("z",))
    world = applied(desired(wide), project="other")
    world.apply(one())
    record = world.state.models["a@1.0"]
    assert (record.protect, record.requires) == (True, ("z",))
    assert not world.plan(one()).records
    assert not world.plan(desired(wide), project="other").records


def test_default_from_another_directory_may_not_delete() -> None:
    """PROJECT_UNNAMED until the project has a name; without deletes nothing is said."""
    from wanrec.state.model import ProjectRecord

    world = applied(desired(*one().models, model("b", [file_spec("f", B)])))
    known = {"default": ProjectRecord(directory="/one"), "video": ProjectRecord(directory="/one")}
    world.state = attrs.evolve(world.state, projects=known)
    plan = world.plan(one(), project_directory="/two")
    assert blocks(plan) == [ErrorCode.PROJECT_UNNAMED]
    assert "/one" not in plan.blocked[0].message
    assert blocks(world.plan(one(), project_directory="/one")) == []
    reowned(world, attrs.evolve(MINE, project="video"))
    assert blocks(world.plan(one(), project_directory="/two", project="video")) == []


# --- protection and budgets ----------------------------------------------------------------


@pytest.mark.parametrize(
    "wanted",
    [
        desired(model("b", [file_spec("f", B)])),
        desired(model("a", [file_spec(WEIGHTS, B)])),
        desired(
            model("b", [file_spec("f", B)]), model("a", [file_spec(WEIGHTS, B)], protect=False)
        ),
    ],
)
def test_a_protected_model_is_not_deleted(wanted: Desired) -> None:
    """The record protects, whatever the spec says now; the plan is shown whole."""
    wide = model("a", [file_spec(CONFIG, A), file_spec(WEIGHTS, B)], protect=True)
    world = applied(desired(wide, model("b", [file_spec("f", B)])))
    plan = world.plan(wanted)
    assert blocks(plan) == [ErrorCode.PROTECTED]
    assert plan.summary.delete > 0


def test_the_ways_out_of_protection() -> None:
    """Protect = false first, or forget; and a protected model may be updated."""
    from wanrec.reconcile.model import RemovedRule

    world = applied(desired(*one(protect=True).models, model("b", [file_spec("f", B)])))
    rest = desired(model("b", [file_spec("f", B)]))
    rule = RemovedRule(model="a@1.0", delete=False, spec="s")
    assert blocks(world.plan(attrs.evolve(rest, removed=(rule,)))) == []
    assert blocks(world.plan(desired(*one(C, protect=True).models, *rest.models))) == []
    lifted = world.apply(desired(*one().models, *rest.models))
    assert [(c.field, c.before, c.after) for c in lifted.records] == [("protect", "true", "false")]
    assert blocks(world.plan(rest)) == []


@pytest.mark.parametrize(
    ("limit", "dropped", "blocked"),
    [
        (0.5, 2, False),
        (0.5, 3, True),
        (0.0, 1, True),
        (1.0, 4, False),
        (1, 1, False),
        (1, 2, True),
        (0, 1, True),
    ],
)
def test_the_delete_budget(limit: float, dropped: int, blocked: bool) -> None:
    """A float is a share, an integer a count, of this project's models; more needs permission."""
    kept = [model(f"m{i}", [file_spec("f", A)]) for i in range(4)]
    world = applied(desired(*kept, model("x", [file_spec("f", A)])))
    world.state = attrs.evolve(
        world.state,
        models={
            k: attrs.evolve(m, owners=(OTHER,)) if k == "x@1.0" else m
            for k, m in world.state.models.items()
        },
    )
    policy = attrs.evolve(kept[0].policy, max_delete=limit)
    left = desired(*kept[dropped:], model("new", [file_spec("f", B)]), policy=policy)
    plan = world.plan(left)
    assert blocks(plan) == ([ErrorCode.DELETE_BUDGET] if blocked else [])
    assert plan.summary.delete == dropped
    assert blocks(world.plan(left, allow_delete=True)) == []


def test_a_new_version_does_not_count() -> None:
    """Deletes whose NAME is created in the same plan are an update."""
    policy = attrs.evolve(one().models[0].policy, max_delete=0)
    wanted = desired(model("a", [file_spec(CONFIG, B)], version="2.0"), policy=policy)
    plan = applied(one()).plan(wanted)
    assert (plan.summary.create, plan.summary.delete, blocks(plan)) == (1, 1, [])


def test_an_empty_spec_set_is_refused() -> None:
    """Nothing loaded: an error without records, a block with them, allowed on request."""
    with pytest.raises(WanrecError) as caught:
        World().plan(desired())
    assert caught.value.code is ErrorCode.NOTHING_SELECTED
    world = applied(one())
    assert blocks(world.plan(desired())) == [ErrorCode.NOTHING_SELECTED]
    assert blocks(world.plan(desired(), allow_delete=True)) == []
    assert blocks(world.plan(desired(), refresh_only=True)) == []
    elsewhere = Selection(specs=frozenset(["specs/two.toml"]))
    assert blocks(world.plan(desired(selection=elsewhere))) == []


def test_blocks_have_one_order() -> None:
    """The most telling refusal comes first, whatever was found first."""
    world = applied(
        desired(
            model("p", [file_spec("f", A)], protect=True),
            model("q", [file_spec("f", A)]),
        )
    )
    world.disk.put(PLACE, b"foreign")
    policy = attrs.evolve(one().models[0].policy, max_delete=0)
    plan = world.plan(attrs.evolve(one(), policy=policy))
    assert blocks(plan) == [
        ErrorCode.PROTECTED,
        ErrorCode.FOREIGN_FILE,
        ErrorCode.DELETE_BUDGET,
    ]


# --- records, refresh, state-only ----------------------------------------------------------


def test_edits_of_records_are_no_actions() -> None:
    """Protect, presence, spec file and requirements change only what the state says."""
    world = applied(one())
    edited = one(
        protect=True, presence=Presence.ON_DEMAND, spec="specs/two.toml", spec_sha256="new"
    )
    edited = desired(attrs.evolve(edited.models[0], requires=("b@1.0", "c@1.0")))
    plan = world.apply(edited)
    assert not plan
    assert [c.field for c in plan.records] == [
        "owners",
        "presence",
        "protect",
        "requires",
        "spec_sha256",
    ]
    record = world.state.models["a@1.0"]
    assert (record.protect, record.presence) == (True, Presence.ON_DEMAND)
    assert record.owners == (Owner(project="default", spec="specs/two.toml"),)
    assert (record.requires, record.spec_sha256) == (("b@1.0", "c@1.0"), "new")
    assert world.plan(edited).records == ()


def test_record_edits_are_undone_and_unknown_ones_refused() -> None:
    """record_after also lets requirements go, and knows its fields."""
    from wanrec.reconcile.actions import RecordChange

    record = ModelRecord(spec_sha256="", requires=("b@1.0",))
    change = RecordChange(model="a", field="requires", before="b@1.0", after="")
    assert record_after(record, [change], "default").requires == ()
    with pytest.raises(ValueError, match="no record"):
        record_after(record, [attrs.evolve(change, field="colour")], "default")


def test_a_model_without_files_leaves_by_its_record() -> None:
    """No file to delete: the ownership goes, and with it the record."""
    world = applied(one())
    world.state = attrs.evolve(
        world.state,
        models={**world.state.models, "e@1": ModelRecord(spec_sha256="", owners=(MINE,))},
    )
    plan = world.apply(one())
    assert [(c.model, c.after) for c in plan.records] == [("e@1", None)]
    assert "e@1" not in world.state.models


def test_refresh_only() -> None:
    """Doubtful is hashed, absent is forgotten, wrong sizes are left for drift."""
    wide = desired(
        model("a", [file_spec(p, A) for p in ("1", "2", "3", "4")]), model("b", [file_spec("f", B)])
    )
    world = applied(wide)
    assert not world.plan(wide, refresh_only=True)
    for path in ("1", "2", "3", "4"):  # names of their own
        world.disk.put(f"wan22/a@1.0/{path}", A)
        world = world
    world = applied(wide)
    world.disk.touch("wan22/b@1.0/f")
    del world.disk.files["wan22/a@1.0/2"]
    world.disk.put("wan22/a@1.0/3", b"x")
    plan = world.plan(wide, refresh_only=True, deep=True)
    rows = dict(row.split(" ") for row in said(plan))
    assert rows["b@1.0::f"] == "verify/stat_changed"
    assert rows["a@1.0::2"] == "forget/missing"
    assert "a@1.0::3" not in rows
    assert {item.kind for item in plan.drift} == {"missing", "size"}


def test_refresh_only_hashes_what_has_expired_and_records_no_wrong_bytes() -> None:
    """verified_before counts here too; bytes known to be wrong are not verified."""
    world = applied(one())
    late = world.plan(one(), refresh_only=True, verified_before="2099-01-01T00:00:00Z")
    assert said(late) == [f"{ADDRESS} verify/verify_expired"]
    world.disk.spoil(PLACE)
    assert not world.plan(one(), refresh_only=True, deep=True)
    assert said(world.plan(one(), refresh_only=True)) == [f"{ADDRESS} verify/stat_changed"]


def test_refresh_only_looks_at_what_the_run_is_about() -> None:
    """Other projects, other specs and unselected files are left alone."""
    wide = desired(
        model("a", [file_spec(CONFIG, A), file_spec(WEIGHTS, B)]),
        model("b", [file_spec("f", C)], spec="specs/two.toml"),
    )
    world = applied(wide)
    for path in world.disk.files:
        world.disk.touch(path)

    def planned(selection: Selection, **options: object) -> list[str]:
        chosen = attrs.evolve(wide, selection=selection)
        return [a.address for a in world.plan(chosen, refresh_only=True, **options).actions]

    narrow = Selection(keys=frozenset(["a@1.0"]), addresses=frozenset([ADDRESS]), partial=True)
    assert planned(narrow) == [ADDRESS]
    assert planned(Selection(specs=frozenset(["specs/two.toml"]), keys=frozenset())) == []
    assert planned(Selection(specs=frozenset(["specs/two.toml"]), keys=frozenset(["b@1.0"]))) == [
        "b@1.0::f"
    ]
    assert planned(Selection(), project="other") == []


def test_state_only_sees_no_disk() -> None:
    """Spec against state: a file removed from the disk is not missed, a new one is created."""
    world = applied(one())
    world.disk.files.clear()
    assert not world.plan(one(), state_only=True)
    both = desired(one().models[0], model("b", [file_spec("f", A), file_spec("g", B)]))
    plan = world.plan(both, state_only=True)
    assert said(plan) == ["b@1.0::f adopt/found_by_hash", "b@1.0::g create/missing"]
    assert world.plan(desired(both.models[1]), state_only=True).summary.delete == 1


def test_busy_models_are_named() -> None:
    """A plan about a model that another run works on says so."""
    plan = make_plan(one(), World().state, Observed(busy=frozenset(["a@1.0"])), PlanOptions())
    assert "a@1.0 is being worked on" in plan.warnings[0]


def test_a_plan_knows_what_it_was_made_from() -> None:
    """Lineage, serial and the digests of the specs are in it; a fresh state has no lineage."""
    assert World().plan(one()).lineage is None
    plan = applied(one()).plan(one())
    assert (plan.lineage, plan.serial) == ("a-lineage", 1)
    assert plan.specs["specs/one.toml"] == sha(b"specs/one.toml")
    assert not plan


def test_the_same_record_is_not_shared_by_accident() -> None:
    """A record under another path than the spec's is another file."""
    record = FileRecord(
        path="elsewhere",
        size=1,
        sha256="0" * 64,
        mtime_ns=0,
        ctime_ns=0,
        ino=0,
        dev=0,
        verified_at="",
    )
    world = applied(one())
    world.state = attrs.evolve(world.state, files={**world.state.files, "q@9::x": record})
    assert not world.plan(one())
