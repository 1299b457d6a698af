"""The pictures of a training run: into the output folder, and to the trackers that `report_to` names."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from matplotlib.figure import Figure
from transformers.integrations import TensorBoardCallback, TrackioCallback, WandbCallback

from .label_counts import LabelCounts
from .plots import plot_calibration, plot_label_scores, plot_ratios

if TYPE_CHECKING:
    from .trainer import PLMTrainer

TRACKERS = (TensorBoardCallback, TrackioCallback, WandbCallback)
"""The callbacks whose trackers show pictures."""

PLOTS_FOLDER = "plots"


def report_plots(trainer: "PLMTrainer") -> None:
    """Draw how the run went into `plots/` of the output folder, and send it to the trackers in use.

    `ideal_ratios.png`, `calibration.png` and, if `compute_metrics` is that of `multilabel_compute_metrics` and there
    was an evaluation, `label_scores.png`.
    """
    folder = Path(trainer.args.output_dir or ".") / PLOTS_FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    for name, figure in training_plots(trainer).items():
        path = folder / f"{name}.png"
        figure.savefig(path, dpi=130)
        send(trainer, name, figure, path)


def training_plots(trainer: "PLMTrainer") -> dict[str, Figure]:
    """The pictures of a run by name."""
    state = trainer.plm_state
    figures = {"ideal_ratios": plot_ratios(state), "calibration": plot_calibration(state)}
    label_scores = getattr(trainer.compute_metrics, "label_scores", None)
    if label_scores is not None:
        names = trainer.label_counts.label_names
        counts = LabelCounts(state.positives.cpu(), state.negatives.cpu(), names)
        figures["label_scores"] = plot_label_scores({"last evaluation": label_scores}, counts)
    return figures


def send(trainer: "PLMTrainer", name: str, figure: Figure, path: os.PathLike) -> None:
    """A picture to every tracker in use, under `plm/`."""
    name = f"plm/{name}"
    for callback in trainer.callback_handler.callbacks:
        if isinstance(callback, TensorBoardCallback) and callback.tb_writer is not None:
            callback.tb_writer.add_figure(name, figure, trainer.state.global_step)
        elif isinstance(callback, WandbCallback):
            import wandb

            wandb.log({name: wandb.Image(str(path))})
        elif isinstance(callback, TrackioCallback):
            import trackio

            trackio.log({name: trackio.Image(str(path))})
