"""Losses of other papers, used only in the benchmarks, each with its source. The setting `rival` of a run names one.

The element-wise ones, `(logits, labels, positives, negatives, ...) -> (batch, num_labels)`, are objectives as in
`hf_plm/objectives.py`. Those in `BATCH_LOSSES`, `(logits, labels, ...) -> scalar`, compare the labels of a row with
each other, or the rows of a batch. They ignore unknown labels (NaN, -100).
"""

import functools
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
import torch.nn.functional as F
from torch import Tensor

from hf_plm import PLMLoss, PLMTrainer
from hf_plm.label_tensors import known_labels, multi_hot_labels
from hf_plm.objectives import Objective, binary_cross_entropy, default_arguments


def ldam(
    logits: Tensor,
    labels: Tensor,
    positives: Tensor,
    negatives: Tensor,
    max_margin: float = 0.5,
    scale: float = 1.0,
) -> Tensor:
    """Label-distribution-aware margin loss: binary cross-entropy of `scale * (z - y * m)`.

    The margin of a class with n positives is `m = max_margin * (n / n_min) ** (-1 / 4)`, where `n_min` is the smallest
    n of a class that has positives. The paper's softmax is a sigmoid here. Its `scale` of 30 is for logits that are
    cosines; for the logits of a linear layer it is 1.

    Source: Cao et al., "Learning Imbalanced Datasets with Label-Distribution-Aware Margin Loss", NeurIPS 2019
    (its C is set by the largest margin, as in the authors' code).
    """
    smallest = torch.where(positives > 0, positives, torch.inf).amin()
    margins = torch.where(positives > 0, max_margin * (positives / smallest) ** -0.25, 0)  # 0 without positives
    return binary_cross_entropy(scale * (logits - labels * margins), labels)


def robust_asymmetric(
    logits: Tensor,
    labels: Tensor,
    positives: Tensor,
    negatives: Tensor,
    gamma_negative: float = 4.0,
    gamma_positive: float = 0.0,
    margin: float = 0.05,
    hill: float = 1.5,
) -> Tensor:
    """Robust asymmetric loss.

    For a positive: `(1 - p) ** gamma_positive * (-log p - (1 - p) + 1.25 * (1 - p) ** 2)`, the logarithm with the
    first two terms of its series changed. For a negative, with `p_m = max(p - margin, 0)` as in the asymmetric loss:
    `-p ** 2 * (hill - p) * (hill - 1 + p_m) * p_m ** gamma_negative * log(1 - p_m)`. The factor of the Hill loss,
    `p ** 2 * (hill - p)`, gives less weight to negatives with a high probability: these may be wrong labels. The
    weights have a gradient. The factors and their defaults are those of the authors' code.

    Sources: Park et al., "Robust Asymmetric Loss for Multi-Label Long-Tailed Learning", ICCV 2023 Workshops; Zhang et
    al., "Simple and Robust Loss Design for Multi-Label Learning with Missing Labels", 2021, arXiv:2112.07368 (Hill).
    """
    if 0 < gamma_negative < 1:
        raise ValueError(f"gamma_negative is {gamma_negative}; it must be 0, or 1 or more: its gradient is infinite")
    probabilities, misses = torch.sigmoid(logits), torch.sigmoid(-logits)
    polynomial = -F.logsigmoid(logits) - misses + 1.25 * misses**2
    focused = torch.exp(gamma_positive * F.logsigmoid(-logits)) * polynomial
    shifted = (probabilities - margin).clamp(min=0)
    if margin == 0:
        logarithm = F.logsigmoid(-logits)
    else:
        logarithm = torch.log((misses + margin).clamp(max=1))
    tolerance = probabilities**2 * (hill - probabilities) * (hill - 1 + shifted)
    return torch.where(labels == 1, focused, -tolerance * shifted**gamma_negative * logarithm)


def zlpr(logits: Tensor, labels: Tensor) -> Tensor:
    """Zero-bounded log-sum-exp and pairwise rank-based loss, the mean over the rows.

    For a row: `log(1 + sum of exp(-z) over its positives) + log(1 + sum of exp(z) over its negatives)`.

    Source: Su et al., "ZLPR: A Novel Loss for Multi-label Classification", 2022, arXiv:2208.02955.
    """
    positive, negative = _sides(labels)
    losses = F.softplus(_log_sum(-logits, positive)) + F.softplus(_log_sum(logits, negative))
    return losses.mean()


def two_way(logits: Tensor, labels: Tensor, temperature: float = 4.0) -> Tensor:
    """Two-way multi-label loss: a loss over the rows, plus the same loss over the classes of the batch.

    For a row: `softplus(log(sum of exp(z) over its negatives) + T * log(sum of exp(-z / T) over its positives))`, the
    mean over the rows that have a positive and a negative. For a class the same. T is the `temperature`.

    Source: Kobayashi, "Two-way Multi-Label Loss", CVPR 2023.
    """
    return _one_way(logits, labels, temperature, 1) + _one_way(logits, labels, temperature, 0)


def _one_way(logits: Tensor, labels: Tensor, temperature: float, dim: int) -> Tensor:
    positive, negative = _sides(labels)
    has_both = positive.any(dim) & negative.any(dim)
    if dim == 0:
        logits, positive, negative = logits.T, positive.T, negative.T
    logits, positive, negative = logits[has_both], positive[has_both], negative[has_both]
    highest = _log_sum(logits, negative)
    lowest = temperature * _log_sum(-logits / temperature, positive)
    return F.softplus(highest + lowest).sum() / has_both.sum().clamp(min=1)


def _sides(labels: Tensor) -> tuple[Tensor, Tensor]:
    """Two masks: where labels are positive, and where they are negative."""
    return labels == 1, known_labels(labels) & (labels != 1)


def _log_sum(values: Tensor, taken: Tensor) -> Tensor:
    """The log of each row's sum of `exp(values)` where `taken`; without values, a very low finite number."""
    return values.masked_fill(~taken, torch.finfo(values.dtype).min / 4).logsumexp(1)


ELEMENT_WISE: dict[str, Objective] = {"ldam": ldam, "robust_asymmetric": robust_asymmetric}
BATCH_LOSSES: dict[str, Callable[..., Tensor]] = {"zlpr": zlpr, "two_way": two_way}
RIVALS: dict[str, Callable[..., Tensor]] = {**ELEMENT_WISE, **BATCH_LOSSES}


def rival_arguments(name: str, given: Mapping[str, Any] | None) -> dict[str, float]:
    """All arguments of a rival: the given ones, and defaults for the others."""
    return {key: float(value) for key, value in (default_arguments(RIVALS[name]) | dict(given or {})).items()}


def rival_objective(name: str, given: Mapping[str, Any] | None) -> Objective | None:
    """An element-wise rival with its arguments, for `PLMTrainer`; None for one of `BATCH_LOSSES`."""
    return functools.partial(ELEMENT_WISE[name], **rival_arguments(name, given)) if name in ELEMENT_WISE else None


@contextmanager
def in_place_of_the_loss(trainer: PLMTrainer, name: str, given: Mapping[str, Any] | None) -> Iterator[None]:
    """A context in which the trainer's loss is one of `BATCH_LOSSES`, for each batch separately; nothing is measured.

    Raises:
        ValueError: if the trainer would mask labels, adapt the ideal ratios or accumulate gradients.
    """
    settings = trainer.plm_loss.settings
    if settings.adapts or not settings.starts_at_data or trainer.args.gradient_accumulation_steps > 1:
        raise ValueError(f"the rival '{name}' is of whole batches: use plm_preset='off', and no accumulation")
    loss = functools.partial(BATCH_LOSSES[name], **rival_arguments(name, given))

    def forward(self: PLMLoss, logits: Tensor, labels: Tensor, num_known: Tensor | int | None = None) -> Tensor:
        if self.sparse:
            labels = multi_hot_labels(labels, self.state.num_labels)
        return loss(logits.to(torch.promote_types(logits.dtype, torch.float32)), labels)

    with mock.patch.object(PLMLoss, "forward", forward):
        yield
