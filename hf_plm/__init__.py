"""Partial Label Masking for the Hugging Face Trainer."""

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
