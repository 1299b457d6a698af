"""If a package of the extra `all` is missing, the rest works, and an error says what to install."""

import json
import subprocess
import sys
from importlib.metadata import requires
from pathlib import Path
from types import SimpleNamespace

import pytest
import scenarios
from datasets import Dataset

import hf_plm
from hf_plm import PLMTrainer, command_compare, count_labels, inspect_labels, multilabel_compute_metrics, reporting
from hf_plm.command_line import main
from hf_plm.comparing import SCORES, Comparison
from hf_plm.extras import USES, needed

USERS = {"matplotlib": ("plots", "drawing", "label_plots", "comparison_plot"), "rich": ("report_tables",), "PIL": ()}
INSTALL = 'is not installed; run: pip install "hf_plm[all]"'


@pytest.fixture
def without(monkeypatch):
    """A function that hides a package, as if it were not installed, and unloads the modules that imported it."""

    def hide(package):
        for name in list(sys.modules):
            if name.startswith(f"{package}."):
                monkeypatch.delitem(sys.modules, name)
        monkeypatch.setitem(sys.modules, package, None)
        for name in USERS[package]:
            monkeypatch.delitem(sys.modules, f"hf_plm.{name}", raising=False)
            monkeypatch.delattr(hf_plm, name, raising=False)

    return hide


@pytest.mark.parametrize("package", USES)
def test_the_error_says_which_package_is_missing_and_what_to_install(package, without):
    without(package)
    with pytest.raises(ModuleNotFoundError) as error, needed(package):
        __import__(package)
    assert str(error.value) == f"{USES[package]} {INSTALL}" and error.value.name == package


def test_another_error_is_left_as_it_is():
    with pytest.raises(ImportError, match="cannot import name 'no_such_name'"), needed("rich"):
        from rich import no_such_name  # noqa: F401
    with pytest.raises(ValueError, match="mine"), needed("rich"):
        raise ValueError("mine")


def test_the_extra_all_has_exactly_the_optional_packages():
    brought = {each.split(">=")[0].lower() for each in requires("hf_plm") or () if 'extra == "all"' in each}
    assert brought == {"pillow" if package == "PIL" else package for package in USES}


def test_without_matplotlib_a_training_saves_model_and_card_and_warns_once(without, make_args, monkeypatch):
    without("matplotlib")
    warnings = []
    monkeypatch.setattr(reporting.logger, "warning", warnings.append)
    data = scenarios.make_rows(64)
    args = make_args(save_strategy="epoch", eval_strategy="epoch", num_train_epochs=2)
    metrics = multilabel_compute_metrics(count_labels(data))
    trainer = PLMTrainer(scenarios.make_bert(), args, train_dataset=data, eval_dataset=data, compute_metrics=metrics)
    trainer.train()
    trainer.save_model()
    trainer.create_model_card()
    folder = Path(args.output_dir)
    assert (folder / "model.safetensors").is_file() and (folder / "plm_state.safetensors").is_file()
    card = (folder / "README.md").read_text()
    assert "## Scores" in card and ".png" not in card
    assert not (folder / "plots").exists()
    assert warnings == [f"No pictures are drawn: matplotlib, which draws pictures, {INSTALL}"]


@pytest.mark.parametrize("file", USERS["matplotlib"] + USERS["rich"])
def test_an_error_says_which_package_a_file_needs(file, without):
    package = "rich" if file in USERS["rich"] else "matplotlib"
    without(package)
    with pytest.raises(ModuleNotFoundError, match=r"hf_plm\[all\]"):
        __import__(f"hf_plm.{file}")


@pytest.fixture
def table(tmp_path):
    rows = {"text": ["an editor", "a game"] * 8, "labels": ["tools|text", "games"] * 8}
    Dataset.from_dict(rows).to_csv(tmp_path / "rows.csv")
    return str(tmp_path / "rows.csv")


def test_without_rich_inspect_is_an_error_of_one_line_and_json_works(without, table, capsys):
    without("rich")
    with pytest.raises(SystemExit) as stopped:
        main(["inspect", table])
    assert stopped.value.code == 2
    assert capsys.readouterr().err == f"hf-plm: rich, which prints tables in the terminal, {INSTALL}\n"
    main(["inspect", table, "--json"])
    assert json.loads(capsys.readouterr().out)["rows"] == 16


def test_without_matplotlib_inspect_prints_its_report_and_refuses_to_draw(without, table, tmp_path, capsys):
    without("matplotlib")
    main(["inspect", table])
    assert "16 rows" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["inspect", table, "--plot", str(tmp_path / "labels.png")])
    assert capsys.readouterr().err == f"hf-plm: matplotlib, which draws pictures, {INSTALL}\n"


def test_without_rich_there_is_a_label_report(without, make_args):
    without("rich")
    data = scenarios.make_rows(64)
    metrics = multilabel_compute_metrics(count_labels(data))
    trainer = PLMTrainer(
        scenarios.make_bert(), make_args(), train_dataset=data, eval_dataset=data, compute_metrics=metrics
    )
    trainer.evaluate()
    assert "train_pos" in repr(trainer.label_report())
    assert inspect_labels(data).warnings() is not None


def test_without_matplotlib_a_comparison_is_printed_and_written(without, monkeypatch, tmp_path, capsys):
    without("matplotlib")
    scores = {"bce": dict.fromkeys(SCORES, [10.0, 20.0, 30.0]), "default": dict.fromkeys(SCORES, [11.0, 22.0, 33.0])}
    comparison = Comparison([1, 2, 3], scores, {"train": 100, "validation": 10, "test": 10}, 60.0)
    task = SimpleNamespace(make_model=None, data={}, processor=None)
    monkeypatch.setattr(command_compare, "read_flags", lambda args: (task, None))
    monkeypatch.setattr("hf_plm.comparing.compare_methods", lambda *args, **kwargs: comparison)
    main(["compare", "rows.csv", "--output-dir", str(tmp_path)])
    printed = capsys.readouterr()
    assert [path.name for path in tmp_path.iterdir()] == ["comparison.json"]
    assert printed.out.endswith(f"Written: {tmp_path / 'comparison.json'}\n")
    assert printed.err == f"! there is no comparison.png: matplotlib, which draws pictures, {INSTALL}\n"


WITHOUT_ALL = """
import sys
for name in ("PIL", "matplotlib", "rich"):
    sys.modules[name] = None
from hf_plm import inspect_labels, read_labeled
table, folder = sys.argv[1:]
rows = read_labeled(table)["train"]
print(rows.column_names, inspect_labels(rows).num_rows)

from hf_plm.file_predictions import load_classifier
from hf_plm.recipes import image_processor

for use, name in ((image_processor, None), (image_processor, folder), (load_classifier, folder)):
    try:
        use(name)
    except ModuleNotFoundError as error:
        print(error)
"""


@pytest.mark.slow
def test_without_the_extra_texts_can_be_read_and_pictures_raise_an_error(table, make_vit, tmp_path):
    make_vit().save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text('{"image_processor_type": "ViTImageProcessor"}')
    process = subprocess.run(
        [sys.executable, "-c", WITHOUT_ALL, table, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert process.returncode == 0, process.stderr
    message = f"Pillow, which reads pictures, {INSTALL}"
    assert process.stdout.splitlines() == ["['text', 'labels'] 16", message, message, message]
