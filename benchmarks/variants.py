"""Changes to the method that are tried here and nowhere else: each a context in which a `PLMTrainer` trains."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from unittest import mock

import torch
from sources import Task
from torch import Tensor
from transformers import TrainerCallback

from hf_plm import PLMTrainer, functional
from hf_plm.label_tensors import known_labels

Variant = Callable[[PLMTrainer, Task], AbstractContextManager]


@contextmanager
def expected_mask(trainer: PLMTrainer, task: Task) -> Iterator[None]:
    """Instead of a mask, each label's loss is weighted with the probability that the mask would keep it."""
    objective = trainer.plm_loss.objective

    def weighted(logits: Tensor, labels: Tensor) -> Tensor:
        keep_positive, keep_negative = trainer.plm_state.keep_probabilities()
        return torch.where(labels == 1, keep_positive, keep_negative) * objective(logits, labels)

    trainer.objective, trainer.args.plm_objective_kwargs = weighted, None
    with mock.patch("hf_plm.loss.sample_mask", lambda labels, *args: known_labels(labels)):
        yield


@contextmanager
def held_out(trainer: PLMTrainer, task: Task) -> Iterator[None]:
    """The histograms are measured on `dev` at the end of each epoch, in evaluation mode."""

    class Measure(TrainerCallback):
        def on_epoch_end(self, args, state, control, **kwargs):
            measured = torch.zeros_like(trainer.plm_state.histograms)
            trainer.model.eval()
            for batch in trainer.get_eval_dataloader(task.dev):
                labels = batch.pop("labels")
                with torch.no_grad():
                    logits = trainer.model(**batch)["logits"]
                measured += functional.probability_histograms(logits, labels, measured.shape[-1])
            trainer.model.train()
            trainer.plm_state.histograms.copy_(measured)

    update = next(
        callback for callback in trainer.callback_handler.callbacks if type(callback).__name__ == "PLMCallback"
    )
    trainer.remove_callback(update)
    trainer.add_callback(Measure())
    trainer.add_callback(update)
    yield


def smoothed(pseudo_count: float) -> Variant:
    """Rule `marginal` with both counts raised: a class with few positives moves less."""

    @contextmanager
    def variant(trainer: PLMTrainer, task: Task) -> Iterator[None]:
        def factor(histograms: Tensor, change_rate: float) -> Tensor:
            positives = histograms[0].sum(-1) + pseudo_count
            predicted = functional.predicted_positives(histograms) + pseudo_count
            return ((positives / predicted) ** change_rate).clamp(1 / functional.FACTOR_BOUND, functional.FACTOR_BOUND)

        with mock.patch("hf_plm.functional.marginal_factor", factor):
            yield

    return variant


def pooled(num_groups: int) -> Variant:
    """Rule `marginal` with the counts of classes of similar frequency added up, so that each group moves as one."""

    @contextmanager
    def variant(trainer: PLMTrainer, task: Task) -> Iterator[None]:
        order = torch.argsort(trainer.plm_state.positives, descending=True)
        group = torch.empty_like(order)
        group[order] = torch.arange(len(order)) * num_groups // len(order)

        def factor(histograms: Tensor, change_rate: float) -> Tensor:
            sums = [
                torch.zeros(num_groups, device=group.device).index_add_(0, group, counts.float())
                for counts in (histograms[0].sum(-1), functional.predicted_positives(histograms))
            ]
            ratio = (sums[0] / sums[1].clamp(min=0.5)) ** change_rate
            return ratio.clamp(1 / functional.FACTOR_BOUND, functional.FACTOR_BOUND)[group]

        with mock.patch("hf_plm.functional.marginal_factor", factor):
            yield

    return variant


VARIANTS: dict[str, Variant] = {
    "expected mask": expected_mask,
    "held out": held_out,
    "smoothed 20": smoothed(20),
    "pooled 5": pooled(5),
}
