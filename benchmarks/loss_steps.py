"""The steps that `loss_speed.py` measures: one for each method, forward and backward."""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hf_plm import LabelCounts, MultiLabelCollator, PLMLoss
from hf_plm.objectives import asymmetric, focal

SEED = 0
POSITIVES = 5
"""The mean number of positive labels of a row."""

BASELINE, FLOOR = "BCE", "floor"


def asymmetric_by_autograd(logits: Tensor, labels: Tensor) -> Tensor:
    """The asymmetric loss as a custom objective: autograd computes its derivative."""
    return asymmetric(logits, labels)


PLM: dict[str, dict[str, Any]] = {
    "PLM paper": {"preset": "paper"},  # random masks, on BCE
    "PLM default": {},  # expected masks, on the asymmetric loss
    "PLM random": {"mask": "random"},  # the default with random masks
    "PLM autograd": {"objective": asymmetric_by_autograd},  # the default by autograd, only eager
}
EVALUATION_SHAPE, FEATURES = (64, 100_000), 256


def make_batch(rows: int, num_labels: int, dtype: torch.dtype, device: str) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(SEED)
    logits = (torch.randn(rows, num_labels, generator=generator) * 2 - 4).to(device, dtype)
    labels = torch.rand(rows, num_labels, generator=generator) < POSITIVES / num_labels
    return logits.requires_grad_(), labels.to(device, dtype)


def make_counts(num_labels: int) -> LabelCounts:
    positives = 1_000 // torch.arange(1, num_labels + 1) + 1
    return LabelCounts(positives, 2_000 - positives)


def mean_of(objective: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda logits, labels: objective(logits, labels).mean()


PLAIN = {
    "BCE": F.binary_cross_entropy_with_logits,
    "focal": mean_of(focal),
    "asymmetric": mean_of(asymmetric),
}
EAGER = (*PLAIN, *PLM)
METHODS = [FLOOR, *EAGER, *(f"{name}, compiled" for name in EAGER if name != "PLM autograd")]


@functools.cache
def compiled(name: str) -> Callable[[Tensor, Tensor], Tensor]:
    return torch.compile(PLAIN[name], dynamic=True)


def make_step(method: str, logits: Tensor, labels: Tensor) -> Callable[[], Any]:
    """A function that computes the loss and its gradient once."""
    if method == FLOOR:
        gradient = torch.empty_like(logits)
        return functools.partial(torch.add, logits.detach(), labels, out=gradient)
    name, _, how = method.partition(", ")
    if name in PLM:
        loss: Any = PLMLoss(make_counts(logits.shape[1]), fused=how == "compiled", **PLM[name])
    else:
        loss = compiled(name) if how else PLAIN[name]

    def step() -> None:
        logits.grad = None
        loss(logits, labels).backward()

    return step


def make_evaluation_steps(device: str) -> dict[str, Callable[[], Any]]:
    """A linear classifier's forward pass, and the loss in evaluation on its logits."""
    rows, num_labels = EVALUATION_SHAPE
    logits, labels = make_batch(rows, num_labels, torch.float32, device)
    logits = logits.detach()
    classifier = nn.Linear(FEATURES, num_labels, device=device).requires_grad_(False)
    features = torch.randn(rows, FEATURES, generator=torch.Generator().manual_seed(SEED)).to(device)
    steps: dict[str, Callable[[], Any]] = {"classifier": functools.partial(classifier, features)}
    steps["BCE"] = functools.partial(F.binary_cross_entropy_with_logits, logits, labels)
    for name in ("PLM paper", "PLM default"):
        loss = PLMLoss(make_counts(num_labels), **PLM[name]).eval()
        steps[name] = functools.partial(loss, logits, labels)
    return steps


def make_label_steps(rows: int, num_labels: int, device: str) -> Iterator[tuple[Callable, Callable, int]]:
    """Dense and sparse labels: a step from lists of class ids to loss and gradient, the step without the collator, and
    the number of bytes of a batch's labels."""
    logits, labels = make_batch(rows, num_labels, torch.float32, device)
    features = [{"input": 0.0, "labels": row.nonzero().flatten().tolist()} for row in labels.cpu()]
    del labels
    for sparse in (False, True):
        collator = MultiLabelCollator(num_labels, label_format="ids", sparse=sparse)
        loss = PLMLoss(make_counts(num_labels), fused=True, sparse=sparse)
        collated = collator(features)["labels"]

        def step(loss: nn.Module = loss, collator: MultiLabelCollator = collator) -> None:
            loss(logits, collator(features)["labels"].to(device)).backward()
            logits.grad = None

        def only_loss(loss: nn.Module = loss, labels: Tensor = collated) -> None:
            loss(logits, labels.to(device)).backward()
            logits.grad = None

        yield step, only_loss, collated.numel() * collated.element_size()
