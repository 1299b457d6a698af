"""The files of a checkpoint that hold the `PLMState` of all ranks. No rank waits for the others."""

import os
from pathlib import Path

from .ranks import num_processes, process_rank
from .state import PLMState
from .state_tensors import read_facts

STATE_NAME = "plm_state.safetensors"
"""The file of a checkpoint that holds the `PLMState`."""


def save_checkpoint(state: PLMState, folder: str | os.PathLike[str], saves_model: bool | None = None) -> None:
    """Write this rank's part of a state into a folder. One rank may call it, or all, at any time.

    A rank that saves the model writes `STATE_NAME`. In the middle of an epoch, every rank except the first also writes
    its measurements to its own file; at other times it removes that file.

    Args:
        saves_model: whether this rank saves the model into the folder; None for only the first rank.
    """
    folder, rank = Path(folder), process_rank()
    folder.mkdir(parents=True, exist_ok=True)
    if saves_model if saves_model is not None else rank == 0:
        state.save(folder / STATE_NAME)
    if rank > 0 and state.is_measuring:
        state.save(_path(folder, rank))
    elif rank > 0:
        _path(folder, rank).unlink(missing_ok=True)


def load_checkpoint(folder: str | os.PathLike[str], num_labels: int | None = None) -> PLMState:
    """This rank's state, on the CPU. The number of ranks may differ from that at `save_checkpoint`.

    Each rank gets a part of the measurements of an unfinished epoch, so that their sum counts every batch once.

    Args:
        num_labels: see `PLMState.load`.

    Raises:
        FileNotFoundError, ValueError: as `PLMState.load`; also if the measurements of a rank are missing, or were
            saved at a different time.
    """
    folder = Path(folder)
    state = PLMState.load(folder / STATE_NAME, num_labels)
    if not state.is_measuring:
        return state
    for rank in range(1, state.num_ranks):  # every rank checks all files, so that all raise or none
        path = _path(folder, rank)
        if not path.is_file():
            raise ValueError(
                f"{path} is missing: the state was saved in the middle of an epoch that {state.num_ranks} ranks "
                "measured, and each must save its part (call save_model on all of them); to start with new ideal "
                "ratios, set plm_restart=True"
            )
        found = read_facts(path)["num_batches"]
        if found != state.num_batches:
            raise ValueError(
                f"{path} is of batch {found:,} and {STATE_NAME} of batch {state.num_batches:,}: they were not saved "
                "together; to start with new ideal ratios, set plm_restart=True"
            )
    state.forget_measurements()
    for rank in range(process_rank(), state.num_ranks, num_processes()):
        part = PLMState.load(_path(folder, rank), state.num_labels)
        state.histograms += part.histograms
        state.nonfinite += part.nonfinite
    return state


def _path(folder: Path, rank: int) -> Path:
    stem, suffix = STATE_NAME.split(".")
    return folder / (f"{stem}_rank{rank}.{suffix}" if rank else STATE_NAME)
