"""Classes for a task (data in three parts, a model, and the length of training) and for the source of its data.

Models train on `train`. Settings and thresholds are chosen on `dev`: a tenth of the training data or, with one class
per row, balanced data. The tables report scores on `validation`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from datasets import Dataset, DatasetDict, load_dataset
from torch import nn

from hf_plm import LabelCounts

EXAMPLES = Path(__file__).parent.parent / "examples"
SPLITS = ("train", "validation")
SPLIT_SEED = 0
"""The seed that draws `dev`; the same for all runs."""


@dataclass
class Task:
    """A data set, and how a model is trained on it.

    Attributes:
        train, dev, validation: rows of the model's inputs and `labels` (lists of class ids, or one class id).
        counts: the label counts of `train`.
        make_model: a new model, random or pretrained.
        epochs, batch_size, learning_rate: of a run; a method may multiply the learning rate.
        is_single_label: one class id per row.
        bf16: whether it trains in bfloat16.
    """

    train: Dataset
    dev: Dataset
    validation: Dataset
    counts: LabelCounts
    make_model: Callable[[], nn.Module]
    epochs: int
    batch_size: int
    learning_rate: float
    is_single_label: bool = False
    bf16: bool = False


@dataclass(frozen=True)
class Source:
    """Where the data come from, and how many of them are used.

    Attributes:
        mnist: MNIST, as a data set of the Hub or a parquet file.
        fashion: Fashion-MNIST, as a data set of the Hub, or a folder with the four files of its authors (idx, gzip).
        data: the folder of data that you have to download yourself (COCO).
        full: use full-size pretrained models, for a GPU.
        quick: use a third of the training data.
    """

    mnist: str = "ylecun/mnist"
    fashion: str = "zalando-datasets/fashion_mnist"
    data: str | None = None
    full: bool = False
    quick: bool = False

    @property
    def size(self) -> str:
        """`full`, `quick` or `small`."""
        return "full" if self.full else "quick" if self.quick else "small"


def cut(dataset: Dataset, source: Source) -> tuple[Dataset, Dataset]:
    """`train` and `dev`."""
    parts = dataset.train_test_split(0.1, seed=SPLIT_SEED)
    train = parts["train"].select(range(len(parts["train"]) // 3)) if source.quick else parts["train"]
    return train, parts["test"]


def read_parts(name: str) -> DatasetDict:
    """Training and validation rows of an example data set."""
    folder = EXAMPLES / "data" / name
    return load_dataset("parquet", data_files={part: str(folder / f"{part}.parquet") for part in SPLITS})
