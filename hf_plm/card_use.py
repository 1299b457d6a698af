"""Writes the section of the model card on how to use the model, with code that can be copied and run."""

import json
from typing import NamedTuple

from .run_facts import RunFacts


class Task(NamedTuple):
    """How to use models with one kind of main input.

    Attributes:
        pipeline: the name of the pipeline.
        model_class: the class that loads the model.
        processor: the pipeline's argument for the tokenizer or image processor.
        inputs: the name of the inputs of `hf_plm.predict`.
        example: an input.
        all_labels: the argument with which the pipeline returns every label.
    """

    pipeline: str
    model_class: str
    processor: str
    inputs: str
    example: str
    all_labels: str


TASKS = {
    "input_ids": Task(
        "text-classification", "AutoModelForSequenceClassification", "tokenizer", "texts", '"a text"', "top_k=None"
    ),
    "pixel_values": Task(
        "image-classification",
        "AutoModelForImageClassification",
        "image_processor",
        "pictures",
        '"picture.png"',
        "top_k=tagger.model.config.num_labels",
    ),
}
"""Name of the model's main input -> task."""


def use_section(facts: RunFacts, repository: str, base_model: str | None) -> str:
    """How to load the model and get names, scores and decisions; without code for an unknown kind of model."""
    task = TASKS.get(facts.main_input or "")
    if task is None or (facts.is_adapter and base_model is None):
        words = list(filter(None, [_decisions(facts), _scores_in_words(facts)]))
        return "\n\n".join(["## Scores and decisions", *words]) if words else ""
    if facts.is_adapter:
        code = _load_adapter(facts, task, repository, str(base_model))
    elif facts.has_processor:
        code = (
            "from transformers import pipeline\n\n"
            f"tagger = pipeline({_text(task.pipeline)}, {_text(repository)})  # or the path of the model's folder\n"
        )
    else:
        code = (
            f"from transformers import {task.model_class}\n\n"
            f"model = {task.model_class}.from_pretrained({_text(repository)})\n"
        )
    if facts.has_processor:
        code += _decide(facts, task)
    sections = [f"## Use\n\n```python\n{code}```", _without_processor(facts, task, repository), _decisions(facts)]
    return "\n\n".join(filter(None, [*sections, _scores_in_words(facts)]))


def _scores_in_words(facts: RunFacts) -> str:
    """The meaning of the model's scores."""
    if facts.decisions.scores == "decisions" and facts.decisions.thresholds is not None:
        return "Earlier thresholds are in the classifier's bias, so the scores are not probabilities."
    if facts.decisions.scores == "decisions":
        return "The thresholds are in the classifier's bias: compare the scores with 0.5. They are not probabilities."
    if facts.decisions.scores == "probabilities" and facts.is_single_label:
        return (
            "The logits are calibrated: the sigmoid of a logit is the probability of the class for the frequencies of "
            "the training data. Pipelines show the softmax, which is more confident."
        )
    if facts.decisions.scores == "probabilities":
        return "The scores are calibrated: they are probabilities for the frequencies of the training data."
    if facts.settings.prior == "balanced":
        return (
            "Decisions (the class with the largest score) assume that all classes are equally frequent. The scores "
            "are not probabilities."
        )
    if facts.masks_nothing:
        return ""
    if facts.settings.prior == "data":
        return "Scores and decisions assume the frequencies of the training data."
    return (
        "Masked training raises the scores of rare labels: they are not probabilities for the frequencies of the "
        "training data."
    )


def _load_adapter(facts: RunFacts, task: Task, repository: str, base_model: str) -> str:
    """Code that loads the base model with the configuration saved with the adapter (names, thresholds)."""
    pipeline = ", pipeline" if facts.has_processor else ""
    code = (
        f"from peft import PeftModel\nfrom transformers import AutoConfig, {task.model_class}{pipeline}\n\n"
        f"config = AutoConfig.from_pretrained({_text(repository)})\n"
        f"base = {task.model_class}.from_pretrained(\n"
        f"    {_text(base_model)}, config=config, ignore_mismatched_sizes=True\n)\n"
        f"model = PeftModel.from_pretrained(base, {_text(repository)}).eval()\n"
    )
    if facts.has_processor:
        code += f"tagger = pipeline({_text(task.pipeline)}, model=model, {task.processor}={_text(repository)})\n"
    return code


def _decide(facts: RunFacts, task: Task) -> str:
    """Code for the scores and decisions of one input, with a `tagger`."""
    code = (
        f'scores = tagger({task.example}, {task.all_labels})  # for each label: {{"label": ..., "score": ...}}\n'
        f'logits = tagger({task.example}, {task.all_labels}, function_to_apply="none")\n'
    )
    threshold = "0"
    if facts.decisions.thresholds is not None:
        code += (
            "config = tagger.model.config\n"
            'thresholds = {config.id2label[index]: logit for index, logit in enumerate(config.plm["thresholds"])}\n'
        )
        threshold = 'thresholds[each["label"]]'
    if facts.is_single_label:
        return code + f'predicted = max(logits, key=lambda each: each["score"] - {threshold})["label"]\n'
    return code + f'predicted = [each["label"] for each in logits if each["score"] >= {threshold}]\n'


def _without_processor(facts: RunFacts, task: Task, repository: str) -> str:
    if facts.has_processor:
        return ""
    name = task.processor.replace("_", " ")
    model = "model=model" if facts.is_adapter else _text(repository)
    return f"With its {name} in the same folder, `pipeline({_text(task.pipeline)}, {model})` returns names and scores."


def _decisions(facts: RunFacts) -> str:
    if facts.decisions.thresholds is None:
        return ""
    what = (
        "The predicted class is the one whose logit is farthest above its threshold"
        if facts.is_single_label
        else "A label is predicted if its logit is at least its threshold"
    )
    task = TASKS.get(facts.main_input or "")
    arguments = f"model, {task.inputs}, {task.processor}" if task is not None else "model, inputs"
    return (
        f'{what} (in the table above, and in `config.plm["thresholds"]`). `hf_plm.predict({arguments})` does the '
        "same for any number of rows."
    )


def _text(value: str) -> str:
    """A text as a Python literal that cannot end the code block."""
    return json.dumps(value, ensure_ascii=False).replace("`", "\\x60")
