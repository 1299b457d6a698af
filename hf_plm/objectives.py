"""Element-wise objectives, `(logits, labels) -> (batch, num_labels)`: each entry is the loss of one label.

`logits` (float, `(batch, num_labels)`) are raw scores, and `labels` (float, the same shape) are 0 or 1. An objective
that requires `positives` and `negatives` gets the label counts (float, `(num_labels,)`): how often each label is 1 and
0 in the training set. To add an objective, write such a function here and add it to `OBJECTIVES`.
"""

import inspect
import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .functional import label_ratio

Objective = Callable[..., Tensor]


def needs_counts(objective: Objective) -> bool:
    """Whether an objective requires `positives` and `negatives`, without a default and not yet bound."""
    function = objective.forward if isinstance(objective, nn.Module) else objective
    try:
        parameters = inspect.signature(function).parameters.values()
    except ValueError:  # a built-in function, or compiled by TorchScript
        return False
    return {"positives", "negatives"} <= {each.name for each in parameters if each.default is each.empty}


def default_arguments(objective: Objective) -> dict[str, float]:
    """The arguments of an objective that have defaults: name -> default."""
    parameters = inspect.signature(objective).parameters.values()
    return {each.name: each.default for each in parameters if each.default is not each.empty}


def binary_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """`-log p` for positives, `-log(1 - p)` for negatives."""
    return F.binary_cross_entropy_with_logits(logits, labels, reduction="none")


def focal(logits: Tensor, labels: Tensor, gamma: float = 2.0) -> Tensor:
    """Focal loss: `-(1 - p_t) ** gamma * log p_t`, where `p_t` is the probability of the true label.

    Source: Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017, Eq. 4.
    """
    _require(gamma >= 0, "gamma", gamma, "0 or more")
    truth_logits = torch.where(labels == 1, logits, -logits)
    return -torch.exp(gamma * F.logsigmoid(-truth_logits)) * F.logsigmoid(truth_logits)


def asymmetric(
    logits: Tensor,
    labels: Tensor,
    gamma_negative: float = 1.0,
    gamma_positive: float = 0.0,
    margin: float = 0.05,
) -> Tensor:
    """Asymmetric loss: `-(1 - p) ** gamma_positive * log p` and `-p_m ** gamma_negative * log(1 - p_m)`.

    `p_m = max(p - margin, 0)` is the shifted probability of a negative. The focusing weights carry no gradient.
    The defaults are those of the `default` preset; the paper uses 4, 1 and 0.05.

    Source: Ridnik et al., "Asymmetric Loss For Multi-Label Classification", ICCV 2021, Eq. 7.
    """
    _require(gamma_negative >= 0, "gamma_negative", gamma_negative, "0 or more")
    _require(gamma_positive >= 0, "gamma_positive", gamma_positive, "0 or more")
    _require(0 <= margin < 1, "margin", margin, "in [0, 1)")
    positive = labels == 1
    truth_logits = torch.where(positive, logits, -logits)
    lowest = math.log(torch.finfo(logits.dtype).tiny) + 1  # below this, p_t underflows and log p_t is the logit
    odds = torch.exp(-truth_logits.masked_fill(truth_logits < lowest, lowest))  # (1 - p_t) / p_t
    inverse = 1 + odds  # 1 / p_t; p_t is 1 - p for negatives
    wrong = (odds / inverse).detach()
    # Only one logarithm for positives and negatives: in a compiled loss it is most of the cost.
    unshifted = positive | (margin == 0)
    logarithms = torch.log(torch.where(unshifted, inverse, (1 / inverse + margin).clamp(max=1)))
    losses = torch.where(unshifted, logarithms + F.relu(lowest - truth_logits), -logarithms)
    return losses * torch.where(positive, wrong**gamma_positive, (wrong - margin).clamp(min=0) ** gamma_negative)


def weighted_bce(
    logits: Tensor, labels: Tensor, positives: Tensor, negatives: Tensor, max_weight: float = 50.0
) -> Tensor:
    """Binary cross-entropy in which a positive has the weight negatives / positives of its class, up to `max_weight`.

    This is `pos_weight` of `torch.nn.BCEWithLogitsLoss`. A class without positives or negatives has the weight 1.
    """
    _require(max_weight >= 1, "max_weight", max_weight, "1 or more")
    ratio = label_ratio(positives, negatives)
    return torch.where(labels == 1, (1 / ratio).clamp(max=max_weight), 1) * binary_cross_entropy(logits, labels)


def class_balanced(
    logits: Tensor, labels: Tensor, positives: Tensor, negatives: Tensor, beta: float = 0.999
) -> Tensor:
    """Binary cross-entropy with each class weighted by `1 / E`, `E = (1 - beta ** positives) / (1 - beta)`.

    `E` is the effective number of samples of the class. The weights have mean 1 over the classes that have positives;
    other classes have the weight 1.

    Source: Cui et al., "Class-Balanced Loss Based on Effective Number of Samples", CVPR 2019,
    Proposition 1.
    """
    _require(0 <= beta < 1, "beta", beta, "in [0, 1)")
    occurs = positives > 0
    log_beta = math.log(beta) if beta > 0 else -math.inf
    weights = occurs / -torch.expm1(positives.clamp(min=1) * log_beta)  # exact for beta near 1
    weights = weights * occurs.sum() / weights.sum().clamp(min=1)
    return torch.where(occurs, weights, 1) * binary_cross_entropy(logits, labels)


def distribution_balanced(
    logits: Tensor,
    labels: Tensor,
    positives: Tensor,
    negatives: Tensor,
    alpha: float = 0.1,
    beta: float = 10.0,
    mu: float = 0.2,
    negative_scale: float = 2.0,
    kappa: float = 0.05,
) -> Tensor:
    """Distribution-balanced loss: re-balanced weights, and a smaller loss for negatives.

    Let `n_k` be the number of positives of label k. Label k of a row has the weight `alpha + sigmoid(beta * (r - mu))`
    with `r = (1 / n_k) / sum(1 / n_i over the row's positive labels i)`; in a row without positives it is `alpha + 1`.
    Each logit is lowered by `kappa * log(1 / p - 1)`, where p is the label's share of positives. The logits of
    negatives are then multiplied by `negative_scale`, and their loss is divided by it. The defaults are those of the
    authors for COCO, without their focal factor; for Pascal VOC they use `mu=0.3` and `negative_scale=5`.

    Source: Wu et al., "Distribution-Balanced Loss for Multi-Label Classification in Long-Tailed Datasets", ECCV 2020,
    Sections 3.1 and 3.2.
    """
    _require(alpha >= 0, "alpha", alpha, "0 or more")
    _require(beta > 0, "beta", beta, "above 0")
    _require(negative_scale > 0, "negative_scale", negative_scale, "above 0")
    _require(kappa >= 0, "kappa", kappa, "0 or more")
    rarity = 1 / positives.clamp(min=1)
    r = rarity / ((labels == 1) * rarity).sum(1, keepdim=True)
    weights = alpha + torch.sigmoid(beta * (r - mu))
    logits = logits + kappa * torch.log(label_ratio(positives, negatives))
    tolerant = F.softplus(negative_scale * logits) / negative_scale
    return weights * torch.where(labels == 1, F.softplus(-logits), tolerant)


def logit_adjusted(logits: Tensor, labels: Tensor, positives: Tensor, negatives: Tensor, tau: float = 0.4) -> Tensor:
    """Binary cross-entropy of `logits + tau * log(positives / negatives)`; predictions use only `logits`.

    With `tau=1` predictions are those for balanced classes. A class without positives or negatives is not adjusted.

    Source: Menon et al., "Long-Tail Learning via Logit Adjustment", ICLR 2021, for sigmoids.
    """
    _require(tau >= 0, "tau", tau, "0 or more")
    return binary_cross_entropy(logits + tau * torch.log(label_ratio(positives, negatives)), labels)


def _require(condition: bool, name: str, value: float, expected: str) -> None:
    if not condition:
        raise ValueError(f"{name} is {value}; it must be {expected}")


OBJECTIVES: dict[str, Objective] = {
    "bce": binary_cross_entropy,
    "focal": focal,
    "asymmetric": asymmetric,
    "weighted_bce": weighted_bce,
    "class_balanced": class_balanced,
    "distribution_balanced": distribution_balanced,
    "logit_adjusted": logit_adjusted,
}
