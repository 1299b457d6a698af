"""Names, order and number of labels are decided once; a different order is corrected, errors name differences."""

import inspect
import json

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, List
from transformers import BertConfig

from hf_plm import (
    ClassAwareDataset,
    LabelSpace,
    MultiLabelCollator,
    count_labels,
    inspect_labels,
    label_space_of,
    make_long_tailed,
    multilabel_folds,
    train_test_split_multilabel,
)
from hf_plm.counting import check_labels, positive_entries
from hf_plm.label_space import label_order, names_fingerprint, read_id2label, write_id2label

NAMES = ["zebra", "yak", "ant"]


def classes(rows, names, column="labels"):
    return Dataset.from_dict({column: rows}).cast_column(column, List(ClassLabel(names=names)))


def test_an_order_gives_the_position_of_each_name():
    order = label_order(NAMES, "one", ["ant", "yak", "zebra"], "other")
    assert [["ant", "yak", "zebra"][index] for index in order] == NAMES
    assert label_order(NAMES, "one", tuple(NAMES), "other") is None


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            ["zebra", "yak"],
            r"those of other are \['zebra', 'yak', 'ant'\]: \['ant'\] missing from one. Give both",
        ),
        (["zebra", "yak", "ant", "cow"], r"are \['zebra', 'yak', 'ant', 'cow'\].*\['cow'\] missing from other"),
        (["zebra", "yak", "Ant"], r"\['ant'\] missing from one, and \['Ant'\] missing from other"),
    ],
)
def test_other_names_are_an_error_that_shows_both(names, message):
    with pytest.raises(ValueError, match=message):
        label_order(names, "one", NAMES, "other")


@pytest.mark.parametrize("as_text", [False, True])
def test_names_are_read_by_id_for_every_type_of_key(as_text):
    names = [f"name {index}" for index in range(12)]
    config = BertConfig(num_labels=12)
    config.id2label = dict(enumerate(names))
    if as_text:
        config.id2label = json.loads(json.dumps(config.id2label))
    assert read_id2label(config) == names
    write_id2label(config, names, 12)
    assert config.id2label == dict(enumerate(names))
    assert config.label2id == {name: index for index, name in enumerate(names)}


def test_generic_names_count_as_no_names():
    assert read_id2label(BertConfig(num_labels=3)) is None
    assert read_id2label(None) is None
    config = BertConfig(num_labels=2)
    config.id2label = {"0": "LABEL_0", "1": "LABEL_1"}
    assert read_id2label(config) is None
    write_id2label(config, None, 2)
    assert config.id2label == {0: "LABEL_0", 1: "LABEL_1"}


@pytest.mark.parametrize(
    ("id2label", "label2id", "message"),
    [
        ({1: "a", 2: "b"}, None, r"id2label has the keys \[1, 2\]; the keys must be the ids from 0 to 1"),
        ({"x": "a", "y": "b"}, None, "id2label has the keys"),
        ({0: "a", 1: "a"}, None, r"each once \(more than once: \['a'\]\)"),
        ({0: "a", 1: "b"}, {"a": 1, "b": 0}, r"id2label has the label names \['a', 'b'\], and .* \['b', 'a'\]"),
    ],
)
def test_a_configuration_that_contradicts_itself_is_an_error(id2label, label2id, message):
    config = BertConfig(num_labels=2)
    config.id2label = id2label
    config.label2id = label2id
    with pytest.raises(ValueError, match=message):
        read_id2label(config)


def test_a_fingerprint_depends_on_names_and_order():
    prints = {names_fingerprint(names) for names in (NAMES, NAMES[::-1], [*NAMES, ""], None)}
    assert len(prints) == 4
    assert names_fingerprint(tuple(NAMES)) == names_fingerprint(NAMES)


def test_the_space_of_several_sets_has_the_names_of_all():
    space = label_space_of(Dataset.from_dict({"labels": [["b"], ["a"]]}), Dataset.from_dict({"labels": [["c"], []]}))
    assert space == LabelSpace(3, ("a", "b", "c"), "labels", "names")
    assert space.config_arguments() == {
        "num_labels": 3,
        "id2label": {0: "a", 1: "b", 2: "c"},
        "label2id": {"a": 0, "b": 1, "c": 2},
    }
    assert label_space_of([[0], [2]], [[4], []]) == LabelSpace(5, None, "labels", "ids")
    # without the first set, the second could be read in two ways
    assert label_space_of([[1, 1], [0, 1]], [[0, 1], [1, 0]]).form == "multi_hot"
    assert label_space_of(Dataset.from_dict({"labels": [[0], [1]]}), classes([[0]], ["b", "a"])).names == ("b", "a")
    with pytest.raises(ValueError, match=r"data set 1 are \['a', 'c'\], those of data set 0 are \['a', 'b'\]"):
        label_space_of(classes([[0]], ["a", "b"]), classes([[1]], ["a", "c"]))


def test_a_column_in_a_different_order_is_counted_in_the_order_of_the_names():
    data = classes([[0]] * 8 + [[1], [2, 0]], NAMES)
    counts = count_labels(data, label_names=["ant", "yak", "zebra"])
    assert counts.positives.tolist() == [1, 1, 9]
    rows, labels = positive_entries(data, counts, "labels", "ids")
    assert np.bincount(labels).tolist() == [1, 1, 9]
    assert sorted(labels[rows == 9].tolist()) == [0, 2]
    single = Dataset.from_dict({"labels": [0, 2, 2, None]}).cast_column("labels", ClassLabel(names=NAMES))
    assert count_labels(single, label_names=["ant", "yak", "zebra"]).positives.tolist() == [2, 0, 1]


@pytest.mark.parametrize(
    ("space", "data", "message"),
    [
        (LabelSpace(3, tuple(NAMES), form="ids"), classes([[0]], ["a", "b", "c"]), "the label names of the test set"),
        (LabelSpace(3, None, form="ids"), classes([[0]], ["a", "b"]), "has 2 label names, but there are 3 labels"),
        (
            LabelSpace(1, ("a",), form="names"),
            Dataset.from_dict({"labels": [[f"name {index}"] for index in range(20)]}),
            "the test set has label names that .* lack: .*'name 0'.*'name 19'.*label_space_of",
        ),
        (LabelSpace(3, None, form="ids"), Dataset.from_dict({"labels": [[0], [3]]}), "the test set .* row 1: the cla"),
        (
            LabelSpace(3, None, form="multi_hot"),
            Dataset.from_dict({"labels": [[1, 0, 1], [2, 0, 1]]}),
            "the test set does not have the labels of the training data: .*row 1: the value 2 is neither",
        ),
    ],
)
def test_an_error_says_how_the_labels_of_the_data_differ(space, data, message):
    with pytest.raises(ValueError, match=message):
        check_labels(data, space, "the test set")


def test_data_of_the_same_labels_or_without_any_fit():
    space = LabelSpace(3, tuple(NAMES), form="ids")
    check_labels(classes([[0, 1], []], NAMES[::-1]), space, "the test set")
    check_labels(Dataset.from_dict({"text": ["a"]}), space, "the test set")
    check_labels(None, space, "the test set")


def test_fitting_a_collator_sets_names_form_and_order_in_a_copy():
    collator = MultiLabelCollator(3)
    space = LabelSpace(3, ("ant", "yak", "zebra"), form="ids")
    fitted = collator.fitted(space, label_order(NAMES, "rows", space.names, "model"))
    assert fitted([{"input_ids": [1], "labels": [0]}])["labels"].tolist() == [[0, 0, 1]]
    assert (fitted.label_format, fitted.label_names) == ("ids", list(space.names))
    assert (collator.label_format, collator.label_names, collator.order) == ("auto", None, None)
    assert fitted.fitted(space) is not fitted
    assert MultiLabelCollator(3, label_format="ids").fitted(LabelSpace(3, None, form="ids")).label_format == "ids"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_labels": 4}, "has num_labels=4, but the training data and the model have 3"),
        ({"num_labels": 3, "column": "tags"}, "has column='tags', but the training data and the model have 'labels'"),
        ({"num_labels": 3, "label_format": "multi_hot"}, "has label_format='multi_hot', .* have 'ids'"),
        ({"num_labels": 3, "label_names": ["a", "b", "c"]}, "the label names of the data_collator are"),
    ],
)
def test_an_error_says_how_a_collator_disagrees(arguments, message):
    with pytest.raises(ValueError, match=message):
        MultiLabelCollator(**arguments).fitted(LabelSpace(3, ("ant", "yak", "zebra"), form="ids"))


def test_all_functions_with_a_label_column_have_the_same_arguments_in_the_same_order():
    wanted = ["num_labels", "column", "label_format", "label_names"]
    functions = [
        count_labels,
        inspect_labels,
        label_space_of,
        make_long_tailed,
        multilabel_folds,
        train_test_split_multilabel,
        ClassAwareDataset,
        MultiLabelCollator,
    ]
    for function in functions:
        found = [name for name in inspect.signature(function).parameters if name in wanted]
        assert found == wanted, function
