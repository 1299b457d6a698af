"""Unusual sources of label names, orders and logits."""

import numpy as np
import pytest
import torch
from datasets import concatenate_datasets
from scenarios import named, rows_with, set_logits
from torch.utils.data import ConcatDataset, Subset

from hf_plm import (
    ClassAwareDataset,
    LabelCounts,
    MultiLabelCollator,
    PLMTrainer,
    count_labels,
    label_space_of,
    multilabel_compute_metrics,
)
from hf_plm.card_use import _scores_in_words
from hf_plm.decisions import calibrate, fold_thresholds, read_decisions

ANIMALS = ["zebra", "yak", "ant"]
OTHER_ORDER = ["ant", "yak", "zebra"]
IDS = [[0]] * 8 + [[1]] * 3 + [[2]]
VECTORS = np.eye(3)[[0] * 8 + [1] * 3 + [2]].tolist()


def labels_of(loader):
    return torch.cat([batch["labels"] for batch in loader]).argmax(1).tolist()


@pytest.mark.parametrize("rows", [IDS, VECTORS], ids=["ids", "vectors"])
@pytest.mark.parametrize("order", [ANIMALS, OTHER_ORDER], ids=" ".join)
@pytest.mark.parametrize("door", ["collator", "counts", "counts of a stream", "drawn rows"])
def test_names_given_for_rows_without_names_must_have_the_order_of_the_model(door, order, rows, make_bert, make_args):
    data, collator, given = rows_with(rows), None, None
    if door == "collator":
        collator = MultiLabelCollator(3, label_names=ANIMALS)
    if door.startswith("counts"):
        given = LabelCounts([8, 3, 1], [4, 9, 11], ANIMALS)
    if door == "drawn rows":
        data = ClassAwareDataset(data, 3, label_names=ANIMALS)
    if door == "counts of a stream":
        data = data.to_iterable_dataset()
    model, args = make_bert(3, **named(order)), make_args(max_steps=1)
    if order == ANIMALS:
        assert PLMTrainer(model, args, collator, data, label_counts=given).label_space.names == tuple(ANIMALS)
        return
    with pytest.raises(ValueError, match=r"\['zebra', 'yak', 'ant'\].*\['ant', 'yak', 'zebra'\], in a different"):
        PLMTrainer(model, args, collator, data, label_counts=given)


def test_counts_without_an_order_fit_rows_in_any_order(make_bert, make_args):
    counts = {"zebra": (1, 11), "yak": (3, 9), "ant": (8, 4)}
    trainer = PLMTrainer(make_bert(3, **named(OTHER_ORDER)), make_args(), None, rows_with(IDS), label_counts=counts)
    assert trainer.label_counts.positives.tolist() == [8, 3, 1]


@pytest.mark.parametrize(
    "part",
    [
        lambda data: Subset(data, range(12)),
        lambda data: Subset(Subset(data, range(12)), range(12)),
        lambda data: ConcatDataset([Subset(data, range(6)), Subset(data, range(6, 12))]),
    ],
    ids=["a part", "a part of a part", "two parts"],
)
def test_parts_of_data_sets_have_the_names_of_the_whole(part, make_bert, make_args):
    rows, other = rows_with(IDS, ANIMALS), rows_with(IDS, OTHER_ORDER)
    trainer = PLMTrainer(
        make_bert(3, **named(OTHER_ORDER)), make_args(), train_dataset=part(rows), eval_dataset=part(other)
    )
    assert trainer.label_counts.positives.tolist() == [1, 3, 8]
    assert sorted(labels_of(trainer.get_train_dataloader())) == [0, 1, 1, 1] + [2] * 8
    assert labels_of(trainer.get_eval_dataloader()) == [0] * 8 + [1] * 3 + [2]


def test_rows_that_are_drawn_are_evaluated_by_name(make_bert, make_args):
    rows = rows_with(IDS, ANIMALS)
    drawn = ClassAwareDataset(rows)
    trainer = PLMTrainer(make_bert(3, **named(OTHER_ORDER)), make_args(), train_dataset=rows)
    assert labels_of(trainer.get_eval_dataloader(drawn)) == [2 - row["labels"][0] for row in drawn.drawn]


def test_parts_of_several_orders_are_refused(make_bert, make_args):
    parts = ConcatDataset([rows_with(IDS, ANIMALS), rows_with(IDS, OTHER_ORDER)])
    with pytest.raises(ValueError, match="parts of a ConcatDataset"):
        PLMTrainer(make_bert(3), make_args(), train_dataset=parts)


@pytest.mark.parametrize("name", ["label", "label_ids"])
def test_a_column_that_collators_take_for_labels_is_refused(name, make_bert, make_args):
    rows = rows_with([0, 0, 1, 2], ANIMALS)
    other = rows_with([2, 2, 1, 0], OTHER_ORDER).rename_column("labels", name)
    message = rf"rename_column\('{name}', 'labels'\)"
    with pytest.raises(ValueError, match=message):
        PLMTrainer(make_bert(3), make_args(), train_dataset=rows, eval_dataset=other)
    with pytest.raises(ValueError, match=message):
        PLMTrainer(make_bert(3), make_args(), train_dataset=other, label_counts=count_labels(rows))
    with pytest.raises(ValueError, match=message):
        PLMTrainer(make_bert(3), make_args(), train_dataset=rows).predict(other)


def test_label2id_without_id2label_names_the_outputs(make_bert, make_args):
    model = make_bert(3)
    model.config.label2id = {name: str(index) for index, name in enumerate(ANIMALS)}
    rows = rows_with([[ANIMALS[index] for index in row] for row in IDS])
    trainer = PLMTrainer(model, make_args(), train_dataset=rows)
    assert model.config.id2label == dict(enumerate(ANIMALS))
    assert trainer.label_counts.positives.tolist() == [8, 3, 1]


@pytest.mark.parametrize("train", [None, "stream"])
def test_an_error_lists_the_names_that_only_the_evaluation_data_have_without_training_rows(
    train, make_bert, make_args
):
    rows = rows_with([["zebra"], ["ant"], ["yak"]])
    other = concatenate_datasets([rows, rows_with([["gnu"], ["cow"]])])
    stream = rows.to_iterable_dataset() if train else None
    args = make_args(max_steps=1, plm_update_steps=1)
    with pytest.raises(ValueError, match=r"\['gnu', 'cow'\]"):
        PLMTrainer(make_bert(3, **named(ANIMALS)), args, train_dataset=stream, eval_dataset=other)


def test_evaluation_sets_of_several_orders_need_a_model_with_names(make_bert, make_args):
    sets = {"x": rows_with(IDS, ANIMALS), "y": rows_with(IDS, OTHER_ORDER)}
    with pytest.raises(ValueError, match=r"eval_dataset\['y'\].*eval_dataset\['x'\].*in a different order"):
        PLMTrainer(make_bert(3), make_args(), train_dataset=rows_with(IDS), eval_dataset=sets)
    PLMTrainer(make_bert(3, **named(ANIMALS)), make_args(), train_dataset=rows_with(IDS), eval_dataset=sets)


def test_counts_without_names_do_not_fit_rows_of_names(make_bert, make_args):
    rows = rows_with([[ANIMALS[index] for index in row] for row in IDS])
    with pytest.raises(ValueError, match="give label_counts its label_names"):
        PLMTrainer(make_bert(3), make_args(), train_dataset=rows, label_counts=LabelCounts([1, 3, 8], [11, 9, 4]))


@pytest.mark.parametrize("order", [ANIMALS, OTHER_ORDER], ids=" ".join)
def test_metrics_without_names_need_rows_in_the_order_of_the_model(order, make_bert, make_args):
    metrics = multilabel_compute_metrics(LabelCounts([8, 3, 1], [4, 9, 11]))
    model, args, data = make_bert(3, **named(order)), make_args(), rows_with(IDS, ANIMALS)
    if order == ANIMALS:
        PLMTrainer(model, args, train_dataset=data, compute_metrics=metrics)
        return
    with pytest.raises(ValueError, match="the metrics were made from counts without names"):
        PLMTrainer(model, args, train_dataset=data, compute_metrics=metrics)


@pytest.fixture
def scored(make_bert, make_args):
    """A trainer whose model always returns the same logits."""
    data = rows_with(VECTORS)
    return PLMTrainer(
        set_logits(make_bert(3), [-1.0, -2.0, -3.0]),
        make_args(),
        train_dataset=data,
        eval_dataset=data,
        compute_metrics=multilabel_compute_metrics(data),
    )


def test_thresholds_are_chosen_only_on_logits(scored, messages):
    scored.preprocess_logits_for_metrics = lambda logits, labels: logits.sigmoid()
    scored.evaluate()
    assert "preprocess_logits_for_metrics changes the logits" in messages.text
    with pytest.raises(ValueError, match="preprocess_logits_for_metrics"):
        scored.tune_thresholds()
    assert read_decisions(scored.model.config).thresholds is None


def test_logits_that_are_only_unpacked_are_logits(scored, messages):
    expected = scored.tune_thresholds()
    scored.preprocess_logits_for_metrics = lambda logits, labels: logits.float().clone()
    assert scored.tune_thresholds().tolist() == expected.tolist()
    assert "preprocess_logits" not in messages.text


class ProbabilitiesFirst(torch.nn.Module):
    """A model whose output has another tensor of the same shape before the logits."""

    main_input_name = "input_ids"

    def __init__(self, model):
        super().__init__()
        self.model, self.config = model, model.config

    def forward(self, input_ids=None):
        logits = self.model(input_ids=input_ids).logits
        return {"probabilities": logits.sigmoid(), "logits": logits}


def test_logits_are_found_by_name_at_any_position_of_the_output(scored, make_args):
    expected = scored.tune_thresholds()
    data = scored.eval_dataset
    trainer = PLMTrainer(ProbabilitiesFirst(scored.model), make_args(), train_dataset=data, eval_dataset=data)
    assert trainer.tune_thresholds().tolist() == expected.tolist()
    assert (trainer.predict(data).predictions[0] < 0).all()


def test_the_card_does_not_say_to_cut_at_half_if_new_thresholds_follow_folded_ones(scored):
    scored.tune_thresholds()
    fold_thresholds(scored.model)
    assert "compare the scores with 0.5" in _scores_in_words(scored.run_facts())
    scored.tune_thresholds()
    assert "with 0.5" not in _scores_in_words(scored.run_facts())


@pytest.mark.parametrize("threshold", [0.5, 0.2, 0.0])
def test_the_card_says_that_the_metrics_had_their_own_thresholds(threshold, scored):
    scored.compute_metrics = multilabel_compute_metrics(scored.eval_dataset, threshold)
    scored.evaluate()
    assert scored.run_facts().was_decided_otherwise == (threshold != 0.5)
    scored.tune_thresholds()
    scored.evaluate()
    assert not scored.run_facts().was_decided_otherwise


MANY = [f"name {index}" for index in range(12)]


@pytest.mark.parametrize("kind", [list, lambda data: Subset(data, range(12)), lambda data: ConcatDataset([data])])
def test_making_a_trainer_fails_if_evaluation_rows_of_any_kind_have_other_names(kind, make_bert, make_args):
    held_out = kind(rows_with([[name] for name in MANY]))
    with pytest.raises(ValueError, match="eval_dataset has label names") as error:
        PLMTrainer(make_bert(2), make_args(), train_dataset=rows_with([["a"], ["b"]]), eval_dataset=held_out)
    assert all(repr(name) in str(error.value) for name in MANY)


def test_data_sets_of_different_forms_have_no_label_space():
    with pytest.raises(ValueError, match="data set 0 as names, data set 1 as ids can be read. Give lists of names"):
        label_space_of(rows_with([["a"], ["b"]]), rows_with([[0], [2, 1]]))


def test_an_error_lists_all_names_that_only_the_type_of_an_evaluation_column_has(make_bert, make_args):
    names = ["a", "b", *MANY]
    with pytest.raises(ValueError, match="cast it to a ClassLabel") as error:
        PLMTrainer(
            make_bert(2),
            make_args(),
            train_dataset=rows_with([[0], [1]], names[:2]),
            eval_dataset=rows_with([[0], [13]], names),
        )
    assert all(repr(name) in str(error.value) for name in names)
    data = rows_with([[0], [1]], names[:2]).cast_column("labels", rows_with([[0]], names).features["labels"])
    assert PLMTrainer(make_bert(14), make_args(), train_dataset=data).label_space.names == tuple(names)


def test_an_error_lists_the_names_of_training_rows_that_the_model_lacks_and_those_of_the_model(make_bert, make_args):
    model = make_bert(2, **named(["dog", "cat"]))
    with pytest.raises(
        ValueError, match=r"'gnu' is not among the 2 label names \['dog', 'cat'\], and neither are \['yak"
    ):
        PLMTrainer(model, make_args(), train_dataset=rows_with([["cat"], ["gnu", "dog"], ["yak"], ["gnu"]]))


@pytest.mark.parametrize("first", ["eval_dataset", "compute_metrics", "the data set given to evaluate()"])
@pytest.mark.parametrize("door", ["evaluate", "predict"])
def test_if_the_model_has_no_names_all_evaluation_sets_must_have_the_same_order(first, door, make_bert, make_args):
    held_out = rows_with(IDS, ANIMALS)
    trainer = PLMTrainer(
        make_bert(3),
        make_args(),
        train_dataset=rows_with(IDS),
        eval_dataset=held_out if first == "eval_dataset" else None,
        compute_metrics=multilabel_compute_metrics(held_out) if first == "compute_metrics" else None,
    )
    trainer.evaluate(held_out)
    with pytest.raises(
        ValueError, match=r"(?s)\['ant', 'yak', 'zebra'\].*\['zebra', 'yak', 'ant'\], in a different order"
    ) as error:
        getattr(trainer, door)(rows_with(IDS, OTHER_ORDER))
    assert first in str(error.value)


def test_calibrating_with_a_state_that_has_seen_no_batch_gives_a_warning(scored, messages):
    calibrate(scored.model, scored.plm_state)
    assert "plm_state has seen no batch" in messages.text
