"""One rank writes the model card, completely or not at all, and no error in it ends a training."""

from pathlib import Path

import pytest
from datasets import Dataset, concatenate_datasets
from huggingface_hub import ModelCard
from matplotlib.figure import Figure

from hf_plm import PLMTrainer, hub, multilabel_compute_metrics
from hf_plm.label_trainer import describe_data


@pytest.fixture
def make_trainer(make_bert, text_data, make_args):
    def make(**kwargs):
        metrics = multilabel_compute_metrics(text_data)
        args = make_args(**kwargs)
        return PLMTrainer(make_bert(), args, train_dataset=text_data, eval_dataset=text_data, compute_metrics=metrics)

    return make


def card_of(trainer):
    trainer.create_model_card()
    return ModelCard.load(Path(trainer.args.output_dir) / "README.md")


def no_space(*args, **kwargs):
    raise OSError(28, "No space left on device")


def test_only_the_first_rank_writes(make_trainer, monkeypatch):
    trainer = make_trainer()
    monkeypatch.setattr(trainer, "is_world_process_zero", lambda: False)
    trainer.create_model_card()
    assert not (Path(trainer.args.output_dir) / "README.md").exists()


def test_a_card_is_replaced_completely_or_not_at_all(make_trainer, monkeypatch):
    trainer = make_trainer()
    trainer.create_model_card(model_name="first")
    monkeypatch.setattr(ModelCard, "save", lambda self, path: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        trainer.create_model_card(model_name="second")
    folder = Path(trainer.args.output_dir)
    assert "# first" in (folder / "README.md").read_text()
    assert [each.name for each in folder.iterdir() if each.name.startswith("_")] == []


def test_a_picture_that_cannot_be_drawn_gives_a_warning_and_the_card_is_written(make_trainer, monkeypatch):
    trainer = make_trainer(save_strategy="epoch", eval_strategy="epoch")
    trainer.train()
    assert "![label scores]" in card_of(trainer).text
    monkeypatch.setattr(Figure, "savefig", no_space)
    card = card_of(trainer)
    assert "![" not in card.text and "| AP |" in card.text  # nor is an earlier picture shown
    assert [path.name for path in Path(trainer.args.output_dir).iterdir() if path.name.startswith("_")] == []


def test_a_card_that_fails_gives_a_warning_during_training_and_an_error_otherwise(make_trainer, monkeypatch):
    trainer = make_trainer()
    warnings = []
    monkeypatch.setattr(hub.logger, "warning", warnings.append)
    monkeypatch.setattr(ModelCard, "save", no_space)
    trainer.update_model_card()
    assert len(warnings) == 1 and "The model card could not be written: [Errno 28] No space left" in warnings[0]
    with pytest.raises(OSError, match="No space left"):
        trainer.create_model_card()


def test_facts_that_cannot_be_gathered_end_no_run(make_trainer, monkeypatch):
    trainer = make_trainer(save_strategy="epoch")
    warnings = []
    monkeypatch.setattr(hub.logger, "warning", warnings.append)
    monkeypatch.setattr(trainer, "run_facts", lambda: 1 / 0)
    trainer.train()
    assert warnings == ["No pictures of the run could be drawn: division by zero"]
    assert (Path(trainer.args.output_dir) / "checkpoint-4" / "model.safetensors").is_file()


def test_a_trainer_without_facts_raises_an_error():
    with pytest.raises(NotImplementedError, match="HubTrainer has no run_facts"):
        hub.HubTrainer.run_facts(hub.HubTrainer.__new__(hub.HubTrainer))


def test_the_card_names_the_data():
    rows = Dataset.from_dict({"labels": [[0], [1]]})
    assert describe_data(rows) == "the evaluation data, 2 rows"
    assert describe_data(concatenate_datasets([rows], split="test")) == "the split 'test', 2 rows"
    assert describe_data(rows, "comments") == "the evaluation data 'comments', 2 rows"
    assert describe_data(iter([])) == "the evaluation data"
