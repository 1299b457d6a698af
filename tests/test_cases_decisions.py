"""Thresholds belong to one model, give the same decisions everywhere, and are removed when the model changes."""

import contextlib
from pathlib import Path

import numpy as np
import pytest
import torch
from scenarios import answer_with, make_rows, named, rows_with
from transformers import BertForSequenceClassification

import hf_plm
from hf_plm import PLMTrainer, calibrate, multilabel_compute_metrics, predict, tune_thresholds

NAMES = list("abcde")


@pytest.fixture
def tuned(make_bert, make_args):
    """A function that makes a trainer, trains it, and tunes its thresholds on its evaluation data."""

    def make(metrics=None, train=True, seed=0, **kwargs):
        data = make_rows(64)
        trainer = PLMTrainer(
            make_bert(**named(NAMES)),
            make_args(seed=seed, **kwargs),
            train_dataset=data,
            eval_dataset=data,
            compute_metrics=metrics or multilabel_compute_metrics(data),
        )
        if train:
            trainer.train()
        trainer.tune_thresholds(shrinkage=0.0)
        return trainer

    return make


def decided(trainer):
    """The predicted labels of each row of the evaluation data."""
    return predict(trainer.model, {"input_ids": torch.tensor(trainer.eval_dataset["input_ids"])})


def scores_of(trainer, *args):
    scores = trainer.evaluate(*args)
    return {name: value for name, value in scores.items() if not name.endswith(("runtime", "per_second", "time"))}


def entry(model):
    """The entry of the configuration, without values that are not set."""
    return {key: value for key, value in (getattr(model.config, "plm", None) or {}).items() if value is not None}


def test_thresholds_are_logits_in_one_plain_entry(tuned, tmp_path):
    trainer = tuned()
    found = trainer.tune_thresholds(shrinkage=0.0)
    assert entry(trainer.model)["thresholds"] == pytest.approx(found.tolist(), rel=1e-15)
    assert min(found) < 0  # they are not probabilities
    trainer.save_model(str(tmp_path))
    loaded = BertForSequenceClassification.from_pretrained(tmp_path)
    assert loaded.config.plm == trainer.model.config.plm
    assert not {key for key in loaded.config.to_dict() if key.startswith("plm_")}


def test_a_new_head_removes_the_thresholds_and_logs_it(tuned, make_args, tmp_path, messages):
    trainer = tuned()
    calibrate(trainer.model, trainer.plm_state)
    trainer.save_model(str(tmp_path))
    model = BertForSequenceClassification.from_pretrained(tmp_path, num_labels=3, ignore_mismatched_sizes=True)
    data = make_rows(32)
    data = data.remove_columns("labels").add_column("labels", [row[:3] for row in data["labels"]])
    again = PLMTrainer(
        model, make_args(), train_dataset=data, eval_dataset=data, compute_metrics=multilabel_compute_metrics(data)
    )
    assert np.isfinite(again.evaluate()["eval_macro_f1"])
    assert "threshold" in messages.text and "5" in messages.text and "3" in messages.text
    again.train()
    again.create_model_card(model_name="again")
    card = Path(again.args.output_dir, "README.md").read_text().lower()
    assert "threshold" not in card and "calibrated" not in card
    calibrate(again.model, again.plm_state)  # the first time for this head
    again.tune_thresholds()
    assert len(entry(again.model)["thresholds"]) == 3


@pytest.mark.parametrize("names", [list("edcba"), list("vwxyz")], ids="".join)
def test_new_names_for_the_same_number_of_labels_remove_the_thresholds(names, tuned, make_args, tmp_path, messages):
    tuned().save_model(str(tmp_path))
    model = BertForSequenceClassification.from_pretrained(tmp_path, **named(names))
    data = make_rows(32)
    scorer = multilabel_compute_metrics(data)
    PLMTrainer(model, make_args(), eval_dataset=data, compute_metrics=scorer).evaluate()
    logits = model(torch.tensor(data["input_ids"])).logits
    assert scorer.label_scores.predicted.tolist() == (logits >= 0).sum(0).tolist()
    assert "threshold" in messages.text
    tokens = torch.tensor(data["input_ids"][:4])
    expected = [[names[index] for index in row.nonzero().flatten().tolist()] for row in logits[:4] >= 0]
    assert predict(model, {"input_ids": tokens}) == expected


@pytest.mark.parametrize("how", ["the same trainer", "another trainer"])
def test_training_removes_the_thresholds(how, tuned, make_args, messages):
    trainer = tuned()
    calibrate(trainer.model, trainer.plm_state)
    if how == "another trainer":
        trainer = PLMTrainer(trainer.model, make_args(), train_dataset=make_rows(64), eval_dataset=make_rows(64))
    trainer.train()
    assert "thresholds" not in entry(trainer.model)
    assert "threshold" in messages.text
    calibrate(trainer.model, trainer.plm_state)


def test_evaluating_keeps_the_thresholds(tuned, make_args):
    trainer = tuned()
    before, rows = trainer.model.config.plm, decided(trainer)
    again = PLMTrainer(trainer.model, make_args(), train_dataset=make_rows(64), eval_dataset=make_rows(64))
    again.evaluate()
    again.predict(make_rows(8))
    assert (again.model.config.plm, decided(again)) == (before, rows)


@pytest.mark.parametrize("change", ["calibrate", "fold_thresholds", "both"])
def test_shifting_scores_changes_no_decision(change, tuned):
    trainer = tuned()
    rows, scores = decided(trainer), scores_of(trainer)
    assert sum(map(len, rows)) > 0
    with torch.no_grad():
        logits = trainer.model(torch.tensor(trainer.eval_dataset["input_ids"])).logits
    if change in ("calibrate", "both"):
        calibrate(trainer.model, trainer.plm_state)
    if change in ("fold_thresholds", "both"):
        hf_plm.fold_thresholds(trainer.model)
        assert "thresholds" not in entry(trainer.model)
    with torch.no_grad():
        shifted = trainer.model(torch.tensor(trainer.eval_dataset["input_ids"])).logits
    assert not torch.allclose(shifted, logits)
    assert decided(trainer) == rows
    after = scores_of(trainer)
    for name in ("eval_macro_f1", "eval_micro_f1", "eval_exact_match", "eval_tail_recall"):
        assert after[name] == pytest.approx(scores[name]), name
    if change != "calibrate":
        plain = [[NAMES[index] for index in row.nonzero().flatten().tolist()] for row in torch.sigmoid(shifted) >= 0.5]
        assert plain == rows


def test_calibrating_or_folding_out_of_order_is_refused(tuned):
    trainer = tuned()
    hf_plm.fold_thresholds(trainer.model)
    with pytest.raises(ValueError, match="threshold"):
        calibrate(trainer.model, trainer.plm_state)
    with pytest.raises(ValueError, match="threshold"):
        hf_plm.fold_thresholds(trainer.model)


def test_folding_without_thresholds_says_how_to_get_them(make_bert):
    with pytest.raises(ValueError, match="tune_thresholds"):
        hf_plm.fold_thresholds(make_bert())


def test_models_that_share_their_metrics_share_no_thresholds(tuned):
    scorer = multilabel_compute_metrics(make_rows(64))
    first, second = tuned(scorer, train=False), tuned(scorer, plm_preset="off")
    before = [scores_of(second), scores_of(first), scores_of(second)]
    assert before[0] == before[2] != before[1]
    second.model.config.plm = None
    assert scores_of(second) != before[0]
    assert scores_of(first) == before[1]


def test_thresholds_reach_metrics_that_are_wrapped(tuned, make_args, make_bert):
    own = multilabel_compute_metrics(make_rows(64))
    direct, wrapped = tuned(), tuned(lambda prediction: {**own(prediction), "x": 1.0})
    scores = scores_of(wrapped)
    assert scores.pop("eval_x") == 1.0
    assert scores == scores_of(direct)
    wrapped.model.config.plm = None
    assert scores_of(wrapped)["eval_macro_f1"] != scores["eval_macro_f1"]


def test_extra_scores_are_added_and_may_not_replace_a_score(tuned):
    def extra(prediction):
        return {"rows": len(prediction.predictions)}

    data = make_rows(64)
    for by_batch in (False, True):
        trainer = tuned(multilabel_compute_metrics(data, extra=extra), batch_eval_metrics=by_batch)
        scores = scores_of(trainer)
        assert scores["eval_rows"] == 64 and "eval_macro_f1" in scores
    clash = multilabel_compute_metrics(data, extra=lambda prediction: {"macro_f1": 1.0})
    with pytest.raises(ValueError, match="macro_f1"):
        tuned(clash)


def test_a_warning_names_metrics_without_thresholds(tuned, messages):
    tuned(lambda prediction: {"own": 1.0})
    assert "compute_metrics" in messages.text


SATURATED = {
    "beyond a float64 sigmoid": ([70.0, 68.0, 45.0, 44.0], [1, 1, 0, 0]),
    "beyond a float32 sigmoid": ([22.0, 21.0, 18.0, 17.5], [1, 1, 0, 0]),
    "below": ([-120.0, -110.0, -108.0, -200.0], [0, 1, 1, 0]),
    "neighbours": ([1.0, float(np.nextafter(np.float32(1), np.float32(2))), 1.0, 0.5], [0, 1, 0, 0]),
    "large": ([3e38, 1e38, -3e38, -1e38], [1, 1, 0, 0]),
}


@pytest.mark.parametrize("name", SATURATED)
def test_decisions_on_logits_of_any_size_are_the_same_everywhere(name, make_bert, make_args):
    logits, labels = SATURATED[name]
    expected = tune_thresholds(np.array(logits)[:, None], np.array(labels)[:, None], shrinkage=0.0)
    assert ((np.array(logits) >= expected[0]) == labels).all()

    table = torch.tensor(logits)[:, None].repeat(1, 2)
    rows = rows_with([[float(label)] * 2 for label in labels])
    model = answer_with(make_bert(2, **named("ab")), table)
    scorer = multilabel_compute_metrics(rows)
    trainer = PLMTrainer(model, make_args(), eval_dataset=rows, compute_metrics=scorer)
    trainer.tune_thresholds(shrinkage=0.0)
    assert trainer.evaluate()["eval_exact_match"] == 1
    assert scorer.label_scores.predicted.tolist() == [sum(labels)] * 2
    found = predict(model, {"input_ids": torch.tensor(rows["input_ids"])})
    assert found == [["a", "b"] if label else [] for label in labels]


@pytest.mark.parametrize("objective", ["recall", "precision"])
@pytest.mark.parametrize("target", [0.5, 0.9, 1.0])
def test_a_requested_recall_or_precision_is_reached_where_possible(objective, target, make_bert):
    generator = np.random.default_rng(0)
    labels = generator.random((600, 5)) < [0.475, 0.2, 0.08, 0.03, 0.015]
    logits = generator.normal(size=(600, 5)) + 2 * labels
    if objective == "precision":
        logits[:, 4] = -logits[:, 4]  # this label cannot be predicted well
    reachable = [objective == "recall" or best_precision(logits[:, i], labels[:, i]) >= target for i in range(5)]
    assert reachable[0] and (objective == "recall" or not reachable[4])
    names = [f"name {index}" for index in range(5)]
    with pytest.warns(UserWarning, match="name 4") if not all(reachable) else contextlib.nullcontext():
        thresholds = tune_thresholds(logits, labels, objective, target, label_names=names)
    predicted = logits >= thresholds
    for label in np.flatnonzero(reachable):
        hits = (predicted & labels)[:, label].sum()
        assert hits / (labels if objective == "recall" else predicted)[:, label].sum() >= target, label


def best_precision(logits, labels):
    order = np.argsort(-logits)
    return (np.cumsum(labels[order]) / np.arange(1, len(order) + 1)).max()


def test_a_label_without_positives_is_never_nan_and_soft_labels_are_refused():
    logits = np.array([[1.0, 2.0], [0.0, 1.0], [-1.0, 0.0]])
    labels = np.array([[1.0, 0.0], [0.0, 0.0], [0.0, np.nan]])
    for objective, target in (("macro_f1", None), ("micro_f1", None), ("recall", 0.9), ("precision", 0.9)):
        assert np.isfinite(tune_thresholds(logits, labels, objective, target)).all()
    with pytest.raises(ValueError, match="0.95"):
        tune_thresholds(logits, np.where(labels == 1, 0.95, labels))


def test_a_model_of_an_earlier_version_is_refused(make_bert, make_args):
    model = make_bert()
    model.config.plm_thresholds = [0.3] * 5
    data = make_rows(16)
    with pytest.raises(ValueError, match="plm_thresholds"):
        predict(model, {"input_ids": torch.tensor(data["input_ids"])})
