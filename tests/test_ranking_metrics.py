"""Ranking scores equal plain loops and scikit-learn; they are computed batch by batch and keep only sums."""

import math
import pickle

import numpy as np
import pytest
import torch
from sklearn.metrics import ndcg_score
from transformers import EvalPrediction

from hf_plm import LabelCounts, MultiLabelCollator, PLMTrainer, count_labels
from hf_plm.metrics import evaluating
from hf_plm.ranking_metrics import RankingComputeMetrics, propensities

NUM_LABELS = 30
COUNTS = LabelCounts([int(900 / (label + 1)) for label in range(NUM_LABELS)], [500] * NUM_LABELS)
TOP = (1, 3, 5, NUM_LABELS)


@pytest.fixture
def data():
    """Distinct logits that bfloat16 holds exactly, and labels: rows with none, with few and with many positives."""
    generator = np.random.default_rng(0)
    logits = generator.permuted(np.tile(np.arange(NUM_LABELS, dtype=np.float32) - 10, (60, 1)), axis=1)
    labels = (generator.random((60, NUM_LABELS)) < generator.choice([0, 0.05, 0.2, 0.9], (60, 1))).astype(np.float32)
    assert (labels.sum(1) == 0).any()
    assert (labels.sum(1) == 1).any()
    return logits, labels


def slow_scores(logits, labels, top):
    num_rows = max(p + n for p, n in zip(COUNTS.positives.tolist(), COUNTS.negatives.tolist(), strict=True))
    c = (math.log(num_rows) - 1) * 2.5**0.55
    inverse = [1 + c * (positives + 1.5) ** -0.55 for positives in COUNTS.positives.tolist()]
    scores = {}
    for k in top:
        precisions, recalls, ndcgs, found, best = [], [], [], 0, 0
        for row_logits, row_labels in zip(logits, labels, strict=True):
            positives = [label for label in range(NUM_LABELS) if row_labels[label] == 1]
            if not positives:
                continue
            known = [label for label in range(NUM_LABELS) if row_labels[label] in (0, 1)]
            ranking = sorted(known, key=lambda label, values=row_logits: -values[label])[:k]
            hits = [label for label in ranking if label in positives]
            precisions.append(len(hits) / k)
            recalls.append(len(hits) / len(positives))
            gained = sum(1 / math.log2(ranking.index(label) + 2) for label in hits)
            ndcgs.append(gained / sum(1 / math.log2(rank + 1) for rank in range(1, min(k, len(positives)) + 1)))
            found += sum(inverse[label] for label in hits)
            best += sum(sorted((inverse[label] for label in positives), reverse=True)[:k])
        scores[f"precision_at_{k}"] = sum(precisions) / len(precisions)
        scores[f"recall_at_{k}"] = sum(recalls) / len(recalls)
        scores[f"ndcg_at_{k}"] = sum(ndcgs) / len(ndcgs)
        scores[f"psp_at_{k}"] = found / best
    return scores


def by_batch(compute_metrics, logits, labels, size=7):
    starts = range(0, len(logits), size)
    for start in starts:
        batch = EvalPrediction(logits[start : start + size], labels[start : start + size])
        scores = compute_metrics(batch, compute_result=start == starts[-1])
        assert bool(scores) == (start == starts[-1])
    return scores


def test_propensities_are_those_of_the_paper():
    # C = (log 20 - 1) * 2 = 3.99146
    assert propensities(LabelCounts([1, 3, 7], [19, 17, 13]), a=1, b=1).tolist() == pytest.approx(
        [1 / (1 + 3.9914645 / 2), 1 / (1 + 3.9914645 / 4), 1 / (1 + 3.9914645 / 8)]
    )
    # C = (log 10,000 - 1) * 2.5 ** 0.55 = 8.2103404 * 1.6552630; then 1.5 ** -0.55 and 101.5 ** -0.55
    values = propensities(LabelCounts([0, 100], [10_000, 9000]))
    assert values.dtype == torch.float64
    assert values.tolist() == pytest.approx(
        [1 / (1 + 8.2103404 * 1.6552630 * 0.8001102), 1 / (1 + 8.2103404 * 1.6552630 * 0.0787850)]
    )


@pytest.mark.parametrize(
    ("counts", "kwargs", "message"),
    [
        (LabelCounts([], []), {}, "label_counts has 0 rows"),
        (LabelCounts([0, 0], [0, 0]), {}, "label_counts has 0 rows"),
        (LabelCounts([1, 0], [1, 2]), {}, "label_counts has 2 rows"),
        (LabelCounts([1, 0], [1, 3]), {"a": 0}, "a=0 and b=1.5"),
        (LabelCounts([1, 0], [1, 3]), {"b": 0}, "a=0.55 and b=0"),
    ],
)
def test_errors_name_counts_and_arguments_that_give_no_propensities(counts, kwargs, message):
    with pytest.raises(ValueError, match=message):
        propensities(counts, **kwargs)
    assert (propensities(LabelCounts([1, 0], [1, 3])) < 1).all()


@pytest.mark.parametrize("unknown", [None, np.nan, -100])
@pytest.mark.parametrize("whole", [True, False])
def test_scores_equal_the_plain_loops(data, unknown, whole):
    logits, labels = data
    if unknown is not None:
        labels[np.random.default_rng(1).random(labels.shape) < 0.3] = unknown
    compute_metrics = RankingComputeMetrics(COUNTS, TOP)
    expected = slow_scores(logits, labels, TOP)
    assert len(set(expected.values())) > 12
    for _ in range(2):  # the second evaluation starts from zero
        scores = by_batch(compute_metrics, logits, labels, 60 if whole else 7)
        assert scores == pytest.approx(expected)
        assert all(type(value) is float for value in scores.values())
        logits = -logits
        expected = slow_scores(logits, labels, TOP)


def test_scores_worked_out_by_hand():
    compute_metrics = RankingComputeMetrics(LabelCounts([1, 3, 7], [19, 17, 13]), top=(2,))
    compute_metrics.inverse_propensities = torch.tensor([8.0, 4.0, 2.0])
    logits = np.array([[1, 2, 3], [3, 2, 1], [1, 2, 3]], np.float32)
    labels = np.array([[1, 1, 0], [0, 0, 1], [0, 0, 0]], np.float32)
    assert compute_metrics(EvalPrediction(logits, labels)) == pytest.approx(
        {
            "precision_at_2": (1 / 2 + 0) / 2,
            "recall_at_2": (1 / 2 + 0) / 2,
            "ndcg_at_2": (0.6309298 / 1.6309298 + 0) / 2,
            "psp_at_2": 4 / (8 + 4 + 2),
        }
    )


def test_ndcg_is_scikit_learns(data):
    logits, labels = data
    logits = np.random.default_rng(1).normal(size=logits.shape)
    scored = labels.any(1)
    scores = RankingComputeMetrics(COUNTS, TOP)(EvalPrediction(logits, labels))
    for k in TOP:
        assert scores[f"ndcg_at_{k}"] == pytest.approx(ndcg_score(labels[scored], logits[scored], k=k))


def test_a_perfect_ranking_has_1_and_the_reverse_0(data):
    _, labels = data
    labels[:, 15:] = 0
    compute_metrics = RankingComputeMetrics(COUNTS, (1, 5))
    ideal = labels * COUNTS.positives.max().item() - COUNTS.positives.numpy()  # the rarest positives first
    scores = compute_metrics(EvalPrediction(ideal, labels))
    assert {name for name, value in scores.items() if value == 1} == {
        *("precision_at_1", "ndcg_at_1", "psp_at_1", "ndcg_at_5", "psp_at_5")
    }
    assert set(compute_metrics(EvalPrediction(-ideal, labels)).values()) == {0}


@pytest.mark.parametrize("worst", [np.nan, -np.inf])
def test_nan_and_minus_infinity_rank_behind_all_but_the_unknown(worst):
    compute_metrics = RankingComputeMetrics(LabelCounts([5] * 6, [5] * 6), top=(1, 2, 3, 4))
    logits = np.array([[worst, -9, 9, np.inf, 5, np.inf]], np.float32)
    labels = np.array([[1, 0, 0, 1, np.nan, np.nan]], np.float32)
    both_ways = [np.concatenate([rows, rows[:, ::-1]]) for rows in (logits, labels)]
    scores = compute_metrics(EvalPrediction(*both_ways))
    assert [scores[f"recall_at_{k}"] for k in (1, 2, 3, 4)] == [0.5, 0.5, 0.5, 1]


@pytest.mark.parametrize(
    "convert",
    [
        lambda logits, labels: (torch.from_numpy(logits), torch.from_numpy(labels)),
        lambda logits, labels: (torch.from_numpy(logits).bfloat16(), torch.from_numpy(labels)),
        lambda logits, labels: (logits.astype(np.float16), labels.astype(np.int8)),
        lambda logits, labels: (logits, torch.from_numpy(labels).to(torch.int8)),
        lambda logits, labels: ((logits, logits[:, :1]), (labels, labels[:, :1])),
    ],
    ids=["tensors", "bfloat16", "int8", "mixed", "tuples"],
)
def test_arrays_and_tensors_of_all_dtypes_have_the_same_scores_and_are_not_changed(data, convert):
    logits, labels = data
    labels[np.random.default_rng(1).random(labels.shape) < 0.3] = -100
    before = logits.copy(), labels.copy()
    expected = RankingComputeMetrics(COUNTS, TOP)(EvalPrediction(logits, labels))
    assert RankingComputeMetrics(COUNTS, TOP)(EvalPrediction(*convert(logits, labels))) == expected
    assert np.array_equal(logits, before[0])
    assert np.array_equal(labels, before[1])


def test_memory_does_not_grow_with_the_rows(data):
    compute_metrics = RankingComputeMetrics(COUNTS)
    compute_metrics(EvalPrediction(*data), compute_result=False)
    size = len(pickle.dumps(compute_metrics))
    for _ in range(20):
        compute_metrics(EvalPrediction(*data), compute_result=False)
    assert len(pickle.dumps(compute_metrics)) == size
    assert compute_metrics(EvalPrediction(*data)) == pytest.approx(slow_scores(*data, (1, 3, 5)))


@pytest.mark.parametrize("top", [(), (0,), (1, NUM_LABELS + 1), (-1, 2), (1.5,)])
def test_an_error_names_ranks_that_do_not_exist(top):
    with pytest.raises(ValueError, match=r"top is \(.*from 1 to 30"):
        RankingComputeMetrics(COUNTS, top)


def test_a_single_number_of_ranks_is_an_error():
    with pytest.raises(ValueError, match="top is 3; give a sequence of ranks from 1 to 30"):
        RankingComputeMetrics(COUNTS, 3)


@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        (np.zeros((3, 30)), np.zeros((3, 29)), r"logits have shape \(3, 30\), labels have shape \(3, 29\)"),
        (np.zeros((3, 29)), np.zeros((3, 29)), r"\(3, 29\), labels have shape \(3, 29\); both must be \(rows, 30\)"),
        (np.zeros(30), np.zeros(30), r"logits have shape \(30,\), labels have shape \(30,\)"),
        (
            np.zeros((3, 30)),
            np.full((3, 30), 0.5),
            r"labels hold a value that is neither.*: 0.5 in row 0 of the batch, label 0",
        ),
    ],
)
def test_an_error_names_bad_input_and_the_next_evaluation_starts_from_zero(data, logits, labels, message):
    compute_metrics = RankingComputeMetrics(COUNTS)
    compute_metrics(EvalPrediction(-data[0], data[1]), compute_result=False)
    with pytest.raises(ValueError, match=message):
        compute_metrics(EvalPrediction(logits, labels), compute_result=False)
    assert compute_metrics(EvalPrediction(*data)) == pytest.approx(slow_scores(*data, (1, 3, 5)))


def test_rows_without_any_positive_have_scores_that_are_nan_with_one_warning(data, caplog):
    compute_metrics = RankingComputeMetrics(COUNTS)
    labels = np.full((3, 30), np.nan, np.float32)
    labels[0] = 0
    scores = compute_metrics(EvalPrediction(np.zeros((3, 30)), labels))
    assert len(scores) == 12
    assert np.isnan(list(scores.values())).all()
    assert caplog.messages == ["No row has a positive label in the references: all ranking scores are NaN"]
    compute_metrics(EvalPrediction(np.zeros((3, 30)), labels), compute_result=False)  # one such batch is no problem
    assert compute_metrics(EvalPrediction(*data)) == pytest.approx(slow_scores(*data, (1, 3, 5)))


@pytest.mark.parametrize("sparse", [False, True])
def test_a_trainer_scores_batch_by_batch(make_bert, make_args, text_data, sparse):
    calls = []

    class Recorder(RankingComputeMetrics):
        def __call__(self, prediction, compute_result=True):
            calls.append((len(prediction[0]), prediction[1].dtype, compute_result))
            return super().__call__(prediction, compute_result)

    trainer = PLMTrainer(
        make_bert(),
        make_args(batch_eval_metrics=True, per_device_eval_batch_size=30),
        MultiLabelCollator(5, sparse=sparse),
        train_dataset=text_data,
        eval_dataset=text_data,
        compute_metrics=Recorder(count_labels(text_data)),
    )
    metrics = trainer.evaluate()
    dtype = torch.int8 if sparse else torch.float32
    assert calls == [(30, dtype, False), (30, dtype, False), (4, dtype, True)]
    prediction = trainer.predict(text_data)
    direct = RankingComputeMetrics(count_labels(text_data))(
        EvalPrediction(prediction.predictions, prediction.label_ids)
    )
    assert len(set(direct.values())) > 4
    assert {name: metrics[f"eval_{name}"] for name in direct} == pytest.approx(direct)


def test_the_propensities_can_come_from_a_different_data_set():
    compute_metrics = RankingComputeMetrics(COUNTS, a=0.6, b=2.6)
    assert torch.equal(compute_metrics.inverse_propensities, (1 / propensities(COUNTS, 0.6, 2.6)).float())


def test_reset_drops_the_values_of_an_interrupted_evaluation(data):
    compute_metrics = RankingComputeMetrics(COUNTS)
    compute_metrics(EvalPrediction(-data[0], data[1]), compute_result=False)
    compute_metrics.reset()
    assert compute_metrics(EvalPrediction(*data)) == pytest.approx(slow_scores(*data, (1, 3, 5)))


def test_each_evaluation_of_a_model_starts_from_zero(data):
    compute_metrics = RankingComputeMetrics(COUNTS)
    with pytest.raises(KeyboardInterrupt), evaluating(COUNTS, None):
        compute_metrics(EvalPrediction(-data[0], data[1]), compute_result=False)
        raise KeyboardInterrupt
    with evaluating(COUNTS, None) as record:
        assert by_batch(compute_metrics, *data) == pytest.approx(slow_scores(*data, (1, 3, 5)))
    assert not record.was_scored  # it has no scores of single labels


def test_propensities_are_put_in_the_order_of_the_model(data):
    names = [f"label {index}" for index in range(NUM_LABELS)]
    order = np.random.default_rng(3).permutation(NUM_LABELS)
    logits, labels = data
    metrics = RankingComputeMetrics(LabelCounts(COUNTS.positives, COUNTS.negatives, names))
    model = LabelCounts([1] * NUM_LABELS, [1] * NUM_LABELS, [names[index] for index in order])
    with evaluating(model, None):
        scores = metrics(EvalPrediction(logits[:, order], labels[:, order]))
    assert scores == pytest.approx(slow_scores(logits, labels, (1, 3, 5)))
    assert metrics(EvalPrediction(logits[:, order], labels[:, order]))["psp_at_3"] != pytest.approx(scores["psp_at_3"])
