"""Partial Label Masking for the Hugging Face Trainer."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # what type checkers and editors read
    from .counting import count_labels, label_space_of
    from .data_collator import MultiLabelCollator
    from .decisions import calibrate, fold_thresholds
    from .inspection import LabelReport, inspect_labels
    from .label_counts import LabelCounts
    from .label_space import LabelSpace
    from .labeled_data import read_labeled
    from .loss import PLMLoss
    from .metrics import MultiLabelMetrics, multilabel_compute_metrics
    from .predicting import predict
    from .ranking_metrics import RankingComputeMetrics, propensities
    from .sampling import ClassAwareDataset, make_long_tailed
    from .splitting import multilabel_folds, train_test_split_multilabel
    from .state import PLMState
    from .thresholds import tune_thresholds
    from .trainer import PLMTrainer
    from .training_args import PLMTrainingArguments

__version__ = "0.1.0"

__all__ = [
    "ClassAwareDataset",
    "LabelCounts",
    "LabelReport",
    "LabelSpace",
    "MultiLabelCollator",
    "MultiLabelMetrics",
    "PLMLoss",
    "PLMState",
    "PLMTrainer",
    "PLMTrainingArguments",
    "RankingComputeMetrics",
    "calibrate",
    "count_labels",
    "fold_thresholds",
    "inspect_labels",
    "label_space_of",
    "make_long_tailed",
    "multilabel_compute_metrics",
    "multilabel_folds",
    "predict",
    "propensities",
    "read_labeled",
    "train_test_split_multilabel",
    "tune_thresholds",
]

_FILES = {
    "ClassAwareDataset": "sampling",
    "LabelCounts": "label_counts",
    "LabelReport": "inspection",
    "LabelSpace": "label_space",
    "MultiLabelCollator": "data_collator",
    "MultiLabelMetrics": "metrics",
    "PLMLoss": "loss",
    "PLMState": "state",
    "PLMTrainer": "trainer",
    "PLMTrainingArguments": "training_args",
    "RankingComputeMetrics": "ranking_metrics",
    "calibrate": "decisions",
    "count_labels": "counting",
    "fold_thresholds": "decisions",
    "inspect_labels": "inspection",
    "label_space_of": "counting",
    "make_long_tailed": "sampling",
    "multilabel_compute_metrics": "metrics",
    "multilabel_folds": "splitting",
    "predict": "predicting",
    "propensities": "ranking_metrics",
    "read_labeled": "labeled_data",
    "train_test_split_multilabel": "splitting",
    "tune_thresholds": "thresholds",
}
"""The file of each public name: it is imported when the name is first used, so that `import hf_plm` is quick."""


def __getattr__(name: str) -> Any:
    if name not in _FILES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        file = import_module(f".{_FILES[name]}", __name__)
    except AttributeError as error:  # from a dependency; it would look as if hf_plm lacked the name
        raise ImportError(f"{__name__}.{name} could not be imported: {error}") from error
    value = globals()[name] = getattr(file, name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
