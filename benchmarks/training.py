"""One run: train a model on a task with some settings, score it, and save the result in a file."""

import functools
import hashlib
import json
import os
import platform
import time
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import accelerate
import datasets
import numpy as np
import torch
import transformers
from rivals import in_place_of_the_loss, rival_arguments, rival_objective
from scipy.special import expit, log_expit, softmax
from sources import Source, Task
from studies import has_one_class_per_row
from tasks import TASKS
from transformers import PrinterCallback, set_seed

import hf_plm
from hf_plm import PLMTrainer, PLMTrainingArguments, tune_thresholds
from hf_plm.functional import BALANCED_EXPONENT
from hf_plm.objectives import OBJECTIVES, default_arguments
from hf_plm.presets import SINGLE_LABEL_PRIORS, PLMSettings
from hf_plm.rules import DRIFT_BOUND, PSEUDO_COUNT
from hf_plm.scores import multilabel_scores

RESULTS = Path(__file__).parent / "results"

WITHOUT_EFFECT = (("update_steps", None), ("mask", "random"), ("class_weight", 0.0), ("prior", None))
"""Settings with values that change nothing; they do not affect the names of files."""


@dataclass(frozen=True)
class Run:
    """A run. The name of its file depends on all its settings, so a changed preset or default never finds old results.

    Attributes:
        task: a name in `TASKS`.
        settings: arguments of `PLMTrainingArguments` that begin with `plm_`, and `rate` (multiplies the task's
            learning rate), `epochs` (replaces the task's) or `longer` (multiplies them), `class_aware` (re-sampling),
            and `rival` with its `rival_kwargs` (see `rivals.py`), in place of `plm_objective`.
        seed: of the weights, the order of the rows and the masks.
    """

    task: str
    settings: Mapping[str, Any]
    seed: int

    def path(self, source: Source) -> Path:
        """The file of the result."""
        text = json.dumps(self.resolved(), sort_keys=True)
        return RESULTS / source.size / self.task / f"{hashlib.sha256(text.encode()).hexdigest()[:10]}-{self.seed}.json"

    def resolved(self) -> dict[str, Any]:
        """The settings with the preset's values in place of its name, and the objective's own arguments."""
        names = [name for name in self.settings if name.startswith("plm_")]
        settings = PLMSettings.from_preset(**{name.removeprefix("plm_"): self.settings[name] for name in names})
        prior = self.settings.get("plm_prior")
        if prior is None and has_one_class_per_row(self.task):
            prior = SINGLE_LABEL_PRIORS.get(self.settings["plm_preset"])
        plm = asdict(settings) | {"prior": prior}
        plm = {name: value for name, value in plm.items() if (name, value) not in WITHOUT_EFFECT}
        if plm["initial_ratio"] != "tempered":
            del plm["temper"]  # it has no effect
        if plm["rule"] == "marginal":
            plm |= {"pseudo_count": PSEUDO_COUNT, "drift_bound": DRIFT_BOUND, "exponent": "separation"}
        if prior == "balanced":
            plm["balanced_exponent"] = BALANCED_EXPONENT
        arguments = default_arguments(OBJECTIVES[plm["objective"]]) | plm["objective_kwargs"]
        plm["objective_kwargs"] = {name: float(value) for name, value in arguments.items()}
        others = {name: value for name, value in self.settings.items() if name not in names}
        if "rival" in others:
            others["rival_kwargs"] = rival_arguments(others["rival"], others.get("rival_kwargs"))
        return {**plm, **others}

    def result(self, source: Source) -> dict[str, Any] | None:
        """The content of the file; None if there is none yet."""
        path = self.path(source)
        return json.loads(path.read_text()) if path.exists() else None


@functools.lru_cache(maxsize=1)
def load_task(name: str, source: Source) -> Task:
    return TASKS[name](source)


def be_quiet() -> None:
    """Hide the progress of single runs: the terminal shows that of all runs."""
    datasets.disable_progress_bars()
    transformers.logging.disable_progress_bar()
    transformers.logging.set_verbosity_error()


def make_run(run: Run, source: Source) -> None:
    """Train, score, and write the result; an interrupted run writes no file."""
    task = load_task(run.task, source)
    start = time.monotonic()
    with TemporaryDirectory() as folder:
        trainer = train(task, run, folder)
        seconds = time.monotonic() - start
        dev, validation = (trainer.predict(part) for part in (task.dev, task.validation))
    shift = trainer.plm_state.shift_in_force.cpu().numpy()
    groups = {name: mask.numpy() for name, mask in task.counts.groups().items()}
    parts = {"dev": dev, "validation": validation}
    if task.is_single_label:
        priors = (task.counts.positives / task.counts.positives.sum()).numpy()
        scores = functools.partial(single_label_scores, groups=groups, priors=priors)
    else:
        thresholds = {aim: tune_thresholds(dev.predictions, dev.label_ids, aim) for aim in ("macro_f1", "micro_f1")}
        scores = functools.partial(label_scores, groups=groups, thresholds=thresholds, shift=shift)
    result = {
        "task": run.task,
        "settings": run.resolved(),
        "seed": run.seed,
        "size": source.size,
        "seconds": round(seconds, 1),
        "scores": {name: scores(part.predictions, part.label_ids) for name, part in parts.items()},
        "median_shift": {name: float(np.median(shift[mask])) for name, mask in groups.items()},
        "versions": {
            module.__name__: module.__version__ for module in (hf_plm, torch, transformers, accelerate, datasets)
        },
        "machine": f"{platform.machine()}, {torch.get_num_threads()} thread(s)"
        + (f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""),
    }
    path = run.path(source)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    rounded = json.loads(json.dumps(result), parse_float=lambda text: round(float(text), 6))
    temporary.write_text(json.dumps(rounded, indent=1))
    os.replace(temporary, path)


def quiet_arguments(task: Task, seed: int) -> dict[str, Any]:
    """The `PLMTrainingArguments` that all trainings on a task share: nothing is saved or reported."""
    return {
        "seed": seed,
        "per_device_train_batch_size": task.batch_size,
        "per_device_eval_batch_size": 256,
        "save_strategy": "no",
        "report_to": "none",
        "remove_unused_columns": False,
        "dataloader_pin_memory": False,
        "disable_tqdm": True,
        "bf16": task.bf16 or torch.cuda.is_available(),
        "use_cpu": task.bf16 and not torch.cuda.is_available(),  # without it, bf16 is refused on a CPU
    }


def train(task: Task, run: Run, folder: str) -> PLMTrainer:
    settings = dict(run.settings)
    rival, rival_kwargs = settings.pop("rival", None), settings.pop("rival_kwargs", None)
    if rival is not None and "plm_objective" in settings:
        raise ValueError(f"the run has both a rival, '{rival}', and plm_objective='{settings['plm_objective']}'")
    objective = None if rival is None else rival_objective(rival, rival_kwargs)
    args = PLMTrainingArguments(
        folder,
        num_train_epochs=settings.pop("epochs", task.epochs) * settings.pop("longer", 1),
        learning_rate=task.learning_rate * settings.pop("rate", 1),
        logging_strategy="no",
        plm_preset=settings.pop("plm_preset"),
        plm_class_aware=settings.pop("class_aware", False),
        **quiet_arguments(task, run.seed),
    )
    for name in [name for name in settings if name.startswith("plm_")]:
        setattr(args, name, settings.pop(name))
    if settings:
        raise ValueError(f"the run has settings that nothing reads: {settings}")
    args.__post_init__()  # checks them
    set_seed(run.seed)
    # Without counts, the trainer counts the drawn rows, and finds that each row has one class.
    counts = None if args.plm_class_aware or task.is_single_label else task.counts
    trainer = PLMTrainer(task.make_model(), args, train_dataset=task.train, label_counts=counts, objective=objective)
    trainer.remove_callback(PrinterCallback)
    with in_place_of_the_loss(trainer, rival, rival_kwargs) if rival and objective is None else nullcontext():
        trainer.train()
    return trainer


def label_scores(
    logits: np.ndarray, labels: np.ndarray, groups: dict, thresholds: dict[str, np.ndarray], shift: np.ndarray
) -> dict[str, float]:
    """`multilabel_scores` at 0.5, macro-F1 and micro-F1 at thresholds tuned for each, and calibration errors."""
    logits = logits.astype(np.float64)
    tuned = {
        f"tuned_{aim}": multilabel_scores(expit(logits - each), labels, groups)[aim]
        for aim, each in thresholds.items()
    }
    return {
        **multilabel_scores(expit(logits), labels, groups),
        **tuned,
        "calibration_error": calibration_error(expit(logits), labels),
        "calibration_error_unshifted": calibration_error(expit(logits - shift), labels),
    }


def single_label_scores(logits: np.ndarray, labels: np.ndarray, groups: dict, priors: np.ndarray) -> dict[str, float]:
    """Top-1 error, over all classes (they are balanced) and over the classes of each group.

    `error_at_data` weights the classes by their frequencies in the training data (`priors`). `corrected_error` and
    `corrected_error_at_data` are errors with logit adjustment at prediction, which divides each probability by its
    prior.
    """
    logits = logits.astype(np.float64)
    one_hot = np.eye(logits.shape[1])[labels]
    predicted, probabilities = logits.argmax(1), softmax(logits, 1)
    corrected = (log_expit(logits) - np.log(priors)).argmax(1)
    weights = priors[labels] / priors[labels].sum()
    errors = {f"{name}_error": (predicted != labels)[mask[labels]].mean() for name, mask in groups.items()}
    return {
        "error": float((predicted != labels).mean()),
        "accuracy": float((predicted == labels).mean()),
        "error_at_data": float(weights @ (predicted != labels)),
        "corrected_error": float((corrected != labels).mean()),
        "corrected_error_at_data": float(weights @ (corrected != labels)),
        "map": multilabel_scores(probabilities, one_hot, {}, threshold=0.5)["map"],
        "calibration_error": calibration_error(probabilities, one_hot),
        **{name: float(error) for name, error in errors.items()},
    }


def calibration_error(probabilities: np.ndarray, labels: np.ndarray, num_bins: int = 15) -> float:
    """Expected calibration error over all entries: the mean difference between a bin's probability and frequency."""
    bins = np.minimum((probabilities * num_bins).astype(int), num_bins - 1).ravel()
    predicted = np.bincount(bins, probabilities.ravel(), num_bins)
    occurred = np.bincount(bins, (labels == 1).ravel(), num_bins)
    return float(np.abs(predicted - occurred).sum() / bins.size)
