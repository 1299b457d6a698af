"""Names and their order mean the same in rows, counts, model, metrics and collator."""

import itertools
import json

import numpy as np
import pytest
import torch
from datasets import DatasetDict
from scenarios import answer_with, named, rows_with, set_logits
from torch.utils.data import ConcatDataset, Subset

from hf_plm import (
    LabelCounts,
    PLMTrainer,
    count_labels,
    multilabel_compute_metrics,
    predict,
    tune_thresholds,
)

ANIMALS = ["zebra", "yak", "ant"]
IDS = [[0]] * 8 + [[1]] * 3 + [[2]]
POSITIVES = {"zebra": 8, "yak": 3, "ant": 1}
OTHER_ORDER = ["ant", "yak", "zebra"]
TWELVE = [f"name {index}" for index in range(12)]
TWELVE_POSITIVES = {name: 1 + index % 4 for index, name in enumerate(TWELVE)}
INT_KEYS = dict(enumerate(TWELVE))
TEXT_KEYS = json.loads(json.dumps(INT_KEYS))


def animals(form="class ids"):
    """8 zebras, 3 yaks and an ant."""
    if form == "names":
        return rows_with([[ANIMALS[index] for index in row] for row in IDS])
    return rows_with([row[0] for row in IDS] if form == "one class id" else IDS, ANIMALS)


def model_names(trainer):
    """The names in the order of the outputs, from a configuration with whole numbers as ids that does not contradict
    itself."""
    config = trainer.model.config
    assert list(config.id2label) == list(range(config.num_labels))
    assert {index: name for name, index in config.label2id.items()} == config.id2label
    return [config.id2label[index] for index in range(config.num_labels)]


def assert_rows_are_learnt_by_name(trainer, truth):
    """Check that training row i has the labels `truth[i]`, by the names of the model's outputs."""
    names, seen = model_names(trainer), 0
    for batch in trainer.get_train_dataloader():
        for row, labels in zip(batch["input_ids"][:, 0].tolist(), batch["labels"], strict=True):
            ids = labels.nonzero().flatten().tolist() if labels.dim() else [labels.item()]
            assert [names[index] for index in ids] == truth[row]
            seen += 1
    assert seen > 0


def assert_one_order(trainer, positives, truth):
    """Check that each output is the same label in model, counts, state and batches."""
    names = model_names(trainer)
    assert set(names) == set(positives)
    for counts in (trainer.label_counts, trainer.plm_state):
        assert counts.label_names == names
        assert dict(zip(names, counts.positives.tolist(), strict=True)) == positives
    assert_rows_are_learnt_by_name(trainer, truth)


TRUTH = [[ANIMALS[index] for index in row] for row in IDS]


@pytest.mark.parametrize("order", list(itertools.permutations(ANIMALS)), ids=" ".join)
@pytest.mark.parametrize("form", ["class ids", "names"])
@pytest.mark.parametrize("given", [True, False], ids=["counts given", "counted"])
def test_a_model_in_any_order_of_the_names_learns_each_label_by_its_name(order, form, given, make_bert, make_args):
    data = animals(form)
    counts = count_labels(data) if given else None
    trainer = PLMTrainer(make_bert(3, **named(order)), make_args(), train_dataset=data, label_counts=counts)
    assert model_names(trainer) == list(order)
    assert_one_order(trainer, POSITIVES, TRUTH)


@pytest.mark.parametrize("form", ["class ids", "names"])
@pytest.mark.parametrize("order", [ANIMALS, OTHER_ORDER, ["yak", "zebra", "ant"]], ids=" ".join)
def test_given_counts_in_a_different_order_are_matched_by_name(form, order, make_bert, make_args):
    mapping = {name: POSITIVES[name] for name in order}
    pairs = {name: (count, 12 - count) for name, count in mapping.items()}
    counts = LabelCounts.from_mapping(pairs)
    for given in (mapping, pairs, counts):
        trainer = PLMTrainer(make_bert(3), make_args(), train_dataset=animals(form), label_counts=given)
        assert_one_order(trainer, POSITIVES, TRUTH)


def test_class_ids_of_a_single_label_model_are_matched_by_name(make_bert, make_args):
    trainer = PLMTrainer(make_bert(3, **named(OTHER_ORDER)), make_args(), train_dataset=animals("one class id"))
    assert trainer.model.config.problem_type == "single_label_classification"
    assert_one_order(trainer, POSITIVES, TRUTH)


@pytest.mark.parametrize("arguments", [{"plm_class_aware": True}, {"plm_update_steps": 1, "max_steps": 2}])
def test_rows_that_are_drawn_or_streamed_are_matched_by_name(arguments, make_bert, make_args):
    data = animals() if "plm_class_aware" in arguments else animals().to_iterable_dataset()
    trainer = PLMTrainer(make_bert(3, **named(OTHER_ORDER)), make_args(**arguments), train_dataset=data)
    assert model_names(trainer) == OTHER_ORDER
    assert_rows_are_learnt_by_name(trainer, TRUTH)
    trainer.train()
    if trainer.plm_state.is_estimating:
        found = dict(zip(OTHER_ORDER, trainer.plm_state.positives.tolist(), strict=True))
        assert found == {name: 2 * count for name, count in POSITIVES.items()}  # two steps of all rows


@pytest.mark.parametrize("given", [{"ant": 1, "gnu": 3, "zebra": 8}, {"ant": 1, "zebra": 8}])
def test_given_counts_with_different_names_are_refused_and_the_error_shows_both(given, make_bert, make_args):
    with pytest.raises(ValueError) as error:
        PLMTrainer(make_bert(3), make_args(), train_dataset=animals(), label_counts=given)
    assert all(name in str(error.value) for name in {*ANIMALS, *given})


def test_label2id_that_contradicts_id2label_is_refused_and_the_error_shows_both(make_bert, make_args):
    model = make_bert(3, id2label=dict(enumerate(ANIMALS)), label2id={"ant": 0, "yak": 1, "zebra": 2})
    with pytest.raises(ValueError, match="(?s)id2label.*label2id|label2id.*id2label") as error:
        PLMTrainer(model, make_args(), train_dataset=animals())
    assert str(error.value).index("zebra") < str(error.value).rindex("zebra")


@pytest.mark.parametrize("id2label", [TEXT_KEYS, dict(reversed(TEXT_KEYS.items())), dict(reversed(INT_KEYS.items()))])
@pytest.mark.parametrize("given", [None, TWELVE_POSITIVES, dict(reversed(TWELVE_POSITIVES.items()))])
def test_outputs_are_named_for_keys_of_any_type_and_order(id2label, given, make_bert, make_args):
    ids = [[index] for index, count in enumerate(TWELVE_POSITIVES.values()) for _ in range(count)]
    model = make_bert(12)
    model.config.id2label = dict(id2label)
    trainer = PLMTrainer(model, make_args(), train_dataset=rows_with(ids, TWELVE), label_counts=given)
    assert model_names(trainer) == TWELVE
    assert_one_order(trainer, TWELVE_POSITIVES, [[TWELVE[index] for index in row] for row in ids])


@pytest.mark.parametrize(
    ("problem_type", "expected"),
    [("multi_label_classification", ["name 4", "name 10"]), ("single_label_classification", ["name 10"])],
)
def test_predictions_have_the_right_names_if_the_keys_are_text(problem_type, expected, make_bert):
    model = set_logits(make_bert(12), [{4: 1.0, 10: 5.0}.get(index, -5.0) for index in range(12)])
    model.config.id2label, model.config.problem_type = TEXT_KEYS, problem_type
    assert predict(model, {"input_ids": torch.tensor([[1, 2]])}) == [expected]


@pytest.mark.parametrize("keys", [(1, 2, 3), (0, 1, 3), ("a", "b", "c")])
def test_keys_that_are_not_output_ids_are_refused(keys, make_bert, make_args):
    model = make_bert(3)
    model.config.id2label = dict(zip(keys, ANIMALS, strict=True))
    with pytest.raises(ValueError, match="id2label"):
        PLMTrainer(model, make_args(), train_dataset=animals())


def always_zebra(make_bert, order):
    """A model that names every row a zebra."""
    return set_logits(make_bert(3, **named(order)), [5.0 if name == "zebra" else -5.0 for name in order])


@pytest.mark.parametrize("order", [ANIMALS, OTHER_ORDER, ["yak", "ant", "zebra"]], ids=" ".join)
@pytest.mark.parametrize("wrapped", [False, True])
def test_groups_of_the_metrics_are_those_of_the_models_labels(order, wrapped, make_bert, make_args):
    data = animals("names")
    own = multilabel_compute_metrics(data)  # sorted: ant, yak, zebra
    trainer = PLMTrainer(
        always_zebra(make_bert, order),
        make_args(),
        train_dataset=data,
        eval_dataset=data,
        compute_metrics=(lambda prediction: own(prediction)) if wrapped else own,
    )
    scores = trainer.evaluate()
    assert (scores["eval_head_recall"], scores["eval_tail_recall"]) == (1, 0)


def test_groups_that_are_given_are_in_the_order_of_their_counts(make_bert, make_args):
    data = animals("names")
    groups = {"ants": np.array([True, False, False]), "others": np.array([False, True, True])}
    trainer = PLMTrainer(
        always_zebra(make_bert, ANIMALS),
        make_args(),
        train_dataset=data,
        eval_dataset=data,
        compute_metrics=multilabel_compute_metrics(count_labels(data), groups=groups),
    )
    scores = trainer.evaluate()
    assert (scores["eval_ants_recall"], scores["eval_others_recall"]) == (0, 0.5)


@pytest.mark.parametrize(
    ("counts", "shown"),
    [
        ({"gnu": (1, 2), "yak": (3, 9), "ant": (1, 11)}, ["gnu", "zebra"]),
        (LabelCounts([5, 5], [7, 7]), ["2", "3"]),
    ],
    ids=["other names", "another number"],
)
def test_metrics_for_other_labels_are_refused_when_the_trainer_is_made(counts, shown, make_bert, make_args):
    with pytest.raises(ValueError) as error:
        PLMTrainer(
            make_bert(3),
            make_args(),
            train_dataset=animals(),
            eval_dataset=animals(),
            compute_metrics=multilabel_compute_metrics(counts),
        )
    assert all(each in str(error.value) for each in shown)


EVALUATION = [[0], [0], [0], [2]]  # three ants and a zebra, as ids of OTHER_ORDER


@pytest.mark.parametrize("door", ["eval_dataset", "dictionary", "DatasetDict", "evaluate", "evaluate a stream"])
def test_evaluation_data_in_a_different_order_are_scored_by_name(door, make_bert, make_args):
    data, rows = animals(), rows_with(EVALUATION, OTHER_ORDER)
    held = {"dictionary": {"x": rows}, "DatasetDict": DatasetDict(x=rows), "eval_dataset": rows}.get(door)
    trainer = PLMTrainer(
        always_zebra(make_bert, ANIMALS),
        make_args(),
        train_dataset=data,
        eval_dataset=held,
        compute_metrics=multilabel_compute_metrics(data),
    )
    given = {"evaluate": rows, "evaluate a stream": rows.to_iterable_dataset()}.get(door)
    scores = trainer.evaluate(given)
    assert scores["eval_x_exact_match" if held is not None and held is not rows else "eval_exact_match"] == 0.25


@pytest.mark.parametrize("form", ["class ids", "one class id"])
def test_predictions_in_a_different_order_are_matched_by_name(form, make_bert, make_args):
    labels = EVALUATION if form == "class ids" else [row[0] for row in EVALUATION]
    trainer = PLMTrainer(make_bert(3), make_args(), train_dataset=animals(form))
    found = trainer.predict(rows_with(labels, OTHER_ORDER)).label_ids
    ids = found.argmax(1).tolist() if form == "class ids" else found.tolist()
    assert [ANIMALS[index] for index in ids] == ["ant", "ant", "ant", "zebra"]
    assert model_names(trainer) == ANIMALS


def test_thresholds_are_tuned_by_name(make_bert, make_args):
    labels = np.random.default_rng(0).random((40, 3)) < [0.5, 0.4, 0.3]
    table = torch.randn(50, 3, generator=torch.Generator().manual_seed(0))
    rows = rows_with([[2 - index for index in np.flatnonzero(row)] for row in labels], OTHER_ORDER)
    trainer = PLMTrainer(answer_with(make_bert(3), table), make_args(), train_dataset=animals())
    found = trainer.tune_thresholds(rows, shrinkage=0.0)
    np.testing.assert_allclose(found, tune_thresholds(table[:40].numpy(), labels, shrinkage=0.0))


AS_VECTORS = rows_with([[float(index in row) for index in range(3)] for row in IDS])
HELD_OUT = {
    "names": rows_with([["ant"], ["zebra", "yak"], ["yak"]]),
    "class ids": rows_with([[0], [2, 1], [1]], OTHER_ORDER),
    "half of one": Subset(rows_with([["yak"], ["ant"], ["zebra", "yak"], ["yak"]]), [1, 2, 3]),
    "two in a row": ConcatDataset([rows_with([["ant"]]), rows_with([["zebra", "yak"], ["yak"]])]),
}


@pytest.mark.parametrize("train", [animals(), animals("names"), AS_VECTORS], ids=["class ids", "names", "vectors"])
@pytest.mark.parametrize("held_out", HELD_OUT)
def test_evaluation_rows_may_have_names_if_training_rows_have_class_ids_and_vice_versa(
    train, held_out, make_bert, make_args
):
    config = named(ANIMALS) if train is AS_VECTORS else {}
    trainer = PLMTrainer(make_bert(3, **config), make_args(), train_dataset=train, eval_dataset=HELD_OUT[held_out])
    names = model_names(trainer)
    for output in (trainer.predict(HELD_OUT[held_out]), trainer.predict(trainer.eval_dataset)):
        found = [{names[label] for label in np.flatnonzero(row == 1)} for row in output.label_ids]
        assert found == [{"ant"}, {"zebra", "yak"}, {"yak"}]
    assert trainer.evaluate()["eval_loss"] > 0
    trainer.train()  # the training rows are still read as they are
    assert trainer.plm_state.positives.tolist() == [POSITIVES[name] for name in names]


@pytest.mark.parametrize(
    ("train", "rows"),
    [(animals(), rows_with([["ant"], ["gnu"]])), (animals("names"), rows_with([[0], [3]], [*ANIMALS, "gnu"]))],
)
def test_a_name_that_is_not_among_the_labels_is_an_error(train, rows, make_bert, make_args):
    with pytest.raises(ValueError, match="(?s)eval_dataset.*'gnu'"):
        PLMTrainer(make_bert(3), make_args(), train_dataset=train, eval_dataset=rows)
