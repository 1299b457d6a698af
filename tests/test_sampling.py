"""Class-aware sampling has the right frequencies and differs by epoch; long tails have the requested length."""

import numpy as np
import pytest
import scenarios
import torch
from datasets import Dataset
from torch import nn

from hf_plm import ClassAwareDataset, PLMTrainer, count_labels, make_long_tailed

IDS = [[0], [0, 1], [0], [0, 2], [], [0], [0, 1], [0]] * 50
FORMS = {
    "ids": IDS,
    "multi_hot": [[float(label in row) for label in range(3)] for row in IDS],
    "names": [[("one", "three", "two")[label] for label in row] for row in IDS],  # counts are in alphabetical order
}


@pytest.mark.parametrize("form", FORMS)
def test_every_class_is_drawn_equally_often_and_every_row_of_it(form):
    data = Dataset.from_dict({"row": range(400), "labels": FORMS[form]})
    drawn = [row["row"] for epoch in range(20) for row in epoch_of(ClassAwareDataset(data), epoch)]
    times = np.bincount(drawn, minlength=400).reshape(50, 8).sum(0) / len(drawn)
    by_class = np.array([1 / 7, 1 / 7 + 1 / 2, 1 / 7, 1 / 7 + 1, 0, 1 / 7, 1 / 7 + 1 / 2, 1 / 7]) / 3
    assert times == pytest.approx(by_class, abs=0.02)


def epoch_of(dataset, epoch):
    dataset.set_epoch(epoch)
    return dataset.__getitems__(list(range(len(dataset))))


def test_the_draw_is_a_function_of_seed_and_epoch():
    data = Dataset.from_dict({"row": range(400), "labels": IDS})
    draws = {
        (seed, epoch): [row["row"] for row in epoch_of(ClassAwareDataset(data, seed=seed), epoch)]
        for seed in (0, 1)
        for epoch in (0, 1)
    }
    assert len({tuple(rows) for rows in draws.values()}) == 4
    again = ClassAwareDataset(data, seed=1)
    epoch_of(again, 0)
    assert [row["row"] for row in epoch_of(again, 1)] == draws[1, 1]
    assert again[5] == again.__getitems__([5])[0]


@pytest.mark.parametrize("workers", [{}, {"dataloader_num_workers": 2, "dataloader_persistent_workers": True}])
def test_a_trainer_draws_new_rows_every_epoch_and_counts_them(workers, make_args):
    data = Dataset.from_dict({"input_ids": [[5 + row // 10] * 8 for row in range(400)], "labels": IDS})
    seen = []
    model = scenarios.make_bert(num_labels=3)
    model.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(kwargs["input_ids"][:, 0].tolist()), with_kwargs=True
    )
    args = make_args(num_train_epochs=2, plm_class_aware=True, **workers)
    trainer = PLMTrainer(model, args, train_dataset=data)
    rows = trainer.train_dataset
    assert trainer.label_counts.positives.tolist() == count_labels(rows.drawn, 3).positives.tolist()
    assert trainer.label_counts.positives[2] > 100  # of 400 rows; 50 without sampling
    trainer.train()
    for epoch in (0, 1):
        rows.set_epoch(epoch)
        expected = sorted(row["input_ids"][0] for row in rows.__getitems__(list(range(400))))
        assert sorted(sum(seen[25 * epoch : 25 * (epoch + 1)], [])) == expected
    assert sorted(sum(seen[:25], [])) != sorted(sum(seen[25:], []))

    trainer.state.epoch = 3.0  # on several ranks only the callback sets the epoch, not accelerate
    trainer.callback_handler.on_epoch_begin(trainer.args, trainer.state, trainer.control)
    drawn = rows.drawn["input_ids"][:]
    rows.set_epoch(3)
    assert rows.drawn["input_ids"][:] == drawn


@pytest.mark.parametrize("names", ["abc", "cabd"])
def test_names_may_come_from_the_model(names, make_args):
    config = {"id2label": dict(enumerate(names)), "label2id": {name: index for index, name in enumerate(names)}}
    labels = [["abc"[label] for label in row] for row in IDS]
    data = Dataset.from_dict({"input_ids": [[5] * 8] * 400, "labels": labels})
    model = scenarios.make_bert(num_labels=len(names), **config)
    counts = PLMTrainer(model, make_args(plm_class_aware=True), train_dataset=data).label_counts
    assert counts.label_names == list(names)
    positives = dict(zip(names, counts.positives.tolist(), strict=True))
    assert positives["a"] == 400
    assert positives["c"] == pytest.approx(150, abs=30)  # 50 without sampling
    assert positives.get("d", 0) == 0


def test_a_name_that_no_row_of_the_first_epoch_has_is_a_label(make_args):
    names = [f"{label:02d}" for label in range(40)]
    data = Dataset.from_dict({"input_ids": [[5] * 8] * 40, "labels": [[name] for name in names]})
    trainer = PLMTrainer(scenarios.make_bert(num_labels=40), make_args(plm_class_aware=True), train_dataset=data)
    assert trainer.label_counts.label_names == names
    assert trainer.label_counts.positives.sum() == 40
    assert trainer.label_counts.positives.min() == 0
    trainer.train()


@pytest.mark.parametrize("factor", [1, 10, 100])
def test_class_sizes_fall_exponentially(factor):
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(5), [1200, 1000, 1100, 1000, 1300]))
    data = Dataset.from_dict({"row": range(len(labels)), "label": labels})
    thinned = make_long_tailed(data, factor, seed=1)
    sizes = np.bincount(thinned["label"])
    assert sizes.tolist() == [round(1000 * factor ** (-c / 4)) for c in range(5)]
    rows = thinned["row"][:]
    assert rows == sorted(set(rows))
    assert make_long_tailed(data, factor, seed=1)["row"][:] == rows
    if factor > 1:
        assert make_long_tailed(data, factor, seed=2)["row"][:] != rows


@pytest.mark.parametrize(
    ("column", "labels", "factor", "message"),
    [
        ("label", [0, 1], 0.5, "imbalance_factor is 0.5; it must be 1 or more"),
        ("label", [0, 1], float("nan"), "imbalance_factor is nan; it must be 1 or more"),
        ("class", [0, 1], 10, "there is no column 'label'"),
        ("label", [[0], [1]], 10, "column 'label' .*'ids'|two ways|2 ways"),
        ("label", [0, 2], 10, r"the classes have \[1, 0, 1\] rows; each needs some"),
        ("label", [1, 1], 10, r"the classes have \[0, 2\] rows; each needs some"),
    ],
)
def test_errors_say_why_a_data_set_cannot_be_thinned(column, labels, factor, message):
    with pytest.raises(ValueError, match=message):
        make_long_tailed(Dataset.from_dict({column: labels}), factor)


def test_a_single_label_trainer_takes_a_long_tail_re_sampled(make_args):
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(4, 3)

        def forward(self, x):
            return {"logits": self.linear(x)}

    labels = np.repeat(np.arange(3), 100)
    data = Dataset.from_dict({"x": torch.randn(300, 4).tolist(), "label": labels.tolist()})
    thinned = make_long_tailed(data, 10).rename_column("label", "labels")
    args = make_args(remove_unused_columns=False, plm_rule="kl")
    trainer = PLMTrainer(Model(), args, train_dataset=ClassAwareDataset(thinned))
    trainer.train()
    positives = trainer.plm_state.histograms[0].sum(-1)
    assert positives.sum() == len(thinned)
    assert positives.min() > 0.2 * positives.sum()


def test_rows_that_were_drawn_in_an_earlier_run_are_counted_from_the_first_epoch_on(make_args):
    data = Dataset.from_dict({"input_ids": [[5, 6]] * 400, "labels": IDS})
    rows = ClassAwareDataset(data)
    first = PLMTrainer(scenarios.make_bert(num_labels=3), make_args(), train_dataset=rows).label_counts
    rows.set_epoch(3)
    again = PLMTrainer(scenarios.make_bert(num_labels=3), make_args(), train_dataset=rows).label_counts
    assert again.positives.tolist() == first.positives.tolist()
