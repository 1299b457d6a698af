"""The processes that train together."""

import torch.distributed as dist
from torch import Tensor


def process_rank() -> int:
    """The rank of this process; 0 without distributed training."""
    return dist.get_rank() if _is_distributed() else 0


def num_processes() -> int:
    """The number of processes that train together; 1 without distributed training."""
    return dist.get_world_size() if _is_distributed() else 1


def sum_over_ranks(*tensors: Tensor) -> None:
    """Replace each tensor by its sum over all ranks, in place. Every rank must call it."""
    if _is_distributed():
        for tensor in tensors:
            dist.all_reduce(tensor)


def _is_distributed() -> bool:
    return dist.is_available() and dist.is_initialized()
