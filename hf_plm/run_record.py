"""Stores the flags and columns of a run of `hf-plm train` with its model, to continue the run and to predict."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers.trainer_utils import get_last_checkpoint

RECORD = "hf_plm_train.json"
"""The file in the output folder."""


def write_record(folder: str | Path, flags: Mapping[str, Any], columns: Mapping[str, str]) -> None:
    """Store the flags of a run, and the columns of its texts or pictures."""
    path = Path(folder) / RECORD
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"flags": dict(flags), "columns": dict(columns)}, indent=1))


def read_record(folder: str | Path) -> dict[str, Any] | None:
    """The `flags` and `columns` of the run that wrote a folder; None if `hf-plm train` did not write it."""
    path = Path(folder) / RECORD
    record: dict[str, Any] | None = json.loads(path.read_text()) if path.is_file() else None
    return record


def differences(earlier: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """The settings that differ, in words."""
    changed = [name for name in {**earlier, **now} if earlier.get(name) != now.get(name)]
    return ", ".join(f"{name} {earlier.get(name)!r} instead of {now.get(name)!r}" for name in changed)


def checkpoint_of(folder: str | Path, flags: Mapping[str, Any]) -> str | None:
    """The last checkpoint of a run with the same flags; None if there is none.

    Raises:
        ValueError: if the folder has the checkpoints of a different run.
    """
    checkpoint: str | None = get_last_checkpoint(str(folder)) if Path(folder).is_dir() else None
    if checkpoint is None:
        return None
    record = read_record(folder)
    if record is not None and record["flags"] == flags:
        return checkpoint
    what = "that is not from hf-plm train" if record is None else f"with {differences(record['flags'], flags)}"
    raise ValueError(
        f"{folder} has checkpoints of a run {what}; to continue that run, give the same flags; for a new one, choose "
        "a different --output-dir, or delete the folder"
    )
