"""Metrics use the label order and thresholds of the evaluated model, and nothing from a different evaluation."""

import functools

import numpy as np
import pytest
import scenarios
import torch
from test_scores import COUNTS, KEYS, random_data
from transformers import EvalPrediction

from hf_plm import LabelCounts, PLMTrainer, multilabel_compute_metrics
from hf_plm.metrics import evaluating
from hf_plm.ranking_metrics import RankingComputeMetrics, propensities
from hf_plm.run_facts import scores_alone
from hf_plm.scores import labels_digest


@pytest.fixture
def data():
    return random_data()


NAMED = LabelCounts([8, 1, 1], [2, 9, 9], ["zebra", "ant", "yak"])
MODEL = LabelCounts([0, 0, 0], [0, 0, 0], ["ant", "yak", "zebra"])
LOGITS = np.array([[-3.0, -3, 5], [5, -3, 5], [-3, 5, -3]])  # zebra is right, ant and yak are not
LABELS = np.array([[1, 0, 1], [0, 1, 1], [0, 0, 0]])


def test_groups_are_put_in_the_order_of_the_model():
    with evaluating(MODEL, None):
        scores = multilabel_compute_metrics(NAMED)(EvalPrediction(LOGITS, LABELS))
    assert (scores["head_f1"], scores["tail_f1"]) == (1, 0)
    in_own_order = multilabel_compute_metrics(NAMED)(EvalPrediction(LOGITS[:, [2, 0, 1]], LABELS[:, [2, 0, 1]]))
    assert scores == in_own_order


def test_groups_and_thresholds_that_are_given_are_put_in_the_order_of_the_model():
    groups = {"striped": np.array([True, False, False]), "rest": torch.tensor([False, True, True])}
    metrics = multilabel_compute_metrics(NAMED, threshold=[0.999, 0.5, 0.5], groups=groups)
    with evaluating(MODEL, None):
        scores = metrics(EvalPrediction(LOGITS, LABELS))
    assert scores["striped_f1"] == scores["rest_f1"] == 0
    with evaluating(MODEL, [0, 0, 0]):
        scores = metrics(EvalPrediction(LOGITS, LABELS))
    assert (scores["striped_f1"], scores["rest_f1"]) == (1, 0)


def test_labels_missing_from_the_metrics_counts_are_tail_labels():
    some = LabelCounts([1, 8], [9, 2], ["yak", "zebra"])
    explicit = {"striped": np.array([False, True])}
    with evaluating(MODEL, None):
        scores = multilabel_compute_metrics(some)(EvalPrediction(LOGITS, LABELS))
        given = multilabel_compute_metrics(some, groups=explicit)(EvalPrediction(LOGITS, LABELS))
    assert (scores["head_f1"], scores["medium_f1"], scores["tail_f1"]) == (1, 0, 0)
    assert given["striped_f1"] == 1


def test_metrics_of_other_labels_are_refused_by_name_or_by_number():
    metrics = multilabel_compute_metrics(LabelCounts([1, 2], [2, 1], ["dog", "zebra"]))
    message = r"counts of the labels .*dog.*zebra.* and the model has .*ant.*yak.*zebra.*, without .*dog"
    with pytest.raises(ValueError, match=message):
        metrics.check_fits(MODEL)
    with evaluating(MODEL, None), pytest.raises(ValueError, match=message):
        metrics(EvalPrediction(LOGITS, LABELS))
    message = "counts of 2 labels, and the model has 3"
    with pytest.raises(ValueError, match=message):
        multilabel_compute_metrics(LabelCounts([1, 2], [2, 1])).check_fits(MODEL)
    with pytest.raises(ValueError, match=message):
        metrics.check_fits(LabelCounts([1, 2, 3], [1, 2, 3]))
    multilabel_compute_metrics(NAMED).check_fits(MODEL)
    with pytest.raises(ValueError, match=r"logits have shape \(3, 3\); label_counts has 2 labels"):
        metrics(EvalPrediction(LOGITS, LABELS))
    with pytest.raises(ValueError, match=r"the group 'one' has shape \(3,\); label_counts has 2 labels"):
        multilabel_compute_metrics(LabelCounts([1, 2], [2, 1]), groups={"one": np.ones(3, bool)})


@pytest.mark.parametrize(
    "wrap",
    [
        lambda metrics: lambda prediction: {**metrics(prediction), "x": 1.0},
        lambda metrics: functools.partial(metrics, compute_result=True),
        lambda metrics: type("Wrapper", (), {"__call__": lambda self, prediction: metrics(prediction)})(),
    ],
    ids=["lambda", "partial", "class"],
)
def test_a_wrapped_metrics_object_scores_each_model_with_its_own_thresholds(wrap):
    compute_metrics = wrap(multilabel_compute_metrics(NAMED))
    prediction = EvalPrediction(LOGITS, LABELS)
    with evaluating(MODEL, [10, 10, 10]) as one:
        none_predicted = compute_metrics(prediction)
    with evaluating(MODEL, [-5, -5, -5]) as other:
        all_predicted = compute_metrics(prediction)
    assert (none_predicted["labels_never_predicted"], all_predicted["labels_never_predicted"]) == (3, 0)
    assert (one.label_scores.predicted.tolist(), other.label_scores.predicted.tolist()) == ([0] * 3, [3] * 3)
    assert one.labels_digest == other.labels_digest == labels_digest(LABELS)
    assert one.was_scored
    assert compute_metrics(prediction)["labels_never_predicted"] == 0  # its own scores again, at the threshold 0.5


def test_a_record_says_whether_scores_were_computed():
    with evaluating(MODEL, None) as record:
        pass
    assert not record.was_scored
    assert record.labels_digest is None
    with (
        pytest.raises(ValueError, match=r"thresholds have shape \(2,\); there are 3 labels"),
        evaluating(MODEL, [1, 2]),
    ):
        pass


@pytest.mark.parametrize("with_record", [True, False])
def test_nothing_remains_of_an_interrupted_evaluation(data, with_record):
    logits, references = data
    compute_metrics = multilabel_compute_metrics(COUNTS)
    expected = multilabel_compute_metrics(COUNTS)(EvalPrediction(*data))
    if with_record:
        with pytest.raises(KeyboardInterrupt), evaluating(COUNTS, None):
            compute_metrics(EvalPrediction(-logits, references), compute_result=False)
            raise KeyboardInterrupt
    else:
        compute_metrics(EvalPrediction(-logits, references), compute_result=False)
        compute_metrics.reset()
    for context in (evaluating(COUNTS, None), evaluating(COUNTS, None)):
        with context:
            assert compute_metrics(EvalPrediction(logits[:90], references[:90]), compute_result=False) == {}
            assert compute_metrics(EvalPrediction(logits[90:], references[90:]), compute_result=True) == expected
            assert compute_metrics(EvalPrediction(*data)) == expected
            compute_metrics(EvalPrediction(-logits, references), compute_result=False)
            compute_metrics.reset()
            assert compute_metrics(EvalPrediction(*data)) == expected
    assert compute_metrics(EvalPrediction(*data)) == expected


def test_after_bad_labels_the_next_evaluation_starts_from_zero(data):
    compute_metrics = multilabel_compute_metrics(COUNTS)
    expected = compute_metrics(EvalPrediction(*data))
    with pytest.raises(ValueError, match="references hold a value"):
        compute_metrics(EvalPrediction(data[0], data[1] + 2))
    assert compute_metrics(EvalPrediction(*data)) == expected


def test_extra_scores_are_added_after_the_last_batch_and_may_not_share_a_name(data):
    logits, references = data
    seen = []

    def extra(prediction):
        seen.append(prediction)
        return {"largest": float(prediction.predictions.max()), "rows": len(prediction.label_ids)}

    compute_metrics = multilabel_compute_metrics(COUNTS, extra=extra)
    assert compute_metrics(EvalPrediction(logits[:90], references[:90]), compute_result=False) == {}
    scores = compute_metrics(EvalPrediction(logits[90:], references[90:]))
    assert len(seen) == 1
    assert (scores["largest"], scores["rows"]) == (logits.max(), 200)
    assert set(scores) == KEYS | {"largest", "rows"}
    shared = multilabel_compute_metrics(COUNTS, extra=lambda prediction: {"map": 1.0, "other": 2.0})
    with pytest.raises(ValueError, match="extra returns map, but these names are already used"):
        shared(EvalPrediction(*data))


def test_a_digest_depends_on_the_labels_and_not_on_their_dtype():
    labels = np.array([[1, 0, -100], [0, 1, 1]])
    digest = labels_digest(labels)
    assert digest == labels_digest(np.where(labels == -100, np.nan, labels).astype(np.float16))
    assert digest == labels_digest(labels[::-1])  # the order of the rows does not matter
    assert digest != labels_digest(labels[:, ::-1])
    assert digest != labels_digest(labels.reshape(3, 2))
    assert digest != labels_digest(np.where(labels == -100, 0, labels))
    assert len(digest) == 64


def test_a_label_missing_from_the_counts_has_the_propensity_of_one_without_positives():
    counts = LabelCounts([9, 1], [11, 19], ["often", "rare"])
    model = LabelCounts([1] * 3, [1] * 3, ["new", "rare", "often"])
    with evaluating(model, None):
        scores = RankingComputeMetrics(counts, (1,))(EvalPrediction(np.array([[3.0, 2, 1], [1, 2, 3]]), np.eye(3)[:2]))
    inverse = 1 / propensities(LabelCounts([0, 1, 9], [20, 19, 11]))
    assert scores["psp_at_1"] == pytest.approx((inverse[0] / (inverse[0] + inverse[1])).item())


def test_a_model_that_lacks_a_name_is_refused():
    metrics = RankingComputeMetrics(LabelCounts([9, 1], [11, 19], ["often", "rare"]), (1,))
    with pytest.raises(ValueError, match=r"counts of the labels .*often.*and the model has .*other.*without .*often"):
        metrics.check_fits(LabelCounts([9, 1], [11, 19], ["other", "rare"]))


@pytest.mark.parametrize(
    "make", [multilabel_compute_metrics, lambda counts: RankingComputeMetrics(counts, top=(1, 3))]
)
def test_batches_that_the_trainer_does_not_concatenate_are_scored_as_one(make, make_bert, make_args):
    counts, rows = LabelCounts([9, 7, 5, 3, 1], [9] * 5), scenarios.make_rows(40, unknown=0.1)
    found = []
    for together in (True, False):
        args = make_args(eval_do_concat_batches=together, per_device_eval_batch_size=7)
        trainer = PLMTrainer(make_bert(), args, eval_dataset=rows, compute_metrics=make(counts))
        scores = scores_alone(trainer.evaluate(), "eval")
        found.append((scores, trainer.run_facts().evaluation.labels_digest))
    (scores, digest), (scores_of_lists, digest_of_lists) = found
    assert scores_of_lists == pytest.approx(scores, nan_ok=True)
    assert digest_of_lists == digest is not None
    assert {"micro_f1", "ndcg_at_3"} & {name for name, score in scores.items() if score > 0}


def test_extra_scores_are_of_all_rows_of_batches_in_lists_and_a_list_of_rows_is_one_batch(data):
    metrics = multilabel_compute_metrics(COUNTS, extra=lambda prediction: {"rows": len(prediction.label_ids)})
    whole = metrics(EvalPrediction(*data))
    batches = [[array[:150], array[150:]] for array in data]
    assert whole["rows"] == 200
    assert metrics(EvalPrediction(*batches)) == whole
    assert metrics(EvalPrediction([(batch, None) for batch in batches[0]], batches[1])) == whole  # with more outputs
    assert metrics(EvalPrediction(data[0].astype(float).tolist(), data[1].tolist())) == whole
