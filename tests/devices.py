"""Shared by the tests of devices: batches that are the same everywhere, and checks for code that waits."""

from contextlib import contextmanager

import torch
from torch import nn
from transformers import TrainerCallback

import hf_plm.fused
import hf_plm.packed_histograms
from hf_plm import LabelCounts

NUM_LABELS = 37
NUM_BINS = 20
POSITIVES = torch.arange(1, NUM_LABELS + 1) * 10
COUNTS = LabelCounts(POSITIVES, 1000 - POSITIVES)


def make_batch(rows, dtype=torch.float32, seed=0):
    """Logits whose probabilities are well inside the bins, in every precision; a tenth of the labels is unknown."""
    generator = torch.Generator().manual_seed(seed)
    shape = (rows, NUM_LABELS)
    bins = torch.randint(NUM_BINS, shape, generator=generator)
    probabilities = (bins + 0.3 + 0.4 * torch.rand(shape, generator=generator, dtype=torch.float64)) / NUM_BINS
    labels = (torch.rand(shape, generator=generator) < 0.3).float()
    labels[torch.rand(shape, generator=generator) < 0.05] = torch.nan
    labels[torch.rand(shape, generator=generator) < 0.05] = -100
    return torch.logit(probabilities).to(dtype), labels


def loss_and_gradient(plm_loss, logits, labels, device="cpu"):
    """Loss and gradient of a batch that is moved to a device; both are returned on the CPU."""
    values = logits.to(device, copy=True).requires_grad_()
    loss = plm_loss(values, labels.to(device))
    loss.backward()
    return loss.detach().cpu(), values.grad.cpu()


@contextmanager
def never_waiting(device):
    """Code that waits for the device raises an error: on a GPU by PyTorch's check, on "meta" for lack of values."""
    if device == "cuda":
        torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        if device == "cuda":
            torch.cuda.set_sync_debug_mode("default")


def where_waiting_shows(device, monkeypatch):
    """The GPU; or "meta" instead of the CPU, where the same functions run without being compiled."""
    if device == "cuda":
        return "cuda"
    for module in (hf_plm.fused, hf_plm.packed_histograms):
        monkeypatch.setattr(module, "compiled", lambda function: function)
    return "meta"


class NeverWaits(TrainerCallback):
    """From the third step on, a step of training that waits for the GPU is an error: forward, backward, optimizer.

    What `Trainer` does before and after is not tested: copying the batch, and logging.
    """

    def __init__(self):
        self.steps = 0

    def on_step_begin(self, args, state, control, **kwargs):
        if state.global_step >= 2:
            self.steps += 1
            torch.cuda.set_sync_debug_mode("error")

    def on_step_end(self, args, state, control, **kwargs):
        torch.cuda.set_sync_debug_mode("default")


def make_network():
    torch.manual_seed(0)
    return nn.Linear(8, NUM_LABELS)
