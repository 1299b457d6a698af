"""The model card that `PLMTrainer` writes: what a trained model is, how well it does, and how to use it."""

from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import accelerate
import datasets
import numpy as np
import torch
import transformers
from huggingface_hub import EvalResult, ModelCard, ModelCardData
from transformers.trainer_utils import has_length

from .label_setup import own_label_names
from .objectives import OBJECTIVES, default_arguments
from .reporting import PLOTS_FOLDER

if TYPE_CHECKING:
    from .trainer import PLMTrainer

PIPELINES = {
    "input_ids": ("text-classification", "AutoModelForSequenceClassification", '"a text", top_k=None'),
    "pixel_values": (
        "image-classification",
        "AutoModelForImageClassification",
        '"picture.png", top_k=tagger.model.config.num_labels',
    ),
}
"""By the model's main input: the pipeline, the class of the model, and how the pipeline gives every label."""

METRICS = {
    "micro_f1": "micro-F1",
    "macro_f1": "macro-F1",
    "map": "mAP",
    "exact_match": "exact match",
    "micro_precision": "micro precision",
    "micro_recall": "micro recall",
    "macro_precision": "macro precision",
    "macro_recall": "macro recall",
    "labels_never_predicted": "labels never predicted",
    "f1": "F1",
}
"""Scores and what to call them; a score of another name is called by it."""

GROUPS = ("head", "medium", "tail")
SPEED = ("runtime", "samples_per_second", "steps_per_second", "model_preparation_time")
"""What an evaluation measures of itself."""

FOLDED_FROM = 51
"""A table of so many labels or more is folded."""

CITATION = """@inproceedings{duarte2021plm,
  title     = {{PLM}: Partial Label Masking for Imbalanced Multi-label Classification},
  author    = {Duarte, Kevin and Rawat, Yogesh S. and Shah, Mubarak},
  booktitle = {IEEE/CVF Conference on Computer Vision and Pattern Recognition Workshops (CVPRW)},
  pages     = {2739--2748},
  year      = {2021}
}"""


def make_model_card(
    trainer: "PLMTrainer",
    name: str,
    language: str | None = None,
    license: str | None = None,
    tags: Sequence[str] = (),
    finetuned_from: str | None = None,
    tasks: Sequence[str] = (),
    dataset: Sequence[str] = (),
) -> ModelCard:
    """The card of a trainer's model. A section of which nothing is known is left out.

    Args:
        name: of the model.
        language, license, tags, finetuned_from, tasks, dataset: as for `Trainer.create_model_card`. `finetuned_from`
            is known already if the model was loaded from the Hub.
    """
    pipeline = PIPELINES.get(getattr(trainer.model, "main_input_name", ""))
    finetuned_from = finetuned_from or _base_model(trainer.model)
    scores = scores_of_model(trainer)
    data = ModelCardData(
        model_name=name,
        language=language,
        license=license,
        library_name="peft" if _is_adapter(trainer.model) else "transformers",
        pipeline_tag=pipeline[0] if pipeline else None,
        base_model=finetuned_from,
        datasets=list(dataset) or None,
        metrics=[key for key in scores if key in METRICS] or None,
        tags=sorted({"hf_plm", "partial-label-masking", "imbalanced-data", *_kind(trainer).split()[:1], *tags}),
        eval_results=_eval_results(scores, [*tasks, *(pipeline or ("other",))][0], dataset) or None,
    )
    sections = (
        f"# {name}\n\n{_introduction(trainer, finetuned_from, dataset)}",
        _scores_section(trainer, scores),
        _labels_section(trainer, scores),
        _use_section(trainer, name, pipeline, finetuned_from),
        _training_section(trainer),
        "" if _masks_nothing(trainer) else f"## Citation\n\n```bibtex\n{CITATION}\n```",
    )
    return ModelCard(f"---\n{data.to_yaml()}\n---\n\n" + "\n\n".join(filter(None, sections)) + "\n")


def scores_of_model(trainer: "PLMTrainer") -> dict[str, float]:
    """The scores of the last evaluation of this model without the prefix `eval_`; empty if there was none.

    With `load_best_model_at_end` the model is that of the best step again when training ends.
    """
    step = None
    for log in reversed(trainer.state.log_history):
        if "train_runtime" in log and trainer.args.load_best_model_at_end:
            step = trainer.state.best_global_step
        scores = {key.removeprefix("eval_"): value for key, value in log.items() if key.startswith("eval_")}
        if scores and step in (None, log.get("step")):
            return {key: value for key, value in scores.items() if not key.endswith(SPEED)}
    return {}


def _kind(trainer: "PLMTrainer") -> str:
    single = getattr(getattr(trainer.model, "config", None), "problem_type", None) == "single_label_classification"
    return "single-label classifier" if single else "multi-label classifier"


def _is_adapter(model: Any) -> bool:
    """Whether it is a model of peft, of which the adapters alone are saved."""
    return hasattr(model, "active_peft_config")


def _base_model(model: Any) -> str | None:
    """The name of the model on the Hub that training started from."""
    if _is_adapter(model):
        name = model.active_peft_config.base_model_name_or_path
    else:
        name = getattr(getattr(model, "config", None), "name_or_path", "")
    return name if name and not Path(name).exists() else None


def _eval_results(scores: Mapping[str, float], task: str, dataset: Sequence[str]) -> list[EvalResult]:
    name = dataset[0] if dataset else "held-out data"
    return [
        EvalResult(
            task_type=task,
            dataset_type=name,
            dataset_name=name,
            metric_type=key,
            metric_name=METRICS.get(key, key.replace("_", " ")),
            metric_value=round(value, 4),
        )
        for key, value in scores.items()
        if np.isfinite(value)
    ]


def _introduction(trainer: "PLMTrainer", finetuned_from: str | None, dataset: Sequence[str]) -> str:
    base = f", fine-tuned from [{finetuned_from}](https://huggingface.co/{finetuned_from})" if finetuned_from else ""
    data = f" on {', '.join(dataset)}" if dataset else ""
    if _masks_nothing(trainer):
        how = "plain training: no label was masked."
    else:
        how = (
            "[Partial Label Masking](https://arxiv.org/abs/2105.10782): labels are masked out of the loss at random, "
            "so that rare ones are not drowned by their negatives."
        )
    return (
        f"A {_kind(trainer)} of {trainer.label_counts.num_labels:,} labels{base}, trained{data} with hf_plm by {how}"
    )


def _masks_nothing(trainer: "PLMTrainer") -> bool:
    settings = trainer.plm_loss.settings
    return settings.initial_ratio == "dataset" and (settings.rule == "fixed" or settings.change_rate == 0)


def _scores_section(trainer: "PLMTrainer", scores: Mapping[str, float]) -> str:
    """The last evaluation: what is about all labels, and a line for each group of labels."""
    if not scores:
        return ""
    grouped = {key for key in scores if key.startswith(tuple(f"{group}_" for group in GROUPS))}
    overall = [(METRICS.get(key, key), f"{value:.4g}") for key, value in scores.items() if key not in grouped]
    text = "## Scores\n\nOf the last evaluation.\n\n" + _table(("score", "value"), overall)
    columns = [key.removeprefix("head_") for key in scores if key.startswith("head_")]
    if columns:
        rows = [(group, *(f"{scores.get(f'{group}_{column}', np.nan):.3f}" for column in columns)) for group in GROUPS]
        text += (
            "\n\nMeans over the tenth of the labels that is most frequent in training (head), the half that is rarest "
            "(tail), and the rest:\n\n" + _table(("labels", *(METRICS.get(each, each) for each in columns)), rows)
        )
    return text + "".join(_plot(trainer, each) for each in ("label_scores", "calibration"))


def _labels_section(trainer: "PLMTrainer", scores: Mapping[str, float]) -> str:
    """A line for each label, from frequent to rare; with its scores if they are of the evaluation of `scores`."""
    counts = trainer.label_counts
    names = counts.label_names or own_label_names(getattr(trainer.model, "config", None))
    names = names or [f"LABEL_{index}" for index in range(counts.num_labels)]
    columns: dict[str, list[str]] = {"positives in training": [f"{count:,}" for count in counts.positives.tolist()]}
    each = getattr(trainer.compute_metrics, "label_scores", None)
    if each is not None and np.isclose(np.nanmean(each.f1), scores.get("macro_f1", np.nan)):
        columns["in evaluation"] = [f"{count:,}" for count in each.positives.tolist()]
        for name, key in (("precision", "precision"), ("recall", "recall"), ("F1", "f1"), ("AP", "average_precision")):
            columns[name] = ["" if np.isnan(value) else f"{value:.3f}" for value in getattr(each, key)]
    thresholds = getattr(getattr(trainer.model, "config", None), "plm_thresholds", None)
    if thresholds is not None:
        columns["threshold"] = [f"{threshold:.3f}" for threshold in thresholds]
    order = torch.sort(counts.positives, descending=True, stable=True).indices.tolist()
    rows = [(names[index].replace("|", "\\|"), *(values[index] for values in columns.values())) for index in order]
    table = _table(("label", *columns), rows)
    if len(rows) >= FOLDED_FROM:
        table = f"<details><summary>{len(rows):,} labels, from frequent to rare</summary>\n\n{table}\n\n</details>"
    return f"## Labels\n\n{table}"


def _use_section(
    trainer: "PLMTrainer", name: str, pipeline: tuple[str, str, str] | None, finetuned_from: str | None
) -> str:
    """How to load it: with transformers alone, and with its thresholds."""
    if pipeline is None or (_is_adapter(trainer.model) and finetuned_from is None):
        return ""
    kind, model_class, example = pipeline
    repository = trainer.hub_model_id or name
    if _is_adapter(trainer.model):
        num_labels = trainer.label_counts.num_labels
        code = (
            f"from peft import PeftModel\nfrom transformers import {model_class}\n\n"
            f'model = {model_class}.from_pretrained("{finetuned_from}", num_labels={num_labels})\n'
            f'model = PeftModel.from_pretrained(model, "{repository}")'
        )
    else:
        code = (
            f'from transformers import pipeline\n\ntagger = pipeline("{kind}", "{repository}")\n'
            f"tagger({example})  # every label, with its score"
        )
    text = f"## Use\n\n```python\n{code}\n```"
    config = getattr(trainer.model, "config", None)
    if getattr(config, "plm_thresholds", None) is not None:
        text += (
            "\n\nA label is predicted where its score reaches its threshold (in the table above, and in "
            "`config.plm_thresholds`). `hf_plm.predict(model, inputs)` does that."
        )
    if getattr(config, "plm_calibrated", False):
        text += "\n\nThe scores are calibrated: they are probabilities for the frequencies of the training data."
    return text


def _training_section(trainer: "PLMTrainer") -> str:
    """Settings of the method, of the optimizer, and versions."""
    args, settings = trainer.args, trainer.plm_loss.settings
    start = f"R ^ {settings.temper}" if settings.initial_ratio == "tempered" else str(settings.initial_ratio)
    batch = args.train_batch_size * args.gradient_accumulation_steps * args.world_size
    rows = {
        "initial ideal ratio": start,
        "rule and rate": f"{settings.rule}, {settings.change_rate}",
        "bins of the histograms": settings.num_bins,
        "objective": _objective(trainer),
        "class-aware re-sampling": "yes" if getattr(args, "plm_class_aware", False) else None,
        "training rows": f"{len(trainer.train_dataset):,}" if has_length(trainer.train_dataset) else None,
        "steps": f"{trainer.state.global_step:,}" if trainer.state.global_step else None,
        "epochs": f"{trainer.state.epoch:g}" if trainer.state.epoch else None,
        "batch": batch,
        "learning rate": f"{args.learning_rate:g}, {_value(args.lr_scheduler_type)}",
        "optimizer": _value(args.optim),
        "precision": "bfloat16" if args.bf16 else "float16" if args.fp16 else "float32",
        "seed": args.seed,
        "versions": f"hf_plm {metadata.version('hf_plm')}, "
        + ", ".join(f"{each.__name__} {each.__version__}" for each in (transformers, torch, accelerate, datasets)),
    }
    table = _table(("setting", "value"), [(key, value) for key, value in rows.items() if value is not None])
    return f"## Training\n\n{table}" + _plot(trainer, "ideal_ratios")


def _objective(trainer: "PLMTrainer") -> str:
    """The name of the objective and its arguments."""
    if trainer.objective is not None:
        return getattr(trainer.objective, "__name__", type(trainer.objective).__name__)
    settings = trainer.plm_loss.settings
    arguments = default_arguments(OBJECTIVES[settings.objective]) | dict(settings.objective_kwargs)
    listed = ", ".join(f"{name} {value:g}" for name, value in arguments.items())
    return f"{settings.objective} ({listed})" if listed else settings.objective


def _value(setting: Any) -> str:
    """Of an enumeration, or of a text."""
    return str(getattr(setting, "value", setting))


def _plot(trainer: "PLMTrainer", name: str) -> str:
    """A picture of `plots/`, if it was drawn."""
    path = Path(PLOTS_FOLDER) / f"{name}.png"
    exists = (Path(trainer.args.output_dir or ".") / path).is_file()
    return f"\n\n![{name.replace('_', ' ')}]({path.as_posix()})" if exists else ""


def _table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)
