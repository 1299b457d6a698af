"""Checks that several ranks can divide a stream of rows so that each row counts once."""

from typing import Any

from accelerate.data_loader import DataLoaderDispatcher, IterableDatasetShard
from torch.utils.data import DataLoader, IterableDataset

from .ranks import num_processes, process_rank

REMEDY = (
    "leave dispatch_batches out of accelerator_config (then rank 0 reads the stream and sends each row to one rank)"
)


def check_no_row_is_repeated(loader: DataLoader[Any], source: str) -> None:
    """Raise a ValueError if accelerate would repeat rows of a stream, because repeated rows cannot be recognized.

    With `dispatch_batches=False` each rank reads the whole stream and keeps its part of every batch. Rows of the first
    batch fill up the last one, and the loader of a stream does not know their number.

    Args:
        loader: a loader that accelerate has prepared.
        source: what the data set is, for the message.
    """
    if isinstance(loader.dataset, IterableDatasetShard):
        raise ValueError(
            f"{source} is a stream, and accelerator_config has dispatch_batches=False: on {num_processes()} ranks the "
            f"last batch would count rows twice. To count each once, {REMEDY}; or pass a datasets.IterableDataset "
            "that has at least as many shards as there are ranks"
        )


def check_whole(loader: DataLoader[Any], source: str) -> None:
    """As `check_no_row_is_repeated`, for evaluation, where the parts of all ranks must also have the same length.

    Raises:
        ValueError: for every stream with `dispatch_batches=False` on several ranks.
    """
    is_stream = isinstance(loader.dataset, IterableDataset)
    if num_processes() > 1 and is_stream and not isinstance(loader, DataLoaderDispatcher):
        raise ValueError(
            f"{source} is a stream, and accelerator_config has dispatch_batches=False: {num_processes()} ranks would "
            f"score rows twice or wait for each other. To score each once, {REMEDY}; or evaluate a datasets.Dataset, "
            "which also works if the training data are a stream with dispatch_batches=False"
        )


def check_ends_together(num_batches: int, batches_of_all: int) -> None:
    """Raise a ValueError if this rank's part of a stream has ended and the part of another rank has not.

    Args:
        num_batches: the number of batches of this rank for an optimizer step.
        batches_of_all: the number of batches of all ranks together.
    """
    if num_batches * num_processes() != batches_of_all:
        raise ValueError(
            f"train_dataset ended on rank {process_rank()} ({num_batches} batches in the last step) before it ended "
            f"on the others ({batches_of_all} on all {num_processes()} together): its shards have different "
            f"numbers of rows. To train on all rows, {REMEDY}; or set max_steps to end before, or repeat the stream"
        )
