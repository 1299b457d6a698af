"""A terminal shows a few metrics and predicted rates; logs, trackers and `evaluate` have all values."""

import ast

import pytest
import scenarios
import torch
from transformers import PrinterCallback, ProgressCallback, TrainerCallback

from hf_plm import LabelCounts, PLMTrainer, multilabel_compute_metrics
from hf_plm.callback import SUMMARY_DETAILS
from hf_plm.metrics import MultiLabelMetrics
from hf_plm.scores import detail_scores
from hf_plm.short_logs import shorten_logs

SHOWN = ["loss", "map", "micro_f1", "macro_f1", "labels_never_predicted", "head_f1", "medium_f1", "tail_f1"]


class Tracker(TrainerCallback):
    """Keeps all logs and metrics that it gets."""

    def __init__(self):
        self.logs, self.metrics = [], []

    def on_log(self, args, state, control, logs=None, **kwargs):
        self.logs.append(dict(logs))

    def on_evaluate(self, args, state, control, metrics=None, **kwargs):
        self.metrics.append(dict(metrics))


@pytest.fixture
def make_trainer(make_bert, make_args):
    def make(metrics=multilabel_compute_metrics, eval_dataset=None, **kwargs):
        rows = scenarios.make_rows(32)
        return PLMTrainer(
            make_bert(),
            make_args(**kwargs),
            train_dataset=rows,
            eval_dataset=eval_dataset or rows,
            compute_metrics=metrics and metrics(rows_counts()),
            callbacks=[Tracker()],
        )

    return make


def rows_counts():
    return LabelCounts([16, 12, 9, 5, 2], [16, 20, 23, 27, 30])


def shown(prefix="eval"):
    return {*(f"{prefix}_{name}" for name in SHOWN), "epoch"}


def printed_logs(text):
    """The printed dictionaries with keys that begin with `eval_`."""
    logs = [ast.literal_eval(line) for line in text.splitlines() if line.startswith("{")]
    return [log for log in logs if any(key.startswith("eval_") for key in log)]


def tracker_of(trainer):
    return trainer.pop_callback(Tracker)


@pytest.mark.parametrize("disable_tqdm", [True, False])
def test_a_few_metrics_are_printed_and_all_are_kept(disable_tqdm, make_trainer, capsys):
    trainer = make_trainer(eval_strategy="epoch", disable_tqdm=disable_tqdm)
    trainer.train()
    (printed,) = printed_logs(capsys.readouterr().out)
    assert set(printed) == shown()
    everything = {f"eval_{name}" for name in MultiLabelMetrics(rows_counts()).compute(**one_row())}
    everything |= {"eval_loss", "eval_runtime", "eval_samples_per_second", "eval_steps_per_second", "epoch"}
    returned, tracker = trainer.evaluate(), tracker_of(trainer)
    logged = [log for log in trainer.state.log_history if "eval_loss" in log]
    sent = [log for log in tracker.logs if "eval_loss" in log]
    assert printed["eval_macro_f1"] == f"{logged[0]['eval_macro_f1']:.4g}"
    for each in (returned, *logged, *sent, *tracker.metrics):
        assert everything <= set(each)
    assert len(logged) == len(sent) == len(tracker.metrics) == 2


def one_row():
    return {"scores": [[0.1] * 5], "references": [[1, 0, 1, 0, 1]]}


def test_the_scores_hidden_from_the_terminal_exist():
    groups = ("head", "medium", "tail")
    scores = MultiLabelMetrics(rows_counts()).compute(**one_row())
    assert set(scores) - detail_scores(groups) == {*SHOWN} - {"loss"}
    assert detail_scores(groups) <= set(scores)


def test_the_metric_that_chooses_the_best_model_is_shown(make_trainer, capsys):
    make_trainer(metric_for_best_model="tail_recall").evaluate()
    (printed,) = printed_logs(capsys.readouterr().out)
    assert set(printed) == shown() | {"eval_tail_recall"}


def test_custom_scores_and_groups_are_shown(make_trainer, capsys):
    groups = {"warm": torch.tensor([1, 1, 0, 0, 0])}

    def metrics(counts):
        return multilabel_compute_metrics(counts, groups=groups, extra=lambda prediction: {"own_recall": 0.5})

    make_trainer(metrics).evaluate()
    (printed,) = printed_logs(capsys.readouterr().out)
    assert {"eval_own_recall", "eval_warm_f1"} <= set(printed)
    assert not {"eval_warm_recall", "eval_macro_recall"} & set(printed)
    own = make_trainer(lambda counts: lambda prediction: {"macro_recall": 0.25})
    own.evaluate()
    (printed,) = printed_logs(capsys.readouterr().out)
    assert set(printed) == {"eval_loss", "eval_macro_recall", "epoch"}


def test_each_of_several_sets_has_a_short_log(make_trainer, capsys):
    rows = scenarios.make_rows(8)
    make_trainer(eval_dataset={"one": rows, "two": rows}).evaluate()
    printed = printed_logs(capsys.readouterr().out)
    for log, name in zip(printed, ("one", "two"), strict=True):
        assert set(log) == shown(f"eval_{name}")


def test_callbacks_that_print_can_still_be_removed_by_class(make_trainer, capsys):
    trainer = make_trainer(disable_tqdm=True)
    assert isinstance(trainer.pop_callback(PrinterCallback), PrinterCallback)
    assert isinstance(make_trainer(disable_tqdm=False).pop_callback(ProgressCallback), ProgressCallback)
    trainer.train()
    trainer.evaluate()
    assert printed_logs(capsys.readouterr().out) == []


@pytest.mark.parametrize("update_steps", [None, 1])
def test_the_terminal_shows_only_the_predicted_rates(update_steps, make_trainer, capsys):
    trainer = make_trainer(logging_steps=1, plm_update_steps=update_steps)
    trainer.train()
    lines = [ast.literal_eval(line) for line in capsys.readouterr().out.splitlines() if line.startswith("{")]
    printed = [line for line in lines if "plm/labels_never_predicted" in line]
    rates = {f"plm/{group}_predicted_rate" for group in ("head", "medium", "tail")}
    assert [set(line) for line in printed] == [{*rates, "plm/labels_never_predicted", "epoch"}] * len(printed)
    logged = [log for log in trainer.state.log_history if "plm/tail_shift" in log]
    sent = [log for log in tracker_of(trainer).logs if "plm/tail_shift" in log]
    assert len(printed) == len(logged) == len(sent) == trainer.plm_state.num_updates > 0
    everything = {*rates, "plm/labels_never_predicted", *SUMMARY_DETAILS}
    assert all({key for key in log if key.startswith("plm/")} == everything for log in [*logged, *sent])


def test_training_logs_are_printed_in_full(make_trainer, capsys):
    trainer = make_trainer(logging_steps=1, eval_strategy="epoch")
    trainer.train()
    lines = [ast.literal_eval(line) for line in capsys.readouterr().out.splitlines() if line.startswith("{")]
    assert any({"loss", "grad_norm", "learning_rate", "epoch"} == set(line) for line in lines)
    assert any({"train_runtime", "train_samples_per_second"} <= set(line) for line in lines)


def test_a_notebooks_table_has_the_few_metrics(make_trainer):
    """The callback of notebooks reads the metrics of `on_evaluate`, and removes some of them."""

    class Notebook(Tracker):
        def on_evaluate(self, args, state, control, metrics=None, **kwargs):
            super().on_evaluate(args, state, control, metrics)
            metrics.clear()

    notebook, trainer = Notebook(), make_trainer()
    trainer.add_callback(shorten_logs(notebook, trainer.left_out_of_short_logs))
    returned = trainer.evaluate()
    assert set(notebook.metrics[0]) == shown()
    assert "eval_macro_recall" in returned
