"""The table of the tensors of a `PLMState`, and the functions that move, save, load and check them."""

import json
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from .ranks import num_processes

Saved = TypeVar("Saved", bound="SavedTensors")

FILE_FORMAT = "hf_plm.state.2"
EARLIER_FORMAT = "hf_plm.state"

LABELS, BINS, ROWS, BYTES = "labels", "bins", "rows", "bytes"
"""Names of sizes that several tensors share."""

TENSORS: dict[str, tuple[torch.dtype, tuple[int | str, ...]]] = {
    "positives": (torch.int64, (LABELS,)),
    "negatives": (torch.int64, (LABELS,)),
    "ideal_ratio": (torch.float32, (LABELS,)),
    "shift_in_force": (torch.float32, (LABELS,)),
    "histograms": (torch.int32, (2, LABELS, BINS)),
    "nonfinite": (torch.int64, ()),
    "history": (torch.float32, (ROWS, LABELS)),
    "shifts": (torch.float32, (ROWS, LABELS)),
    "history_updates": (torch.int64, (ROWS,)),
    "facts": (torch.uint8, (BYTES,)),
}
"""The dtype and shape of each tensor. `facts` is JSON with everything that is not a tensor."""

FACTS: dict[str, tuple[type, ...]] = {
    "label_names": (list, type(None)),
    "settings": (dict,),
    "num_batches": (int,),
    "num_ranks": (int,),
    "is_measuring": (bool,),
    "is_estimating": (bool,),
}
"""The entries of the JSON and their types."""


class SavedTensors(nn.Module):
    """A module whose attributes `TENSORS` are moved and saved with it, although they are not buffers.

    `DistributedDataParallel` would overwrite buffers with those of the first rank, and `half` would round them. These
    tensors keep their values and dtypes. `state_dict` holds only tensors, because `facts` are bytes.
    """

    @property
    def facts(self) -> Tensor:
        """The attributes `FACTS` as JSON, uint8 `(bytes,)`."""
        facts = {name: getattr(self, name) for name in FACTS} | {"num_ranks": num_processes()}
        return torch.frombuffer(bytearray(json.dumps(facts).encode()), dtype=torch.uint8)

    def refuse(self, loaded: Any) -> None:
        """Raise a ValueError if `loaded` must not replace this module. Subclasses override it."""

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the tensors to a safetensors file, completely or not at all."""
        path = Path(path)
        tensors = {name: getattr(self, name).cpu().contiguous() for name in TENSORS}
        # Uploads of the folder leave out names that begin with "_".
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=f"_{path.name}.") as directory:
            temporary = Path(directory) / path.name
            save_file(tensors, temporary, {"format": FILE_FORMAT})
            os.replace(temporary, path)

    @classmethod
    def from_tensors(cls: type[Saved], tensors: Mapping[str, Tensor], source: str) -> Saved:
        """A module with copies of `tensors`. Raises a ValueError if they are damaged or contradict each other."""
        check_tensors(tensors, source)
        names, num_labels = decode_facts(tensors["facts"], source)["label_names"], len(tensors["positives"])
        if names is not None and len(names) != num_labels:
            raise ValueError(f"{source} has {len(names)} label names and counts of {num_labels} labels")
        loaded = cls.__new__(cls)
        nn.Module.__init__(loaded)
        loaded._take(tensors, source)
        return loaded

    def _take(self, tensors: Mapping[str, Tensor], source: str) -> None:
        for name, value in decode_facts(tensors["facts"], source).items():
            setattr(self, name, value)
        for name in TENSORS:
            if name != "facts":
                setattr(self, name, tensors[name].detach().clone())

    def _apply(self: Saved, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Saved:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]  # torch gives it no types
        for name in TENSORS:
            if name != "facts":
                tensor = getattr(self, name)
                moved = fn(tensor)
                setattr(self, name, moved if moved.dtype == tensor.dtype else tensor.to(moved.device))
        return self

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        for name in TENSORS:
            destination[prefix + name] = getattr(self, name).clone(memory_format=torch.contiguous_format)

    def _load_from_state_dict(
        self,
        state_dict: Mapping[str, Any],
        prefix: str,
        local_metadata: Mapping[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        found = {key.removeprefix(prefix): value for key, value in state_dict.items() if key.startswith(prefix)}
        missing = [prefix + name for name in TENSORS if name not in found]
        if strict:
            missing_keys += missing
            unexpected_keys += [prefix + name for name in found if name not in TENSORS]
        if missing:
            return
        loaded = self.from_tensors(found, "the state_dict")
        self.refuse(loaded)
        device = self.ideal_ratio.device
        self._take({name: tensor.to(device) for name, tensor in found.items() if name in TENSORS}, "the state_dict")


def check_tensors(tensors: Mapping[str, Tensor], source: str) -> None:
    """Raise a ValueError unless all of `TENSORS` exist with their dtypes, and all shapes agree."""
    missing = [name for name in TENSORS if name not in tensors]
    if missing:
        raise ValueError(f"{source} lacks {', '.join(missing)}; restore it from a copy")
    sizes: dict[int | str, int] = {}
    for name, (dtype, declared) in TENSORS.items():
        shape = tuple(tensors[name].shape)
        for size, found in zip(declared, shape, strict=False):
            if isinstance(size, str):
                sizes.setdefault(size, found)
        expected = tuple(sizes.get(size, size) for size in declared)
        if shape != expected or tensors[name].dtype != dtype:
            shown = ", ".join(map(str, expected)) + "," * (len(expected) == 1)
            raise ValueError(
                f"{source}: {name} is {tensors[name].dtype} of shape {shape} instead of {dtype} of ({shown}); it was "
                "not written by this version of PLMState"
            )


def decode_facts(encoded: Tensor, source: str) -> dict[str, Any]:
    """The attributes in `SavedTensors.facts`. Raises a ValueError if they are damaged."""
    try:
        facts = json.loads(bytes(encoded.cpu().tolist()))
        facts = dict(facts)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{source}: its facts are damaged ({error}); restore it from a copy") from None
    wrong = [name for name, types in FACTS.items() if not isinstance(facts.get(name, ...), types)]
    if wrong:
        raise ValueError(f"{source}: its facts lack {', '.join(wrong)}; restore it from a copy")
    return {name: facts[name] for name in FACTS}


def read_tensors(path: str | os.PathLike[str], names: Sequence[str] | None = None) -> dict[str, Tensor]:
    """The tensors in a file of `SavedTensors.save`, on the CPU: all, or those of `names` that it has.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is truncated, is not a safetensors file, or has a different format.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(
            f"there is no PLM state at {os.fspath(path)}; to resume a checkpoint without one, set plm_restart=True"
        )
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            keys = [name for name in file.keys() if names is None or name in names]
            tensors = {name: file.get_tensor(name) for name in keys}
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged or not a safetensors file ({error}); restore it from a copy") from None
    if metadata.get("format") == EARLIER_FORMAT:
        raise ValueError(
            f"{path} was written by an earlier version of hf_plm, which saved no names and settings; start again "
            "with plm_restart=True (or a new PLMLoss), or use that version"
        )
    if metadata.get("format") != FILE_FORMAT:
        raise ValueError(f"{path} is a safetensors file without a PLM state; was it written by PLMState.save?")
    return tensors


def read_facts(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Only the facts of a file. Raises as `read_tensors`, and a ValueError if they are damaged."""
    tensors = read_tensors(path, ["facts"])
    if "facts" not in tensors:
        raise ValueError(f"{path} lacks facts; restore it from a copy")
    return decode_facts(tensors["facts"], os.fspath(path))
