"""Unusual label names, evaluations and callbacks, failing pictures and trackers, and full disks end no training."""

import errno
import re
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from safetensors.torch import load_file
from scenarios import make_rows, named
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from transformers import AutoModelForSequenceClassification, TrainerCallback
from transformers.integrations import TensorBoardCallback

from hf_plm import PLMState, PLMTrainer, multilabel_compute_metrics
from hf_plm.command_line import main as run_hf_plm

ODD_NAMES = {
    "prices": ["$", "$$", "$$$", "$_{", "a$b$c"],
    "markup": ["[red]", "[/]", "[bold]x[/bold]", "</details>", "# heading"],
    "tables": ["a|b", "a\nb", "`code`", "quo\"ted'", "\\"],
    "nothing and much": ["", " ", "x" * 2_000, "\t", "\r\n"],
    "other scripts": ["😀", "日本語", "שלום", "\u202eright to left", "e\u0301"],
    "paths": ["../a", "a/b", "{name}", "%s", "\x00"],
}


@pytest.fixture
def make_trainer(make_bert, make_args):
    """A function that makes a trainer that saves, evaluates and draws."""

    def make(names="abcde", metrics=True, rows=64, eval_dataset=None, callbacks=(), **kwargs):
        data = make_rows(rows)
        defaults = {"save_strategy": "epoch", "eval_strategy": "epoch", "max_steps": 4}
        return PLMTrainer(
            make_bert(**named(names)),
            make_args(**{**defaults, **kwargs}),
            train_dataset=data,
            eval_dataset=eval_dataset if eval_dataset is not None else data,
            compute_metrics=multilabel_compute_metrics(data) if metrics else None,
            callbacks=list(callbacks),
        )

    return make


@pytest.mark.parametrize("names", ODD_NAMES.values(), ids=list(ODD_NAMES))
def test_label_names_may_be_any_text(names, make_trainer, tmp_path, monkeypatch):
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "board"))
    trainer = make_trainer(names, report_to="tensorboard")
    trainer.train()
    trainer.tune_thresholds()
    trainer.evaluate()
    trainer.save_model()
    trainer.create_model_card(model_name="odd")
    folder = Path(trainer.args.output_dir)
    assert {path.name for path in (folder / "plots").iterdir()} >= {"ideal_ratios.png", "label_scores.png"}
    loaded = AutoModelForSequenceClassification.from_pretrained(folder)
    assert list(loaded.config.id2label.values()) == names
    assert PLMState.load(folder / "plm_state.safetensors").label_names == names
    card = (folder / "README.md").read_text()
    rows = re.findall(r"^\| (?!label|---|setting|score).*\|$", card.split("## Labels")[1].split("\n## ")[0], re.M)
    assert len(rows) == 5
    assert len({len(re.findall(r"(?<!\\)\|", row)) for row in rows}) == 1  # no name adds a table column
    assert "plm/label_scores" in EventAccumulator(str(tmp_path / "board")).Reload().Tags()["images"]


@pytest.mark.parametrize("names", ODD_NAMES.values(), ids=list(ODD_NAMES))
def test_label_names_of_any_text_are_drawn(names, make_trainer, rendered):
    trainer = make_trainer(names)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*[Gg]lyph.*")
        trainer.train()
    pictures = {path.name for path in Path(trainer.args.output_dir, "plots").iterdir()}
    assert pictures == {"ideal_ratios.png", "calibration.png", "label_scores.png"}


@pytest.mark.parametrize("names", ODD_NAMES.values(), ids=list(ODD_NAMES))
def test_label_names_of_any_text_are_inspected(names, rendered, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    labels = make_rows(64)["labels"]
    rows = make_rows(64).remove_columns("labels")
    rows = rows.add_column("labels", [[names[i] for i in np.flatnonzero(row)] for row in labels])
    rows.to_parquet(tmp_path / "odd.parquet")
    run_hf_plm(["inspect", str(tmp_path / "odd.parquet"), "--plot", str(tmp_path / "odd.png")])
    shown = capsys.readouterr().out
    assert "\x00" not in shown and "\u202e" not in shown
    assert all(name in shown for name in names if name in ("[red]", "[/]", "[bold]x[/bold]", "$$", "a|b", "😀"))
    assert (tmp_path / "odd.png").stat().st_size > 10_000


def fail_to_draw(self, path, *args, **kwargs):
    raise OSError(errno.ENOSPC, "No space left on device")


class BrokenTracker(TensorBoardCallback):
    """A tracker that is down."""

    def __init__(self):
        super().__init__()

    def on_train_begin(self, *args, **kwargs):
        self.tb_writer = self

    def on_log(self, *args, **kwargs):
        pass

    def on_train_end(self, *args, **kwargs):
        pass

    def add_figure(self, *args, **kwargs):
        raise ConnectionError("the tracker is down")

    add_image = add_figure


@pytest.mark.parametrize("trouble", ["disk", "drawing", "tracker", "folder"])
def test_a_picture_that_cannot_be_drawn_causes_a_warning_and_the_model_is_saved(
    trouble, make_trainer, monkeypatch, messages
):
    callbacks = [BrokenTracker()] if trouble == "tracker" else []
    trainer = make_trainer(callbacks=callbacks)
    if trouble == "disk":
        monkeypatch.setattr(Figure, "savefig", fail_to_draw)
    if trouble == "drawing":
        monkeypatch.setattr("matplotlib.axes.Axes.plot", fail_to_draw)
    folder = Path(trainer.args.output_dir)
    if trouble == "folder":  # a file is where the folder of the pictures should be
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "plots").write_text("")
    assert trainer.train().global_step == 4
    trainer.save_model()
    trainer.create_model_card(model_name="m")
    assert (folder / "model.safetensors").is_file() and (folder / "README.md").is_file()
    expected = {"disk": "No space left", "drawing": "No space left", "tracker": "tracker is down", "folder": "plots"}
    assert expected[trouble] in messages.text
    assert "WARNING" in {record.levelname for record in messages.records}


class SaveInTheMiddle(TrainerCallback):
    """Saves the model in the middle of an epoch, as `Trainer` allows."""

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step in (1, 2):
            self.trainer.save_model(f"{args.output_dir}/middle-{state.global_step}")


def test_a_model_saved_in_the_middle_changes_nothing(make_trainer):
    histories = []
    for callbacks in ([], [SaveInTheMiddle()]):
        trainer = make_trainer(callbacks=callbacks)
        for callback in callbacks:
            callback.trainer = trainer
        trainer.train()
        histories.append((trainer.plm_state.history, trainer.plm_state.histograms))
    assert all(torch.equal(one, other) for one, other in zip(*histories, strict=True))
    middle = PLMState.load(f"{trainer.args.output_dir}/middle-2/plm_state.safetensors")
    assert middle.is_measuring and middle.histograms.sum() == 2 * 16 * 5
    assert load_file(f"{trainer.args.output_dir}/middle-2/model.safetensors")


def test_an_evaluation_without_positives_gives_nan_and_a_warning(make_trainer, messages):
    empty = make_rows(16).remove_columns("labels").add_column("labels", [[0.0] * 5] * 16)
    trainer = make_trainer(eval_dataset=empty)
    trainer.train()
    scores = trainer.evaluate()
    assert np.isnan(scores["eval_macro_f1"]) and np.isnan(scores["eval_map"])
    assert np.isfinite(scores["eval_loss"])
    assert "positive" in messages.text
    assert np.isfinite(trainer.evaluate(make_rows(16))["eval_macro_f1"])
    trainer.create_model_card(model_name="m")


@pytest.mark.parametrize("rows", ["all", "one"])
def test_nan_logits_give_nan_scores_and_a_warning(rows, make_trainer, messages):
    trainer = make_trainer()

    def spoil(module, args, kwargs, outputs):
        logits = outputs.logits.clone()
        logits[: 1 if rows == "one" else None, 2] = torch.nan
        outputs.logits = logits
        return outputs

    handle = trainer.model.register_forward_hook(spoil, with_kwargs=True)
    scores = trainer.evaluate()
    assert all(np.isnan(scores[f"eval_{name}"]) for name in ("macro_f1", "map", "micro_f1", "exact_match"))
    assert "NaN" in messages.text or "nan" in messages.text
    handle.remove()
    assert np.isfinite(trainer.evaluate()["eval_macro_f1"])


@pytest.mark.parametrize("by_batch", [True, False])
def test_nothing_remains_of_an_interrupted_evaluation(by_batch, make_trainer):
    trainer = make_trainer(batch_eval_metrics=by_batch, per_device_eval_batch_size=8)
    expected = trainer.evaluate()["eval_macro_f1"]
    calls = []

    def stop(module, args, kwargs):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt

    handle = trainer.model.register_forward_pre_hook(stop, with_kwargs=True)
    with pytest.raises(KeyboardInterrupt):
        trainer.evaluate(make_rows(64).shuffle(1))
    handle.remove()
    scores = trainer.evaluate()
    assert scores["eval_macro_f1"] == expected
    with pytest.raises(KeyboardInterrupt):
        calls.clear()
        handle = trainer.model.register_forward_pre_hook(stop, with_kwargs=True)
        trainer.evaluate()
    handle.remove()
    assert np.isfinite(trainer.evaluate(make_rows(8))["eval_macro_f1"])


def test_choosing_the_best_model_by_a_nan_score_gives_a_warning(make_trainer, messages):
    empty = make_rows(16).remove_columns("labels").add_column("labels", [[0.0] * 5] * 16)
    arguments = {"load_best_model_at_end": True, "metric_for_best_model": "macro_f1"}
    trainer = make_trainer(eval_dataset=empty, **arguments)
    assert trainer.train().global_step == 4
    assert "metric_for_best_model" in messages.text


def test_picture_and_table_of_the_card_are_of_the_same_evaluation(make_trainer, monkeypatch):
    drawn = {}
    original = Figure.savefig

    def remember(self, path, *args, **kwargs):
        drawn[Path(str(path)).stem.removeprefix("_")] = self
        return original(self, path, *args, **kwargs)

    monkeypatch.setattr(Figure, "savefig", remember)
    trainer = make_trainer(
        max_steps=12, learning_rate=0.3, load_best_model_at_end=True, metric_for_best_model="macro_recall"
    )
    trainer.train()
    logged = [log["eval_macro_recall"] for log in trainer.state.log_history if "eval_macro_recall" in log]
    assert max(logged) != logged[-1]  # else the test would prove nothing: the best model is not the last
    trainer.create_model_card(model_name="m")
    card = Path(trainer.args.output_dir, "README.md").read_text()
    recall = float(re.search(r"\| macro recall \| ([\d.e-]+) \|", card)[1])
    assert recall == pytest.approx(max(logged), rel=1e-3)
    bars = drawn["label_scores"].axes[0].patches
    assert np.mean([bar.get_width() for bar in bars]) == pytest.approx(max(logged), rel=1e-6)
