"""Partial Label Masking for the Hugging Face Trainer."""

from .calibration import calibrate
from .callback import PLMCallback
from .data_collator import MultiLabelCollator
from .inspection import LabelReport, inspect_labels
from .label_counts import LabelCounts, count_labels
from .loss import PLMLoss
from .metrics import MultiLabelMetrics, multilabel_compute_metrics
from .ranking_metrics import RankingComputeMetrics, propensities
from .sampling import ClassAwareDataset, make_long_tailed, train_test_split_multilabel
from .state import PLMState
from .thresholds import predict, tune_thresholds
from .trainer import PLMTrainer
from .training_args import PLMTrainingArguments

__version__ = "0.1.0"

__all__ = [
    "ClassAwareDataset",
    "LabelCounts",
    "LabelReport",
    "MultiLabelCollator",
    "MultiLabelMetrics",
    "PLMCallback",
    "PLMLoss",
    "PLMState",
    "PLMTrainer",
    "PLMTrainingArguments",
    "RankingComputeMetrics",
    "calibrate",
    "count_labels",
    "inspect_labels",
    "make_long_tailed",
    "predict",
    "propensities",
    "train_test_split_multilabel",
    "tune_thresholds",
    "multilabel_compute_metrics",
]
