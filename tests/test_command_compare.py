"""`hf-plm compare` gives every method the same seeds and rows, and its last sentence agrees with the figures."""

import json
import math

import pytest
import scenarios
import torch
from datasets import Dataset
from matplotlib.figure import Figure

from hf_plm import LabelCounts, PLMLoss, PLMTrainingArguments, comparing
from hf_plm.command_line import main
from hf_plm.comparing import METHODS, SCORES, TUNED, Comparison, compare_methods
from hf_plm.comparison_plot import plot_comparison
from hf_plm.comparison_runs import ComparisonRuns
from hf_plm.objectives import asymmetric


def comparison_of(**macro_f1):
    """A comparison in which every score has these values, seed by seed."""
    scores = {
        row.replace("_", " "): dict.fromkeys(("macro_f1", "micro_f1", "map", "tail_f1"), values)
        for row, values in macro_f1.items()
    }
    return Comparison([1, 2, 3], scores, {"train": 100, "validation": 10, "test": 10}, 60.0)


def test_the_last_sentence_says_if_the_difference_is_more_than_chance():
    sure = comparison_of(bce=[10.0, 20, 30], default=[12.0, 22.1, 32.0])
    assert sure.conclusion() == (
        "By macro-F1, 'default' suits these data best (22.0), and its lead over the next, 'bce' (by 2.0 ± 0.1), is "
        "more than chance."
    )
    unsure = comparison_of(bce=[10.0, 20, 30], default=[11.0, 22, 33])
    assert unsure.conclusion() == (
        "By macro-F1, 'default' suits these data best (22.0), but its lead over 'bce' (by 2.0 ± 2.5) may be chance."
    )
    many = comparison_of(**{f"m{row}": [10.0 + row, 20 - row, 15 + 0.1 * row] for row in range(6)})
    assert "and 2 more may be chance." in many.conclusion()
    assert comparison_of(bce=[1.0, 2, 3]).conclusion().endswith("there is nothing to compare it with.")


def test_the_table_has_means_spreads_and_intervals():
    table = comparison_of(bce=[10.0, 20, 30], default=[11.0, 22, 33]).table()
    assert table.loc["bce"].tolist() == ["20.0 ± 10.0"] * 4 + ["-2.0 ± 2.5"]
    assert table.loc["default"].tolist() == ["22.0 ± 11.0"] * 4 + ["best"]


def test_the_picture_has_a_dot_for_each_training():
    figure = plot_comparison(comparison_of(bce=[10.0, 20, 30], default=[11.0, 22, 33]))
    assert isinstance(figure, Figure)
    for axis in figure.axes:
        dots = [each.get_offsets()[:, 0].tolist() for each in axis.collections if len(each.get_offsets()) == 3]
        assert dots == [[10, 20, 30], [11, 22, 33]]


def test_a_score_that_is_nan_is_null_in_the_json():
    comparison = comparison_of(bce=[10.0, 20, 30], default=[11.0, 22, 33])
    comparison.scores["bce"]["tail_f1"] = [math.nan] * 3
    stored = json.loads(json.dumps(comparison.to_dict(), allow_nan=False))
    assert stored["scores"]["bce"]["tail_f1"] == [None] * 3
    assert stored["comparison"]["macro_f1"]["lead"]["bce"]["mean"] == pytest.approx(2)


def test_methods_start_with_the_same_seed_and_differ_only_by_the_loss(text_data, tmp_path):
    seeds = []

    def make_model():
        seeds.append(torch.initial_seed())
        return scenarios.make_bert()

    args = PLMTrainingArguments(str(tmp_path), use_cpu=True, num_train_epochs=1, learning_rate=1e-2)
    data = {"train": text_data.select(range(40)), "validation": text_data.select(range(40, 52))}
    data["test"] = text_data.select(range(52, 64))
    methods = ["bce", "pos_weight"]
    comparison = compare_methods(make_model, args, data, methods=methods, num_seeds=2)
    assert list(comparison.scores) == ["bce", "bce" + TUNED, "pos_weight", "pos_weight" + TUNED]
    assert comparison.seeds == [42, 43]
    assert seeds == [42, 42, 43, 43]
    assert all(comparison.scores[m]["map"] == comparison.scores[m + TUNED]["map"] for m in methods)
    assert comparison.scores["bce"]["map"] != comparison.scores["pos_weight"]["map"]
    again = compare_methods(make_model, args, data, methods=["pos_weight"], num_seeds=2)
    for score in ("macro_f1", "micro_f1", "map"):
        assert again.scores["pos_weight"][score] == comparison.scores["pos_weight"][score]
    assert not list(tmp_path.iterdir())  # no model, no pictures of single runs


@pytest.fixture
def counted(monkeypatch, tmp_path):
    """`compare(...)` with a folder for its runs: its comparison, and which trainings it made (no model is trained)."""
    trainings = []

    def train(make_model, args, *others):
        trainings.append((args.seed, args.plm_preset))
        return args

    def score(args, data):
        value = args.seed / 100 + (args.plm_preset == "default") / 1000
        return {kind: dict.fromkeys(SCORES, value) for kind in ("", TUNED)}

    monkeypatch.setattr(comparing, "_train", train)
    monkeypatch.setattr(comparing, "_score", score)

    def compare(methods, num_seeds, **settings):
        trainings.clear()
        args = PLMTrainingArguments(str(tmp_path), use_cpu=True)
        runs = ComparisonRuns(tmp_path, settings)
        return compare_methods(None, args, {}, methods=methods, num_seeds=num_seeds, runs=runs), list(trainings)

    return compare


def test_a_comparison_continues_where_it_stopped_and_with_more_methods_and_seeds(counted, tmp_path):
    first, trainings = counted(["bce"], 2, model="a")
    assert trainings == [(42, "off"), (43, "off")]
    more, trainings = counted(["bce", "default"], 3, model="a")
    assert trainings == [(42, "default"), (43, "default"), (44, "off"), (44, "default")]
    assert more.scores["bce"]["map"] == pytest.approx([42, 43, 44]) and more.scores["default"]["map"][0] > 42
    assert more.scores["bce"]["map"][:2] == first.scores["bce"]["map"]
    again, trainings = counted(["bce", "default"], 3, model="a")
    assert trainings == [] and again.scores == more.scores
    (tmp_path / "runs" / "bce-43.json").unlink()  # as if it had been stopped then
    repeated, trainings = counted(["bce", "default"], 3, model="a")
    assert trainings == [(43, "off")] and repeated.scores == more.scores


def test_a_comparison_with_other_settings_is_refused(counted):
    counted(["bce"], 2, model="a")
    with pytest.raises(
        ValueError, match=r"bce-42.json is from a comparison with model 'a' instead of 'b'; to continue"
    ):
        counted(["bce"], 2, model="b")


def test_each_method_has_the_settings_of_its_name():
    losses = {}
    logits, labels = torch.tensor([[1.0, -2.0]] * 4), torch.tensor([[1.0, 0], [0, 1], [0, 0], [0, 0]])
    for method, settings in METHODS.items():
        args = PLMTrainingArguments("unused", use_cpu=True, **settings)
        losses[method] = PLMLoss(LabelCounts([2, 1], [98, 99]), **args.plm_settings())(logits, labels).item()
    bce = torch.nn.functional.binary_cross_entropy_with_logits
    assert losses["bce"] == pytest.approx(bce(logits, labels).item(), rel=1e-6)
    weighted = bce(logits, labels, pos_weight=torch.tensor([10.0, 10.0])).item()  # of 49 and 99, cut at 10
    assert losses["pos_weight"] == pytest.approx(weighted, rel=1e-6)
    assert losses["asymmetric"] == pytest.approx(
        asymmetric(logits, labels, gamma_negative=2.0).mean().item(), rel=1e-6
    )
    assert len({round(loss, 4) for loss in losses.values()}) == 4


@pytest.mark.slow
def test_the_command_prints_and_writes(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    scenarios.make_bert().save_pretrained("bert")
    scenarios.make_tokenizer().save_pretrained("bert")
    labels = [
        "|".join(name for name, each in zip("abc", (2, 3, 5), strict=True) if row % each == 0) for row in range(80)
    ]
    Dataset.from_dict({"text": ["small game"] * 80, "labels": labels}).to_csv("rows.csv")
    flags = ["--methods", "bce, default", "--seeds", "2", "--num-train-epochs", "1", "--use-cpu"]
    main(["compare", "rows.csv", "--model", "bert", *flags])
    printed = capsys.readouterr().out
    assert "default, tuned thresholds" in printed and "By macro-F1, '" in printed
    stored = json.loads((tmp_path / "outputs/rows-comparison/comparison.json").read_text())
    assert set(stored["scores"]) == {"bce", "bce" + TUNED, "default", "default" + TUNED}
    assert stored["comparison"]["macro_f1"]["conclusion"] in printed
    assert (tmp_path / "outputs/rows-comparison/comparison.png").stat().st_size > 10_000
    main(["compare", "rows.csv", "--model", "bert", *flags])
    assert "4 of 4 trainings are already in" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["compare", "rows.csv", "--model", "bert", *flags, "--learning-rate", "1"])
    assert "learning_rate None instead of 1.0" in capsys.readouterr().err
