"""Writes the model card from `RunFacts`: what a trained model is, its scores, and how to use it."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from huggingface_hub import EvalResult, ModelCard, ModelCardData

from .card_use import TASKS, use_section
from .display import markdown
from .run_facts import Evaluation, RunFacts

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
"""Names of scores in the card; other scores keep their own names."""

LABEL_COLUMNS = {"precision": "precision", "recall": "recall", "F1": "f1", "AP": "average_precision"}
"""Columns of the table of labels -> attributes of `LabelScores`."""

GROUPS = ("head", "medium", "tail")

FOLDED_FROM = 51
"""A table of at least this many labels is collapsed."""

NAME_WIDTH = 120
"""The maximum number of characters; the middle of longer names and descriptions of data is left out."""

CITATION = """@inproceedings{duarte2021plm,
  title     = {{PLM}: Partial Label Masking for Imbalanced Multi-label Classification},
  author    = {Duarte, Kevin and Rawat, Yogesh S. and Shah, Mubarak},
  booktitle = {IEEE/CVF Conference on Computer Vision and Pattern Recognition Workshops (CVPRW)},
  pages     = {2739--2748},
  year      = {2021}
}"""


def make_model_card(
    facts: RunFacts,
    name: str,
    repository: str | None = None,
    language: str | None = None,
    license: str | None = None,
    tags: Sequence[str] = (),
    finetuned_from: str | None = None,
    tasks: Sequence[str] = (),
    dataset: Sequence[str] = (),
    pictures: Mapping[str, str] | None = None,
) -> ModelCard:
    """The card of a model. Sections without content are left out.

    Args:
        name: the name of the model.
        repository: the repository from which the code in the card loads the model; None for `name`.
        language, license, tags, finetuned_from, tasks, dataset: as for `Trainer.create_model_card`. `finetuned_from`
            is not needed if the model was loaded from the Hub.
        pictures: `ideal_ratios`, `calibration`, `label_scores` -> the path of the picture, relative to the card.
    """
    task = TASKS.get(facts.main_input or "")
    pictures = pictures or {}
    finetuned_from = finetuned_from or facts.base_model
    scores = facts.evaluation.metrics if facts.evaluation is not None else {}
    data = ModelCardData(
        model_name=name,
        language=language,
        license=license,
        library_name="peft" if facts.is_adapter else "transformers",
        pipeline_tag=task.pipeline if task else None,
        base_model=finetuned_from,
        datasets=list(dataset) or None,
        metrics=[key for key in scores if key in METRICS] or None,
        tags=sorted({"hf_plm", "partial-label-masking", "imbalanced-data", _kind(facts).split()[0], *tags}),
        eval_results=_eval_results(facts.evaluation, [*tasks, task.pipeline if task else "other"][0], dataset),
    )
    sections = (
        f"# {markdown(name, NAME_WIDTH)}\n\n{_introduction(facts, finetuned_from, dataset)}",
        _scores_section(facts, pictures),
        _labels_section(facts),
        use_section(facts, repository or name, finetuned_from),
        _training_section(facts, pictures),
        "" if facts.masks_nothing else f"## Citation\n\n```bibtex\n{CITATION}\n```",
    )
    return ModelCard(f"---\n{data.to_yaml()}\n---\n\n" + "\n\n".join(filter(None, sections)) + "\n")


def _kind(facts: RunFacts) -> str:
    return "single-label classifier" if facts.is_single_label else "multi-label classifier"


def _eval_results(evaluation: Evaluation | None, task: str, dataset: Sequence[str]) -> list[EvalResult] | None:
    """The scores for the model-index."""
    if evaluation is None:
        return None
    results = [
        EvalResult(
            task_type=task,
            dataset_type=dataset[0] if dataset else evaluation.data,
            dataset_name=evaluation.data,
            metric_type=key,
            metric_name=METRICS.get(key, key.replace("_", " ")),
            metric_value=round(value, 4),
        )
        for key, value in evaluation.metrics.items()
        if np.isfinite(value)
    ]
    return results or None


def _introduction(facts: RunFacts, finetuned_from: str | None, dataset: Sequence[str]) -> str:
    base = f", fine-tuned from [{finetuned_from}](https://huggingface.co/{finetuned_from})" if finetuned_from else ""
    data = f" on {', '.join(markdown(each) for each in dataset)}" if dataset else ""
    if facts.masks_nothing:
        how = "plain training: no label was masked."
    else:
        means = {
            "random": "labels are masked at random in the loss",
            "expected": "the loss of each label is weighted with the probability that a mask would keep it",
        }[facts.settings.mask]
        how = (
            f"[Partial Label Masking](https://arxiv.org/abs/2105.10782): {means}, so that the negatives of rare "
            "labels do not dominate."
        )
    return f"A {_kind(facts)} of {facts.label_space.num_labels:,} labels{base}, trained{data} with hf_plm by {how}"


def _scores_section(facts: RunFacts, pictures: Mapping[str, str]) -> str:
    """The evaluation: its data, the overall scores, and a line for each group of labels."""
    evaluation = facts.evaluation
    if evaluation is None or not evaluation.metrics:
        return ""
    scores = evaluation.metrics
    grouped = {key for key in scores if key.startswith(tuple(f"{group}_" for group in GROUPS))}
    overall = [
        (METRICS.get(key, markdown(key)), f"{value:.4g}")
        for key, value in scores.items()
        if key not in grouped and not np.isnan(value)
    ]
    text = f"## Scores\n\n{_origin(facts, evaluation)}\n\n" + _table(("score", "value"), overall)
    columns = [key.removeprefix("head_") for key in scores if key.startswith("head_")]
    if columns:
        rows = []
        for group in GROUPS:
            rows.append((group, *(_decimal(scores.get(f"{group}_{column}", np.nan)) for column in columns)))
        text += (
            "\n\nMeans over the most frequent tenth of the labels in training (head), the rarest half (tail), and the "
            "rest (medium):\n\n" + _table(("labels", *(METRICS.get(each, each) for each in columns)), rows)
        )
    return text + _picture(pictures, "label_scores")


def _origin(facts: RunFacts, evaluation: Evaluation) -> str:
    """The data on which the scores were measured, and whether the thresholds were chosen on the same data."""
    text = f"On {markdown(evaluation.data, NAME_WIDTH)}, after {evaluation.step:,} steps of training."
    if facts.was_decided_otherwise:
        text += " The model had different thresholds then than now."
    if facts.was_tuned_on_evaluation:
        text += " The thresholds were chosen on the same data, so these scores are too optimistic."
    if facts.was_tuned_elsewhere:
        text += " The thresholds were chosen on other data."
    return text


def _labels_section(facts: RunFacts) -> str:
    """A line for each label, from frequent to rare."""
    counts = facts.label_counts
    columns: dict[str, list[str]] = {}
    if counts.positives.any():
        columns["positives in training"] = [f"{count:,}" for count in counts.positives.tolist()]
    each = facts.evaluation.label_scores if facts.evaluation is not None else None
    if each is not None:
        columns["in evaluation"] = [f"{count:,}" for count in each.positives.tolist()]
        columns |= {name: [_decimal(value) for value in getattr(each, key)] for name, key in LABEL_COLUMNS.items()}
    if facts.decisions.thresholds is not None:
        columns["threshold (logit)"] = [_decimal(value) for value in facts.decisions.thresholds]
    names = [markdown(label, NAME_WIDTH) for label in facts.label_space.shown_names]
    order = torch.sort(counts.positives, descending=True, stable=True).indices.tolist()
    rows = [(names[index], *(values[index] for values in columns.values())) for index in order]
    table = _table(("label", *columns), rows)
    if len(rows) >= FOLDED_FROM:
        table = f"<details><summary>{len(rows):,} labels, from frequent to rare</summary>\n\n{table}\n\n</details>"
    return f"## Labels\n\n{table}"


def _training_section(facts: RunFacts, pictures: Mapping[str, str]) -> str:
    """Settings of the method and the optimizer, and versions."""
    settings = facts.settings
    start = f"R ^ {settings.temper}" if settings.initial_ratio == "tempered" else str(settings.initial_ratio)
    rows = {
        "initial ideal ratio": start,
        "rule and rate": f"{settings.rule}, {settings.change_rate}",
        "bins of the histograms": settings.num_bins,
        **_weighting(facts),
        "objective": markdown(facts.objective, NAME_WIDTH),
        "class-aware re-sampling": "yes" if facts.is_class_aware else None,
        "training rows": f"{facts.train_rows:,}" if facts.train_rows is not None else None,
        "steps": f"{facts.steps:,}" if facts.steps else None,
        "epochs": f"{facts.epochs:g}" if facts.epochs else None,
        "batch": facts.batch_size,
        "learning rate": f"{facts.learning_rate:g}, {facts.scheduler}",
        "optimizer": facts.optimizer,
        "precision": facts.precision,
        "seed": facts.seed,
        "versions": ", ".join(f"{library} {version}" for library, version in facts.versions.items()),
    }
    table = _table(("setting", "value"), [(key, value) for key, value in rows.items() if value is not None])
    return f"## Training\n\n{table}" + _picture(pictures, "ideal_ratios") + _picture(pictures, "calibration")


def _weighting(facts: RunFacts) -> dict[str, str]:
    """The settings `mask`, `class_weight` and `prior` in words, without those that change nothing."""
    settings = facts.settings
    masks = {"random": "random", "expected": "expected (keep probabilities as weights)"}
    assumed = {
        "ideal": "the ideal ratios",
        "balanced": "all classes equally frequent",
        "data": "the ratios of the training data",
    }
    words = {}
    if not facts.masks_nothing:
        words["masks"] = masks[settings.mask]
        if settings.class_weight:
            words["class weight"] = f"(kept share of the class's labels) ^ -{settings.class_weight:g}"
    if settings.prior == "balanced" or not facts.masks_nothing:
        words["decisions assume"] = assumed[settings.prior]
    return words


def _decimal(value: float) -> str:
    """With three decimals; empty if there is no value."""
    return "" if np.isnan(value) else f"{value:.3f}"


def _picture(pictures: Mapping[str, str], name: str) -> str:
    return f"\n\n![{name.replace('_', ' ')}]({pictures[name]})" if name in pictures else ""


def _table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)
