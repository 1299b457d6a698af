"""A user's collator uses the trainer's labels, and an error names labels that only the evaluation data have."""

import pytest
import torch
from datasets import DatasetDict
from scenarios import make_rows, named, rows_with, with_class_ids
from test_cases_labels import ANIMALS, OTHER_ORDER, TRUTH, animals, assert_rows_are_learnt_by_name, model_names
from transformers import default_data_collator

from hf_plm import MultiLabelCollator, PLMTrainer, count_labels, multilabel_compute_metrics

UNKNOWN = [["gnu"], ["zebra"], ["emu"]]
UNKNOWN_IDS = rows_with([[1], [0], [2]], ["zebra", "gnu", "emu"])


@pytest.mark.parametrize("rows", [rows_with(UNKNOWN), UNKNOWN_IDS], ids=["names", "class ids"])
@pytest.mark.parametrize("kind", [lambda rows: rows, lambda rows: {"x": rows}, lambda rows: DatasetDict(x=rows)])
def test_an_early_error_lists_all_names_that_only_the_evaluation_data_have(rows, kind, make_bert, make_args):
    with pytest.raises(ValueError, match="id2label|label_names") as error:
        PLMTrainer(make_bert(3), make_args(), train_dataset=animals("names"), eval_dataset=kind(rows))
    assert "gnu" in str(error.value) and "emu" in str(error.value)


@pytest.mark.parametrize("door", ["evaluate", "predict", "tune_thresholds"])
def test_names_that_only_a_later_data_set_has_are_an_error_before_a_row_is_read(door, make_bert, make_args):
    trainer = PLMTrainer(make_bert(3), make_args(), train_dataset=animals())
    trainer.model.register_forward_pre_hook(lambda *args: pytest.fail("a row was read"))
    with pytest.raises(ValueError, match="gnu") as error:
        getattr(trainer, door)(rows_with(UNKNOWN))
    assert "emu" in str(error.value)


def test_class_ids_beyond_the_labels_are_an_early_error(make_bert, make_args):
    with pytest.raises(ValueError, match="7"):
        PLMTrainer(
            make_bert(5), make_args(), train_dataset=with_class_ids(make_rows(16)), eval_dataset=rows_with([[0], [7]])
        )


@pytest.mark.parametrize("given", ["the model's names", "counts with all names"])
def test_names_missing_from_the_training_data_can_be_given(given, make_bert, make_args):
    data, names = animals("names"), ["ant", "emu", "gnu", "yak", "zebra"]
    model = make_bert(5, **(named(names) if given == "the model's names" else {}))
    counts = count_labels(data, label_names=names)
    trainer = PLMTrainer(
        model,
        make_args(),
        train_dataset=data,
        eval_dataset=rows_with(UNKNOWN),
        label_counts=counts if given == "counts with all names" else None,
        compute_metrics=multilabel_compute_metrics(counts),
    )
    assert trainer.label_counts.positives.tolist() == [1, 0, 0, 3, 8]
    trainer.train()
    assert "eval_macro_f1" in trainer.evaluate()
    assert model_names(trainer) == names


AMBIGUOUS = [[0, 1], [1, 0], [0], []] * 4  # the first two rows can be read in two ways, all rows together in only one


@pytest.mark.parametrize("collator", [lambda: MultiLabelCollator(2), lambda: MultiLabelCollator(2, sparse=True)])
def test_a_users_collator_learns_the_form_of_the_data(collator, make_bert, make_args):
    data = rows_with(AMBIGUOUS)
    sizes = {"per_device_train_batch_size": 2, "per_device_eval_batch_size": 2}
    args = make_args(**sizes, train_sampling_strategy="sequential", plm_rule="kl")
    trainer = PLMTrainer(make_bert(2), args, collator(), train_dataset=data, eval_dataset=data)
    trainer.train()
    assert trainer.plm_state.histograms[0].sum(-1).tolist() == [12, 8]
    assert trainer.predict(data).label_ids[:4].tolist() == [[1, 1], [1, 1], [1, 0], [0, 0]]


@pytest.mark.parametrize("form", ["class ids", "names"])
@pytest.mark.parametrize("names", [None, OTHER_ORDER, ANIMALS], ids=["no names", "other order", "the same order"])
@pytest.mark.parametrize("order", [ANIMALS, OTHER_ORDER], ids=" ".join)
def test_a_users_collator_has_the_names_of_the_model(form, names, order, make_bert, make_args):
    collator = MultiLabelCollator(3, label_names=names)
    trainer = PLMTrainer(make_bert(3, **named(order)), make_args(), collator, train_dataset=animals(form))
    assert model_names(trainer) == order
    assert_rows_are_learnt_by_name(trainer, TRUTH)


def test_two_trainers_can_share_a_collator(make_bert, make_args):
    collator = MultiLabelCollator(3)
    trainers = [
        PLMTrainer(make_bert(3, **named(order)), make_args(), collator, train_dataset=animals("names"))
        for order in (ANIMALS, OTHER_ORDER)
    ]
    for trainer in trainers:
        assert_rows_are_learnt_by_name(trainer, TRUTH)


@pytest.mark.parametrize(
    ("collator", "shown"),
    [
        (MultiLabelCollator(4), ["4", "3"]),
        (MultiLabelCollator(3, label_names=["ant", "gnu", "zebra"]), ["gnu", "yak"]),
        (MultiLabelCollator(3, label_format="multi_hot"), ["multi_hot"]),
    ],
    ids=["another number", "other names", "another form"],
)
def test_a_collator_for_other_labels_is_refused_when_the_trainer_is_made(collator, shown, make_bert, make_args):
    with pytest.raises(ValueError) as error:
        PLMTrainer(make_bert(3), make_args(), collator, train_dataset=animals())
    assert all(each in str(error.value) for each in shown)


class OwnCollator:
    """Makes the batch, but does not convert labels."""

    def __init__(self):
        self.calls = 0

    def __call__(self, rows):
        self.calls += 1
        assert all("labels" not in row for row in rows)
        return default_data_collator(rows)


def test_a_collator_of_a_different_class_makes_everything_but_the_labels(make_bert, make_args):
    own = OwnCollator()
    trainer = PLMTrainer(make_bert(3, **named(OTHER_ORDER)), make_args(), own, train_dataset=animals())
    assert_rows_are_learnt_by_name(trainer, TRUTH)
    assert own.calls == 1
    assert torch.equal(next(iter(trainer.get_train_dataloader()))["labels"].sum(0), torch.tensor([1.0, 3.0, 8.0]))
