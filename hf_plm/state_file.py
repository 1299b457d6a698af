"""The tensors of a `PLMState`, and their file on disk: a safetensors file, written whole or not at all."""

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

TENSORS: dict[str, tuple[torch.dtype, tuple[str | int, ...]]] = {
    "positives": (torch.int64, ("labels",)),
    "negatives": (torch.int64, ("labels",)),
    "ideal_ratio": (torch.float32, ("labels",)),
    "shift_in_force": (torch.float32, ("labels",)),
    "bin_counts": (torch.int32, (2, "bins", "labels")),
    "nonfinite": (torch.int64, ()),
    "history": (torch.float32, ("updates", "labels")),
    "shifts": (torch.float32, ("updates", "labels")),
    "history_updates": (torch.int64, ("updates",)),
}
"""All tensors of a state, with dtype and shape: what moves, what is saved, and what is loaded."""

FACTS = "facts"
"""What else is saved: JSON in a tensor of bytes, so that a state dictionary holds nothing but tensors."""

FILE_FORMAT, EARLIER_FORMAT = "hf_plm.state.2", "hf_plm.state"


def write_file(path: str | os.PathLike, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write tensors on the CPU and a header: whole, or not at all."""
    path = Path(path)
    # A name that begins with "_" is left out of uploads of the folder.
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f"_{path.name}.") as directory:
        temporary = Path(directory) / path.name
        save_file(dict(tensors), temporary, {"format": FILE_FORMAT, **metadata})
        os.replace(temporary, path)


def read_file(path: str | os.PathLike) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors and the header of a file that `PLMState.save` wrote. Raises as `PLMState.load`."""
    if not Path(path).is_file():
        raise FileNotFoundError(
            f"there is no PLM state at {os.fspath(path)}; to resume a checkpoint without one, set plm_restart=True"
        )
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged or no safetensors file ({error}); restore it from a copy") from None
    if metadata.get("format") == EARLIER_FORMAT:
        raise ValueError(
            f"{path} was written by an earlier version, whose states have neither names nor settings and cannot be "
            "read; begin the ideal ratios anew: plm_restart=True"
        )
    if metadata.get("format") != FILE_FORMAT:
        raise ValueError(f"{path} is a safetensors file, but holds no PLM state; was it written by PLMState.save?")
    return tensors, metadata


def check_tensors(tensors: Mapping[str, Tensor], source: str | os.PathLike) -> None:
    """Raise a ValueError unless each tensor is there in its dtype, and all are of the same labels and updates."""
    if missing := [name for name in (*TENSORS, FACTS) if name not in tensors]:
        raise ValueError(f"{source} lacks {', '.join(missing)}; restore it from a copy")
    sizes: dict[str, int] = {}
    for name, (dtype, shape) in TENSORS.items():
        found = tuple(tensors[name].shape)
        fits = len(found) == len(shape) and all(
            size == (sizes.setdefault(axis, size) if isinstance(axis, str) else axis)
            for size, axis in zip(found, shape, strict=False)
        )
        if not fits or tensors[name].dtype != dtype:
            expected = tuple(sizes.get(axis, axis) if isinstance(axis, str) else axis for axis in shape)
            raise ValueError(
                f"{source}: {name} is {tensors[name].dtype} of shape {found} instead of {dtype} of {expected}; it was "
                "not written by this version of PLMState"
            )
