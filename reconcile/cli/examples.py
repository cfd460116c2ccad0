"""What each command looks like in use: shown below its ``--help``, in the docs and the man page.

Data only, loaded by whoever shows help. A line is what one types; what it is about follows after
a `#`, so that a line can be pasted with it. A test parses every line with the options of its
command, and asks for at least one line a command.
"""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["EXAMPLES", "examples_of"]

EXAMPLES: Mapping[str, tuple[str, ...]] = {
    "init": (
        "wanrec init --root /srv/models",
        "wanrec init hf://Wan-AI/Wan2.2-TI2V-5B-Diffusers  # with its spec and lock",
    ),
    "validate": (
        "wanrec validate",
        "wanrec validate specs/wan22.toml --format json",
    ),
    "collect": (
        'wanrec collect -k "vae and not bf16"',
        'wanrec collect "t2v-*" -v  # models by glob; where each default value comes from',
        'wanrec collect -m "gpu(mem=80)"',
        "wanrec collect --last-failed",
    ),
    "lock": (
        "wanrec lock  # everything that is not pinned yet",
        "wanrec lock --upgrade t2v-A14B  # one model, as its sources are now",
        "wanrec lock --check -m nightly  # exit 2 when --upgrade would change something",
    ),
    "plan": (
        "wanrec plan specs/wan22.toml",
        'wanrec plan "t2v-A14B@2.2.0[bf16]::vae"  # one folder of one variant',
        'wanrec plan -k "vae and not bf16" -m video',
        "wanrec plan --out reviewed.wanplan  # and later: wanrec apply reviewed.wanplan",
        "wanrec plan --compare reviewed.wanplan --detailed-exitcode",
    ),
    "apply": (
        "wanrec apply  # plan, show, ask, do",
        "wanrec apply -y specs/wan22.toml",
        "wanrec apply reviewed.wanplan  # exactly what was reviewed",
        "wanrec apply --expect reviewed.wanplan  # plan anew; go on if it is what was reviewed",
    ),
    "show": (
        "wanrec show reviewed.wanplan",
        "wanrec show reviewed.wanplan --format github  # for a comment on a change",
        "wanrec show state --format json",
    ),
    "graph": (
        "wanrec graph --by-model | dot -Tsvg -o plan.svg",
        "wanrec graph reviewed.wanplan --format mermaid",
    ),
    "drift": (
        "wanrec drift",
        "wanrec drift --deep --budget 10m  # a portion each night, oldest first",
        "wanrec drift --fail-on missing --fail-on content",
        "wanrec drift --format prometheus --output drift.prom --watch 300",
        'wanrec drift --format nagios --ignore "config.json"',
    ),
    "status": (
        "wanrec status",
        "wanrec status -m video --check  # exit 2 unless every one is COMPLETE",
    ),
    "ensure": (
        "cd $(wanrec ensure t2v-A14B@2.2.0)",
        "wanrec ensure t2v-A14B --variant bf16 --offline",
    ),
    "path": (
        "wanrec path t2v-A14B@2.2.0",
        "wanrec path t2v-A14B --variant bf16 --json",
    ),
    "adopt": (
        "wanrec adopt /data/old-models --dry-run  # what is there, under any name",
        "wanrec adopt /data/old-models t2v-A14B --link hard",
        "wanrec adopt /data/new-model --write-spec specs/new.toml",
    ),
    "usage": (
        "wanrec usage",
        "wanrec usage --json",
    ),
    "gc": (
        "wanrec gc --dry-run",
        'wanrec gc --max-size "500 GiB" --max-age 30d',
    ),
    "pin": ("wanrec pin t2v-A14B@2.2.0",),
    "unpin": ("wanrec unpin t2v-A14B@2.2.0",),
    "sources": (
        "wanrec sources",
        "wanrec sources t2v-A14B --strict  # fail when any one of them fails",
    ),
    "migrate": (
        "wanrec migrate analyze /data/legacy  # then plan, then execute",
        "wanrec migrate execute /data/legacy",
    ),
    "migrate analyze": ("wanrec migrate analyze /data/legacy --format json",),
    "migrate plan": ("wanrec migrate plan /data/legacy --out legacy.wanplan",),
    "migrate execute": ("wanrec migrate execute /data/legacy -m video",),
    "verify": (
        "wanrec verify  # the models below the root",
        "wanrec verify /mnt/stick t2v-A14B  # one model of a mirror",
        "wanrec verify --json -m video",
    ),
    "mirror": (
        "wanrec mirror /mnt/stick t2v-A14B@2.2.0",
        "wanrec mirror s3://ai-models/mirror -m video",
    ),
    "state": (
        "wanrec state list",
        "wanrec state history --format json",
    ),
    "state list": ("wanrec state list --format json",),
    "state show": ('wanrec state show "t2v-A14B@2.2.0[bf16]"',),
    "state mv": ("wanrec state mv t2v-A14B@2.2.0 t2v-A14B@2.2.1",),
    "state rm": ("wanrec state rm t2v-A14B@2.2.0  # its files stay",),
    "state rebuild": ("wanrec state rebuild  # from backup, journals and the disk",),
    "state history": ("wanrec state history",),
    "locks": ("wanrec locks --json",),
    "unlock": ("wanrec unlock state  # ID: as `wanrec locks` names it",),
    "doctor": (
        "wanrec doctor",
        "wanrec doctor --root /srv/models --json",
    ),
    "schema": ("wanrec schema manifest > wanrec.schema.json",),
    "models": ("wan models ensure --only t2v-A14B@2.2.0",),
    "models status": ("wan models status --only t2v-A14B@2.2.0 --json",),
    "models ensure": (
        "wan models ensure --only t2v-A14B@2.2.0 --only umt5-xxl@1.0.0",
        "wan models ensure --all",
    ),
    "models path": ("wan models path t2v-A14B@2.2.0",),
    "models usage": ("wan models usage --json",),
    "models gc": ("wan models gc --dry-run",),
    "models pin": ("wan models pin t2v-A14B@2.2.0",),
    "models unpin": ("wan models unpin t2v-A14B@2.2.0",),
    "plugins": (
        "wanrec plugins",
        "wanrec plugins -p my_policies  # as if the module were installed",
        "wanrec plugins -p no:acme  # without the installed plug-in acme",
    ),
    "config": (
        "wanrec config",
        "wanrec config --root /srv/models --format json",
    ),
}
"""Command, without the program's name → its lines."""


def examples_of(command: str) -> list[str]:
    """Return the lines of one command, what they are about in a column; empty without any."""
    lines = [line.partition("  # ") for line in EXAMPLES.get(command, ())]
    width = max((len(typed) for typed, _, about in lines if about), default=0)
    return [f"{typed:<{width}}  # {about}" if about else typed for typed, _, about in lines]
