"""Going on from a saved state: whether it fits, and its files in a checkpoint of one process or of several.

No file needs the ranks to wait for each other: each writes and reads its own measurements.
"""

import os
from pathlib import Path

import torch

from . import functional
from .label_space import shown_list
from .ranks import num_processes, process_rank
from .state import PLMState
from .state_file import read_file

STATE_NAME = "plm_state.safetensors"
"""The file of a checkpoint that holds the `PLMState`."""


def save_checkpoint(state: PLMState, folder: str | os.PathLike, is_main: bool) -> None:
    """Write a state into a folder. Any rank may call it, alone or with others.

    While several ranks are measuring, those that are not the main one write their measurements to a file of their own.

    Args:
        is_main: whether this rank is the one that saves the model.
    """
    rank, is_shared = process_rank(), state.is_measuring and num_processes() > 1
    own = Path(folder) / _name_of(rank)
    if is_main:
        state.save(Path(folder) / STATE_NAME, {"ranks": str(num_processes() if is_shared else 1), "rank": str(rank)})
    if is_shared and not is_main:
        state.save(own)
    else:
        own.unlink(missing_ok=True)


def load_checkpoint(folder: str | os.PathLike, num_labels: int | None = None) -> PLMState:
    """The state of a checkpoint, onto the CPU, with the running measurements that are this rank's to go on from.

    They are divided anew among the ranks there are now; their sum over the ranks is that of the checkpoint.

    Args:
        num_labels: see `PLMState.load`.

    Raises:
        FileNotFoundError, ValueError: as `PLMState.load`, and if a rank's measurements are missing, or of another
            moment.
    """
    path = Path(folder) / STATE_NAME
    tensors, header = read_file(path)
    state = PLMState.from_tensors(tensors, path, num_labels)
    num_saved, main_rank = int(header.get("ranks", 1)), int(header.get("rank", 0))
    if not state.is_measuring or num_saved == num_processes() == 1:
        return state
    bin_counts, nonfinite = torch.zeros_like(state.bin_counts), torch.zeros_like(state.nonfinite)
    for rank in range(process_rank(), num_saved, num_processes()):
        part = state if rank == main_rank or num_saved == 1 else _load_part(Path(folder) / _name_of(rank), state)
        bin_counts += part.bin_counts
        nonfinite += part.nonfinite
    state.bin_counts, state.nonfinite = bin_counts, nonfinite
    return state


def differences(old: PLMState, new: PLMState) -> list[str]:
    """In what two states differ: number and names of labels, settings, counts of the training data; empty if alike.

    Counts are not compared where both are estimated on the way, nor names where one has none.
    """
    if labels := _other_labels(old, new):
        return labels
    found = [
        f"{name} was {old.settings.get(name)!r}, and is {new.settings.get(name)!r}"
        for name in sorted(old.settings.keys() | new.settings.keys())
        if old.settings.get(name) != new.settings.get(name)
    ]
    return found if old.is_estimating and new.is_estimating else found + _other_counts(old, new)


def adopt_ratios(new: PLMState, old: PLMState) -> None:
    """Let a state go on from the ideal ratios of another, within the bounds of its own counts and settings.

    Raises:
        ValueError: if the labels are others, or in another order.
    """
    if labels := _other_labels(old, new):
        raise ValueError(f"ideal ratios cannot be kept for other labels: {labels[0]}")
    device = new.ideal_ratio.device
    if new.is_estimating and old.is_estimating:
        new.positives, new.negatives = old.positives.to(device), old.negatives.to(device)
    ideal_ratio = torch.where(new.has_ratio, old.ideal_ratio.to(device), new.ideal_ratio)
    new.ideal_ratio = functional.bound_ideal_ratio(ideal_ratio, new.ratio, new.settings["max_shift"])
    for name in ("history", "shifts", "history_updates", "shift_in_force"):
        setattr(new, name, getattr(old, name).to(device, copy=True))
    new.num_batches = old.num_batches


def _other_labels(old: PLMState, new: PLMState) -> list[str]:
    if old.num_labels != new.num_labels:
        return [f"there were {old.num_labels} labels, and there are {new.num_labels}"]
    was, now = old.label_names, new.label_names
    if was is None or now is None or was == now:
        return []
    order = ", in another order" if set(was) == set(now) else ""
    return [f"the labels were {shown_list(was)}, and are {shown_list(now)}{order}"]


def _other_counts(old: PLMState, new: PLMState) -> list[str]:
    was, now = (torch.stack([state.positives.cpu(), state.negatives.cpu()]) for state in (old, new))
    differ = (was != now).any(0)
    if not differ.any():
        return []
    index = int(differ.int().argmax())
    name = new.label_names[index] if new.label_names is not None else f"LABEL_{index}"
    return [
        f"the training data had {was[0, index]} positives and {was[1, index]} negatives of {shown_list([name])}, and "
        f"have {now[0, index]} and {now[1, index]} ({int(differ.sum())} of {new.num_labels} labels differ)"
    ]


def _load_part(path: Path, state: PLMState) -> PLMState:
    if not path.is_file():
        raise ValueError(f"{path} is missing: the measurements of one rank; begin anew with plm_restart=True")
    part = PLMState.load(path, state.num_labels)
    if part.num_batches != state.num_batches:
        raise ValueError(
            f"{path} is of batch {part.num_batches}, and {STATE_NAME} of batch {state.num_batches}: the checkpoint is "
            "not whole; resume from another, or begin anew with plm_restart=True"
        )
    return part


def _name_of(rank: int) -> str:
    return f"plm_state_rank{rank}.safetensors"
