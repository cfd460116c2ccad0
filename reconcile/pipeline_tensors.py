"""Which tensors weight files hold, and whether that is what their index says.

Reads headers only: a few kilobytes of a file of many gigabytes, on the CPU, without any tensor
library. Writes nothing.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from wanrec.reconcile.content_rules import check_header, check_header_length
from wanrec.reconcile.disk_errors import translated
from wanrec.reconcile.errors import ErrorCode, WanrecError

__all__ = ["check_indexes", "index_faults", "stored_format", "tensor_names"]

INDEX = ".safetensors.index.json"


def tensor_names(path: Path) -> tuple[str, ...]:
    """Return the names of the tensors of a safetensors file, in the order of the header.

    Raises:
        WanrecError: INCOMPLETE_MODEL for a header that is not one; disk errors.
    """
    return tuple(_header(path))


def stored_format(path: Path) -> str | None:
    """Return the number format of the first tensor of a safetensors file, None without tensors.

    Raises:
        WanrecError: as `tensor_names`.
    """
    return next((str(tensor["dtype"]).lower() for tensor in _header(path).values()), None)


def _header(path: Path) -> dict[str, dict[str, object]]:
    with translated(str(path), "read"), path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        length = check_header_length(file.read(8), size)
        header = b"" if isinstance(length, str) else file.read(length)
    problem = length if isinstance(length, str) else check_header(header, size - 8 - length)
    if problem is not None:
        raise WanrecError(ErrorCode.INCOMPLETE_MODEL, problem, where=str(path))
    return {name: tensor for name, tensor in json.loads(header).items() if name != "__metadata__"}


def index_faults(index: Path) -> list[str]:
    """Return how shards differ from their index, one line each: tensors missing, extra, misplaced.

    Raises:
        WanrecError: INCOMPLETE_MODEL for a shard that is not there or is broken; disk errors.
    """
    with translated(str(index), "read"):
        data = index.read_bytes()
    try:
        wanted: dict[str, str] = json.loads(data)["weight_map"]
        shards = sorted(set(wanted.values()))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return [f"{index.name} has no weight_map"]
    held = {name: shard for shard in shards for name in _shard_tensors(index, shard)}
    faults = [
        f"{name} is not in {shard}" + (f" but in {held[name]}" if name in held else "")
        for name, shard in wanted.items()
        if held.get(name) != shard
    ]
    return faults + [
        f"{held[name]} holds {name}, which is in no index" for name in held.keys() - wanted.keys()
    ]


def _shard_tensors(index: Path, shard: str) -> tuple[str, ...]:
    if Path(shard).name != shard:
        raise WanrecError(
            ErrorCode.UNSAFE_PATH,
            f"an index names a shard outside its folder: {shard!r}",
            where=str(index),
        )
    place = index.with_name(shard)
    if not place.is_file():
        raise WanrecError(
            ErrorCode.INCOMPLETE_MODEL,
            f"{shard} is missing, {index.name} names it",
            where=str(place),
        )
    return tensor_names(place)


def check_indexes(directory: Path) -> None:
    """Compare every index below a directory with the headers of its shards.

    Raises:
        WanrecError: INCOMPLETE_MODEL, with what differs; as `index_faults`.
    """
    for index in sorted(directory.rglob(f"*{INDEX}")):
        faults = index_faults(index)
        if faults:
            raise WanrecError(
                ErrorCode.INCOMPLETE_MODEL,
                f"{index.name} and its shards do not agree: {faults[0]}",
                detail="\n".join(faults[1:20]),
                where=str(index),
            )
