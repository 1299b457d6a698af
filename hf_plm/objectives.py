"""Element-wise objectives, `(logits, labels) -> (batch, num_labels)`: each entry the loss of one label.

`logits` (float, `(batch, num_labels)`) are raw scores, `labels` (float, the same shape) are 0 or 1. To add an
objective, write such a function here and name it in `OBJECTIVES`.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

Objective = Callable[[Tensor, Tensor], Tensor]


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
    The defaults are those of the `default` preset; the paper's own are 4, 1 and 0.05.

    Source: Ridnik et al., "Asymmetric Loss For Multi-Label Classification", ICCV 2021, Eq. 7.
    """
    _require(gamma_negative >= 0, "gamma_negative", gamma_negative, "0 or more")
    _require(gamma_positive >= 0, "gamma_positive", gamma_positive, "0 or more")
    _require(0 <= margin < 1, "margin", margin, "in [0, 1)")
    probabilities = torch.sigmoid(logits.detach())
    positive_weight = (1 - probabilities) ** gamma_positive
    negative_weight = (probabilities - margin).clamp(min=0) ** gamma_negative
    if margin == 0:
        log_negative = F.logsigmoid(-logits)  # exact where 1 - p underflows
    else:
        log_negative = torch.log((torch.sigmoid(-logits) + margin).clamp(max=1))
    return -torch.where(labels == 1, positive_weight * F.logsigmoid(logits), negative_weight * log_negative)


def _require(condition: bool, name: str, value: float, expected: str) -> None:
    if not condition:
        raise ValueError(f"{name} is {value}; it must be {expected}")


OBJECTIVES: dict[str, Callable[..., Tensor]] = {
    "bce": binary_cross_entropy,
    "focal": focal,
    "asymmetric": asymmetric,
}
