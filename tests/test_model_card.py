"""The model card has all that is known and omits the rest."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scenarios
import torch
from huggingface_hub import ModelCard
from peft import LoraConfig, get_peft_model
from transformers import ViTImageProcessorPil

from hf_plm import LabelCounts, PLMTrainer, multilabel_compute_metrics, plots
from hf_plm.decisions import Decisions
from hf_plm.model_card import make_model_card
from hf_plm.presets import PRESETS
from hf_plm.run_facts import Evaluation


@pytest.fixture
def make_trainer(make_bert, text_data, make_args):
    def make(num_labels=5, names=None, metrics=True, **kwargs):
        names = names or [f"name {index}" for index in range(num_labels)]
        model = make_bert(
            num_labels, id2label=dict(enumerate(names)), label2id={name: index for index, name in enumerate(names)}
        )
        counts = LabelCounts([5] * num_labels, [60] * num_labels) if num_labels > 5 else None
        return PLMTrainer(
            model,
            make_args(**kwargs),
            train_dataset=text_data,
            eval_dataset=text_data,
            label_counts=counts,
            compute_metrics=multilabel_compute_metrics(text_data) if metrics else None,
            processing_class=scenarios.make_tokenizer(),
        )

    return make


def card_of(trainer, **kwargs):
    trainer.create_model_card(**kwargs)
    card = ModelCard.load(Path(trainer.args.output_dir) / "README.md")
    assert not re.search(
        r"\bNone\b|\bnan\b|TODO|More information needed|\[optional\]", card.content.replace("top_k=None", "")
    )
    for heading, text in re.findall(r"^## (.*)\n+((?:(?!## ).*\n?)*)", card.text, re.MULTILINE):
        assert text.strip(), heading
    return card


def test_a_trained_model_has_scores_labels_settings_and_plots(make_trainer):
    trainer = make_trainer(save_strategy="epoch")
    trainer.train()
    metrics = trainer.evaluate()
    trainer.tune_thresholds(shrinkage=0.0)
    card = card_of(
        trainer, model_name="tagger", license="apache-2.0", tags="mine", dataset="someone/texts", tasks=None
    )
    assert (card.data.library_name, card.data.pipeline_tag) == ("transformers", "text-classification")
    assert (card.data.license, card.data.datasets) == ("apache-2.0", ["someone/texts"])
    assert {"hf_plm", "multi-label", "mine"} <= set(card.data.tags)
    results = {each.metric_type: each for each in card.data.eval_results}
    assert results["macro_f1"].metric_value != 0
    assert results["macro_f1"].dataset_type == "someone/texts"
    assert set(results) >= {key.removeprefix("eval_") for key in metrics if "f1" in key}
    for label, threshold in enumerate(trainer.model.config.plm["thresholds"]):
        row = next(line for line in card.text.splitlines() if line.startswith(f"| name {label} |"))
        assert f"| {trainer.label_counts.positives[label]} |" in row
        assert row.endswith(f" {threshold:.3f} |")
    assert f"| objective | {trainer.run_facts().objective} |" in card.text
    assert f"| initial ideal ratio | R ^ {PRESETS['default'].temper} |" in card.text
    assert 'pipeline("text-classification", "tagger")' in card.text
    assert 'config.plm["thresholds"]' in card.text
    assert "@inproceedings{duarte2021plm" in card.text
    linked = re.findall(r"!\[.*?\]\((.*?)\)", card.text)
    assert linked and all((Path(trainer.args.output_dir) / path).is_file() for path in linked)


def test_before_training_and_without_metrics_it_is_shorter(make_trainer):
    card = card_of(make_trainer(metrics=False, plm_preset="off"))
    assert card.data.eval_results is None
    assert "## Scores" not in card.text and "| AP |" not in card.text and "Masked training" not in card.text
    assert "by plain training: no label was masked" in card.text
    assert "![" not in card.text and "## Citation" not in card.text


def test_the_card_names_a_custom_objective_and_class_aware_sampling(make_bert, text_data, make_args):
    def own_loss(logits, labels):
        return (logits - labels) ** 2

    trainer = PLMTrainer(make_bert(), make_args(plm_class_aware=True), train_dataset=text_data, objective=own_loss)
    card = card_of(trainer)
    assert "| objective | own_loss |" in card.text
    assert "| class-aware re-sampling | yes |" in card.text


@pytest.mark.parametrize(("num_labels", "folded"), [(50, False), (51, True)])
def test_more_than_fifty_labels_are_folded(make_trainer, num_labels, folded):
    trainer = make_trainer(num_labels, names=[f"a|b {index}" for index in range(num_labels)], metrics=False)
    card = card_of(trainer)
    assert ("<details><summary>" in card.text) is folded
    assert card.text.count("a\\|b ") == num_labels  # the table is complete


def test_the_code_for_adapters_loads_them(make_bert, text_data, make_args, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    base = make_bert()
    base.save_pretrained("someone/base")
    config = LoraConfig(task_type="SEQ_CLS", target_modules=["query"], modules_to_save=["classifier"])
    trainer = PLMTrainer(get_peft_model(base, config), make_args(), train_dataset=text_data)
    trainer.train()
    trainer.save_model("adapters")
    card = card_of(trainer, model_name="adapters", finetuned_from="someone/base")
    assert (card.data.library_name, card.data.base_model) == ("peft", "someone/base")
    (code,) = re.findall(r"```python\n(.*?)```", card.text, re.DOTALL)
    names = {}
    exec(code, names)
    tokens = torch.tensor(text_data["input_ids"][:4])
    torch.testing.assert_close(names["model"].eval()(tokens).logits, trainer.model.eval()(tokens).logits)
    assert "## Use" not in card_of(trainer).text  # the base model is unknown


def test_an_image_model_shows_its_own_pipeline(make_vit, image_data, make_args):
    processor = ViTImageProcessorPil(size={"height": 8, "width": 8})
    card = card_of(PLMTrainer(make_vit(), make_args(), train_dataset=image_data, processing_class=processor))
    assert card.data.pipeline_tag == "image-classification"
    assert "top_k=tagger.model.config.num_labels" in card.text


def test_a_model_without_configuration_has_a_card(make_args):
    class Plain(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(8, 5)

        def forward(self, inputs):
            return {"logits": self.layer(inputs)}

    rows = scenarios.make_rows(16).rename_column("input_ids", "inputs")
    card = card_of(PLMTrainer(Plain(), make_args(), train_dataset=rows))
    assert "## Use" not in card.text and "| LABEL_4 |" in card.text
    assert "## Scores and decisions\n\nMasked training raises the scores of rare labels" in card.text


def test_labels_are_listed_from_frequent_to_rare(make_trainer):
    card = card_of(make_trainer(metrics=False))
    shown = [int(count) for count in re.findall(r"^\| name \d \| (\d+) \|", card.text, re.MULTILINE)]
    assert len(shown) == 5 and shown == sorted(shown, reverse=True)


def test_the_scores_are_those_of_the_best_model_once_it_is_loaded(make_trainer):
    trainer = make_trainer(
        num_train_epochs=3,
        eval_strategy="epoch",
        save_strategy="epoch",
        load_best_model_at_end=True,
        metric_for_best_model="macro_f1",
        learning_rate=0.3,  # high, so that the last epoch is not the best
        plm_preset="paper",
    )
    trainer.train()
    scores = {log["step"]: log["eval_macro_f1"] for log in trainer.state.log_history if "eval_macro_f1" in log}
    best = max(scores.values())
    assert best > list(scores.values())[-1]
    card = card_of(trainer)
    values = {each.metric_type: each.metric_value for each in card.data.eval_results}
    assert values["macro_f1"] == pytest.approx(best, abs=1e-4)
    rows = re.findall(r"^\| name \d \|.*", card.text, re.MULTILINE)
    f1 = [float(row.split("|")[6]) for row in rows]  # the table is of the same evaluation
    assert np.mean(f1) == pytest.approx(best, abs=1e-3)
    (best_step,) = [step for step, score in scores.items() if score == best]
    assert f", after {best_step} steps of training." in card.text
    metrics = trainer.evaluate()
    assert metrics["eval_macro_f1"] == pytest.approx(best)
    assert "| AP |" in card_of(trainer).text


def test_scores_that_are_not_finite_are_left_out_of_the_model_index(make_trainer, monkeypatch):
    trainer = make_trainer(metrics=False)
    evaluation = Evaluation("texts, 9 rows", 0, {"own": 0.5, "loss": np.nan, "head_f1": 0.5, "tail_f1": np.nan})
    monkeypatch.setattr(trainer, "run_facts", lambda: replace(PLMTrainer.run_facts(trainer), evaluation=evaluation))
    card = card_of(trainer)
    results = [(each.metric_type, each.metric_value) for each in card.data.eval_results]
    assert results == [("own", 0.5), ("head_f1", 0.5)]
    assert "| own | 0.5 |" in card.text and "| tail |  |" in card.text and "| loss |" not in card.text


@pytest.fixture
def facts_of(make_trainer):
    """The facts of a trained model, with a different evaluation and different decisions."""
    trainer = make_trainer()
    trainer.train()
    trainer.evaluate()
    facts = trainer.run_facts()

    def make(now, **evaluation):
        return replace(facts, decisions=now, evaluation=replace(facts.evaluation, **evaluation))

    return make


TUNED = Decisions(5, thresholds=(0.0, 0.5, 1.0, -1.0, -2.0), tuned_on="digest of texts")


@pytest.mark.parametrize(
    ("then", "now", "digest", "flattering", "otherwise", "elsewhere"),
    [
        (TUNED, TUNED, "digest of texts", True, False, False),
        (TUNED, TUNED, "another", False, False, True),
        (TUNED, TUNED, None, False, False, False),
        (Decisions(5), TUNED, "digest of texts", True, True, False),
        (Decisions(5), TUNED, "another", False, True, False),
        (Decisions(5), Decisions(5), "digest of texts", False, False, False),
    ],
)
def test_the_card_names_the_data_of_the_scores_and_says_if_they_are_optimistic(
    facts_of, then, now, digest, flattering, otherwise, elsewhere
):
    facts = facts_of(now, data="the split 'texts|$x$', 64 rows", decisions=then, labels_digest=digest)
    card = make_model_card(facts, "tagger")
    head = card.text.split("## Scores\n\n")[1].split("\n")[0]
    assert head.startswith(r"On the split 'texts\|\$x\$', 64 rows, after 4 steps of training.")
    assert ("too optimistic" in head) is flattering
    assert ("chosen on other data" in head) is elsewhere
    assert ("The model had different thresholds then than now" in head) is otherwise
    assert card.data.eval_results[0].dataset_name == "the split 'texts|$x$', 64 rows"


def test_an_evaluation_of_an_earlier_model_is_not_shown(make_trainer):
    trainer = make_trainer(save_strategy="epoch", num_train_epochs=1)
    trainer.evaluate()
    assert "## Scores" in card_of(trainer).text
    trainer.train()
    card = card_of(trainer)
    assert "## Scores" not in card.text and "label_scores" not in card.text and "| AP |" not in card.text


def test_the_picture_and_the_table_are_of_the_same_evaluation(make_trainer, monkeypatch):
    trainer = make_trainer(eval_strategy="epoch", num_train_epochs=2)
    trainer.train()
    drawn = {}
    plot = plots.plot_label_scores

    def keep(runs, counts, title):
        drawn.update(runs, counts=counts, title=title)
        return plot(runs, counts, title)

    monkeypatch.setattr(plots, "plot_label_scores", keep)
    card = card_of(trainer)
    assert "![label scores](plots/label_scores.png)" in card.text
    for label, f1 in enumerate(drawn["evaluation"].f1):
        row = next(line for line in card.text.splitlines() if line.startswith(f"| name {label} |"))
        assert row.split("|")[6] == f" {f1:.3f} "
    assert drawn["counts"].label_names == [f"name {index}" for index in range(5)]
    assert "64 rows, after 8 steps" in drawn["title"]


def test_the_batch_size_is_that_of_an_optimizer_step_over_all_ranks(make_trainer, monkeypatch):
    trainer = make_trainer(metrics=False, per_device_train_batch_size=3, gradient_accumulation_steps=5)
    assert "| batch | 15 |" in card_of(trainer).text
    monkeypatch.setattr(type(trainer.args), "world_size", 4)
    assert "| batch | 60 |" in card_of(trainer).text


ODD_NAMES = [
    "$",
    "$$",
    "[bold]x[/bold]",
    "a|b",
    "line\nbreak",
    '"q"',
    "",
    "😀",
    "x" * 2000,
    "<b>",
    "# h",
    "`c`",
    "_",
    "\\",
]


def test_names_with_any_text_stay_in_their_table_cell(make_trainer):
    names = ODD_NAMES + [f"name {index}" for index in range(60 - len(ODD_NAMES))]
    card = card_of(make_trainer(60, names=names, metrics=False))
    table = [line for line in card.text.splitlines() if re.match(r"\| .* \| 5 \|$", line)]
    assert len(table) == 60
    cells = [line.removeprefix("| ").removesuffix(" | 5 |") for line in table]
    assert cells[:8] == [r"\$", r"\$\$", r"\[bold\]x\[/bold\]", r"a\|b", "line&#92;nbreak", '"q"', "''", "😀"]
    assert len(cells[8]) == 120 and cells[9:14] == ["&lt;b&gt;", r"\# h", r"\`c\`", r"\_", "&#92;"]
