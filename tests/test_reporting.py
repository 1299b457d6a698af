"""At the end of training, pictures are saved in the output folder and sent to the trackers."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import scenarios
from matplotlib.figure import Figure
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from transformers import PrinterCallback
from transformers.integrations import (
    TensorBoardCallback,
    TrackioCallback,
    WandbCallback,
    get_reporting_integration_callbacks,
)

import hf_plm.plots
from hf_plm import PLMTrainer, calibrate, count_labels, fold_thresholds, multilabel_compute_metrics, reporting
from hf_plm.reporting import PICTURES, TRACKERS, has_plots, send_plots


@pytest.fixture
def train_trainer(make_bert, make_args):
    def run(callbacks=(), names="abcde", **kwargs):
        data = scenarios.make_rows(64)
        args = make_args(**{"save_strategy": "epoch", "eval_strategy": "epoch", "num_train_epochs": 2, **kwargs})
        compute_metrics = multilabel_compute_metrics(count_labels(data))
        trainer = PLMTrainer(
            make_bert(id2label=dict(enumerate(names)), label2id={name: i for i, name in enumerate(names)}),
            args,
            train_dataset=data,
            eval_dataset=data,
            compute_metrics=compute_metrics,
            callbacks=list(callbacks),
        )
        trainer.train()
        return trainer

    return run


@pytest.fixture
def train(train_trainer):
    return lambda *args, **kwargs: Path(train_trainer(*args, **kwargs).args.output_dir)


@pytest.fixture
def drawn(monkeypatch):
    """The titles of the pictures that were drawn, by the name of the drawing function."""
    titles = {}

    def remember(name, plot):
        def keep(*args):
            figure = plot(*args)
            titles.setdefault(name, []).append(figure.get_suptitle())
            return figure

        return keep

    for name in ("plot_ratios", "plot_calibration", "plot_label_scores"):
        monkeypatch.setattr(hf_plm.plots, name, remember(name, getattr(hf_plm.plots, name)))
    return titles


def test_the_pictures_are_in_the_output_folder(train, rendered):
    plots = {path.name: path.stat().st_size for path in (train() / "plots").iterdir()}
    assert set(plots) == {"ideal_ratios.png", "calibration.png", "label_scores.png"}
    assert min(plots.values()) > 10_000


def test_without_an_evaluation_there_are_no_scores_to_draw(train):
    plots = {path.name for path in (train(eval_strategy="no") / "plots").iterdir()}
    assert plots == {"ideal_ratios.png", "calibration.png"}


def test_a_run_that_saves_nothing_draws_its_pictures(train, with_pictures):
    folder = train(save_strategy="no")
    assert {path.name for path in (folder / "plots").iterdir()} == {f"{name}.png" for name in PICTURES}
    assert not list(folder.glob("*.safetensors")) and not list(folder.glob("checkpoint-*"))


def test_tensorboard_shows_the_pictures(train, tmp_path, monkeypatch):
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "board"))
    train(report_to="tensorboard")
    events = EventAccumulator(str(tmp_path / "board")).Reload()
    assert set(events.Tags()["images"]) == {"plm/ideal_ratios", "plm/calibration", "plm/label_scores"}
    assert events.Images("plm/ideal_ratios")[0].step == 8


@pytest.mark.parametrize(("module", "callback"), [("wandb", WandbCallback), ("trackio", TrackioCallback)])
def test_other_trackers_get_the_pictures_before_they_close(module, callback, train, monkeypatch):
    """The pictures sent to stand-ins for trackers, and when."""
    sent = []

    class Tracker(callback):
        def __init__(self):
            pass

        def setup(self, *args, **kwargs):
            pass

        def on_train_begin(self, *args, **kwargs):
            pass

        def on_log(self, *args, **kwargs):
            pass

        def on_save(self, *args, **kwargs):
            pass

        def on_train_end(self, *args, **kwargs):
            sent.append("closed")

    fake = SimpleNamespace(log=sent.append, Image=lambda path: Path(path).name)
    monkeypatch.setitem(sys.modules, module, fake)
    train([Tracker()])
    assert sent == [
        {"plm/ideal_ratios": "ideal_ratios.png"},
        {"plm/calibration": "calibration.png"},
        {"plm/label_scores": "label_scores.png"},
        "closed",
    ]


def test_the_names_in_report_to_are_the_callbacks_that_send_pictures():
    """`Trainer` makes its own callbacks with these names. Callbacks of other classes get nothing."""
    assert tuple(get_reporting_integration_callbacks(["tensorboard", "trackio", "wandb"])) == TRACKERS


@pytest.fixture
def warned(monkeypatch):
    warnings = []
    monkeypatch.setattr(reporting.logger, "warning", warnings.append)
    return warnings


def test_a_full_disk_while_drawing_gives_a_warning_and_the_model_is_saved(train, warned, monkeypatch):
    def no_space(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Figure, "savefig", no_space)
    folder = train()
    assert len(warned) == 3
    assert all("could not be drawn: [Errno 28] No space left on device" in warning for warning in warned)
    assert (folder / "checkpoint-8" / "model.safetensors").is_file()
    assert list((folder / "plots").iterdir()) == []
    assert [path.name for path in folder.iterdir() if path.name.startswith("_")] == []


def test_if_one_picture_fails_the_others_are_drawn(train, warned, monkeypatch):
    monkeypatch.setattr(hf_plm.plots, "plot_calibration", lambda *args: 1 / 0)
    plots = {path.name for path in (train() / "plots").iterdir()}
    assert plots == {"ideal_ratios.png", "label_scores.png"}
    assert len(warned) == 1 and "calibration.png could not be drawn: division by zero" in warned[0]


def test_a_file_in_place_of_the_folder_gives_a_warning(train, warned, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "plots").write_text("mine")
    assert (train() / "plots").read_text() == "mine"
    assert len(warned) == 3


def test_a_tracker_that_raises_gives_a_warning_and_the_others_get_the_pictures(warned, tmp_path):
    class Down(TensorBoardCallback):
        def __init__(self):
            self.tb_writer = SimpleNamespace(add_image=lambda *args, **kwargs: 1 / 0)

    class Board(TensorBoardCallback):
        def __init__(self):
            self.tb_writer = SimpleNamespace(add_image=lambda name, *args, **kwargs: sent.append(name))

    sent = []
    paths = {name: tmp_path / f"{name}.png" for name in ("one", "other")}
    for path in paths.values():
        Figure().savefig(path)
    send_plots([Down(), PrinterCallback(), Board()], paths, step=3)
    assert sent == ["plm/one", "plm/other"]
    assert len(warned) == 2
    assert f"Down: the picture 'one' could not be sent (division by zero); it is in {paths['one']}" in warned


@pytest.mark.parametrize("names", [["$", "$$", "$$$", r"\frac{$", ""], ["[/]", "\n", "😀", "x" * 2000, "_"]])
def test_names_that_look_like_broken_mathematics_end_no_run(names, train, warned, rendered):
    plots = {path.name for path in (train(names=names) / "plots").iterdir()}
    assert plots == {"ideal_ratios.png", "calibration.png", "label_scores.png"} and warned == []


def test_the_scores_are_drawn_with_the_names_of_the_labels(train, monkeypatch):
    names = ["a", "b", "c", "d", "e"]
    drawn = []
    plot = hf_plm.plots.plot_label_scores
    monkeypatch.setattr(hf_plm.plots, "plot_label_scores", lambda *args: drawn.append(plot(*args)) or drawn[-1])
    train(names=names)
    (figure,) = drawn
    assert {text.get_text()[0] for text in figure.axes[0].get_yticklabels()} == set(names)
    assert figure.get_suptitle().endswith("64 rows, after 8 steps")


def test_a_picture_exists_while_it_is_replaced(train, rendered, monkeypatch):
    """The file is complete at every moment, because an upload in the background may read it."""
    folder = train()
    seen = []
    save = Figure.savefig

    def keep(figure, path, **kwargs):
        seen.append(all((folder / "plots" / f"{name}.png").stat().st_size > 10_000 for name in PICTURES))
        save(figure, path, **kwargs)

    monkeypatch.setattr(Figure, "savefig", keep)
    train()
    assert seen == [True] * 3
    assert [path.name for path in folder.iterdir() if path.name.startswith("_")] == []


def test_scores_are_drawn_again_after_an_evaluation_and_after_new_thresholds(train_trainer, drawn, rendered):
    trainer = train_trainer()
    picture = Path(trainer.args.output_dir) / "plots" / "label_scores.png"
    rows = trainer.eval_dataset.select(range(40))
    found = [picture.read_bytes()]
    for change in (lambda: trainer.evaluate(rows), lambda: trainer.tune_thresholds(rows), trainer.evaluate):
        change()
        found.append(picture.read_bytes())
    assert len(set(found)) == 4
    at_end, evaluated, tuned, evaluated_again = drawn["plot_label_scores"]
    assert "64 rows, after 8 steps" in at_end and "40 rows, after 8 steps" in evaluated
    assert tuned == f"{evaluated}, with different thresholds than now"
    assert evaluated_again == at_end


def test_nothing_is_drawn_again_during_training(train_trainer, drawn):
    trainer = train_trainer()
    trainer.train()
    assert len(drawn["plot_label_scores"]) == 2  # at the end of each training


def test_a_model_is_saved_with_pictures_of_its_probabilities(train_trainer, drawn):
    trainer = train_trainer()
    calibrate(trainer.model, trainer.plm_state)
    trainer.save_model()
    fold_thresholds(trainer.model)
    trainer.save_model()
    trained, calibrated, folded = drawn["plot_calibration"]
    assert trained.endswith("last epoch of training")
    assert calibrated == f"{trained}, after calibrate()" and folded == f"{trained}, before fold_thresholds()"


def test_no_pictures_of_a_different_model_stay_next_to_a_saved_one(train_trainer, make_bert, make_args, tmp_path):
    trainer = train_trainer()
    folder = Path(trainer.args.output_dir)
    other = PLMTrainer(make_bert(), make_args(), train_dataset=trainer.train_dataset)
    before = {path: path.read_bytes() for path in (folder / "plots").iterdir()}
    other.evaluate(trainer.eval_dataset)  # the pictures in the folder are of a different model
    assert {path: path.read_bytes() for path in (folder / "plots").iterdir()} == before and has_plots(folder)
    other.save_model(str(tmp_path / "elsewhere"))
    assert not has_plots(tmp_path / "elsewhere") and has_plots(folder)
    other.save_model()
    assert not has_plots(folder)


def test_training_without_evaluations_removes_pictures_of_earlier_scores(train):
    folder = train()
    assert (folder / "plots" / "label_scores.png").is_file()
    assert train(eval_strategy="no") == folder
    assert {path.name for path in (folder / "plots").iterdir()} == {"ideal_ratios.png", "calibration.png"}


def test_a_picture_that_cannot_be_drawn_again_is_removed_and_the_model_is_saved(train_trainer, warned, monkeypatch):
    trainer = train_trainer()
    (Path(trainer.args.output_dir) / "plots" / "mine.txt").write_text("mine")
    monkeypatch.setattr(hf_plm.plots, "plot_ratios", lambda state: 1 / 0)
    trainer.save_model()
    assert (Path(trainer.args.output_dir) / "model.safetensors").is_file()
    names = {path.name for path in (Path(trainer.args.output_dir) / "plots").iterdir()}
    assert names == {"calibration.png", "label_scores.png", "mine.txt"} and len(warned) == 1


def test_only_one_rank_draws(train_trainer, drawn, monkeypatch):
    trainer = train_trainer()
    monkeypatch.setattr(trainer, "is_world_process_zero", lambda: False)
    trainer.refresh_plots()
    assert len(drawn["plot_ratios"]) == 1
