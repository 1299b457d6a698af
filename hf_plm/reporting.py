"""Puts the pictures of a training run into the output folder, and sends them to the trackers in `report_to`."""

import contextlib
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback
from transformers.integrations.integration_utils import TensorBoardCallback, TrackioCallback, WandbCallback
from transformers.utils import logging

from .run_facts import RunFacts

if TYPE_CHECKING:
    from matplotlib.figure import Figure

logger = logging.get_logger(__name__)

TRACKERS = (TensorBoardCallback, TrackioCallback, WandbCallback)
"""The callbacks of the trackers that show pictures."""

PLOTS_FOLDER = "plots"
PICTURES = ("ideal_ratios", "calibration", "label_scores")


def has_plots(folder: str | os.PathLike[str]) -> bool:
    """Whether a folder has pictures of `draw_plots`."""
    return any((Path(folder) / PLOTS_FOLDER / f"{name}.png").is_file() for name in PICTURES)


def draw_plots(facts: RunFacts, folder: str | os.PathLike[str]) -> dict[str, Path]:
    """Draw the pictures of a run into `plots/` of a folder, and remove pictures of an earlier run or model.

    `ideal_ratios.png` and `calibration.png` are drawn if at least one batch was trained on; `label_scores.png` if the
    evaluation has scores of each label. An earlier picture stays until the new file is complete. If a picture cannot
    be drawn, a warning is logged, and the others are still drawn. Without matplotlib there is only a warning.

    Returns:
        name -> path of each picture that was drawn.
    """
    paths = {name: Path(folder) / PLOTS_FOLDER / f"{name}.png" for name in PICTURES}
    try:
        pictures = _pictures(facts)
    except ModuleNotFoundError as error:
        logger.warning_once(f"No pictures are drawn: {error}")
        pictures = {}
    drawn = {name: paths[name] for name, plot in pictures.items() if _draw(plot, paths[name])}
    for name in PICTURES:
        if name not in drawn:
            with contextlib.suppress(OSError):
                paths[name].unlink()
    return drawn


def send_plots(callbacks: Iterable[TrainerCallback], paths: Mapping[str, Path], step: int) -> None:
    """Send pictures to every tracker in use, under `plm/`; if a tracker refuses one, a warning is logged.

    Args:
        callbacks: the callbacks of a trainer; those that are not trackers for pictures are ignored.
        paths: name -> a png file.
        step: the training step after which the pictures were drawn.
    """
    for callback in callbacks:
        for name, path in paths.items():
            try:
                _send(callback, f"plm/{name}", path, step)
            except Exception as error:  # a tracker may raise anything
                logger.warning(
                    f"{type(callback).__name__}: the picture '{name}' could not be sent ({error}); it is in {path}"
                )


def guard_tracker(tracker: TrainerCallback) -> TrainerCallback:
    """Turn a tracker's errors into warnings, so that training continues; errors at its start still end it."""

    def guarded(event: Callable[..., Any]) -> Callable[..., Any]:
        def warn_instead(*args: Any, **kwargs: Any) -> Any:
            try:
                return event(*args, **kwargs)
            except Exception as error:  # a tracker may raise anything
                logger.warning(f"{type(tracker).__name__} failed ({error}) and lost its data; training continues")

        return warn_instead

    for name in ("on_log", "on_save", "on_evaluate", "on_predict", "on_train_end"):
        setattr(tracker, name, guarded(getattr(tracker, name)))
    return tracker


def _pictures(facts: RunFacts) -> "dict[str, Callable[[], Figure]]":
    """The functions that draw the pictures of a run. Raises a ModuleNotFoundError without matplotlib."""
    from . import plots  # matplotlib takes a second to import, and need not be installed

    pictures: dict[str, Callable[[], Figure]] = {}
    if facts.state.num_batches:
        pictures["ideal_ratios"] = lambda: plots.plot_ratios(facts.state)
        pictures["calibration"] = lambda: plots.plot_calibration(facts.state, facts.decisions.scores)
    evaluation = facts.evaluation
    if evaluation is not None and (scores := evaluation.label_scores) is not None:
        note = ", with different thresholds than now" if facts.was_decided_otherwise else ""
        title = f"{evaluation.data}, after {evaluation.step:,} steps{note}"
        pictures["label_scores"] = lambda: plots.plot_label_scores({"evaluation": scores}, facts.label_counts, title)
    return pictures


def _draw(plot: "Callable[[], Figure]", path: Path) -> bool:
    """Replace a picture file by the figure of `plot`, completely or not at all. Returns whether that worked."""
    temporary = path.parent.parent / f"_{path.name}"  # uploads leave out names that begin with _
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        plot().savefig(temporary, dpi=130)
        os.replace(temporary, path)
    except Exception as error:  # a full disk, a font, matplotlib: the model is worth more than its picture
        with contextlib.suppress(OSError):
            temporary.unlink()
        logger.warning(f"The picture {path} could not be drawn: {error}")
        return False
    return True


def _send(callback: Any, name: str, path: Path, step: int) -> None:
    """Send a picture to one tracker."""
    if isinstance(callback, TensorBoardCallback) and callback.tb_writer is not None:
        from matplotlib.image import imread  # installed, because it drew the picture

        callback.tb_writer.add_image(name, imread(path), step, dataformats="HWC")
    elif isinstance(callback, WandbCallback):
        import wandb

        wandb.log({name: wandb.Image(str(path))})
    elif isinstance(callback, TrackioCallback):
        import trackio

        trackio.log({name: trackio.Image(str(path))})
