"""A LoRA adapter, loaded as its card says, has the names, probabilities and decisions of the trained model."""

import re
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from scenarios import make_rows, make_tokenizer, named
from transformers import BertForSequenceClassification

import hf_plm
from hf_plm import PLMTrainer, calibrate, multilabel_compute_metrics, predict

NAMES = list("abcde")


@pytest.fixture
def adapter(make_bert, make_args, tmp_path, monkeypatch):
    """A trainer of an adapter with tuned thresholds; its base has a different number of labels, and no names."""
    monkeypatch.chdir(tmp_path)
    make_bert(2).save_pretrained("someone/base")
    make_tokenizer().save_pretrained("someone/base")
    base = BertForSequenceClassification.from_pretrained("someone/base", **named(NAMES), ignore_mismatched_sizes=True)
    config = LoraConfig(task_type="SEQ_CLS", target_modules=["query"], modules_to_save=["classifier"])
    data = make_rows(64)
    trainer = PLMTrainer(
        get_peft_model(base, config),
        make_args(learning_rate=5e-2, num_train_epochs=2),
        train_dataset=data,
        eval_dataset=data,
        processing_class=make_tokenizer(),
        compute_metrics=multilabel_compute_metrics(data),
    )
    trainer.train()
    trainer.tune_thresholds(shrinkage=0.0)
    return trainer


def run_card(trainer):
    """The model that the code of the card loads."""
    trainer.save_model("adapter")
    trainer.create_model_card(model_name="adapter", finetuned_from="someone/base")
    card = Path(trainer.args.output_dir, "README.md").read_text()
    names = {}
    for code in re.findall(r"```python\n(.*?)```", card, re.DOTALL):
        exec(code, names)
    return names["model"].eval()


@pytest.mark.parametrize("published", ["as trained", "probabilities", "decisions"])
def test_the_cards_code_gives_names_probabilities_and_decisions(published, adapter):
    if published == "probabilities":
        calibrate(adapter.model, adapter.plm_state)
    if published == "decisions":
        hf_plm.fold_thresholds(adapter.model)
    model, tokens = run_card(adapter), torch.tensor(make_rows(64)["input_ids"])
    assert list(model.config.id2label.values()) == NAMES
    assert model.config.problem_type == "multi_label_classification"
    with torch.no_grad():
        torch.testing.assert_close(model(tokens).logits, adapter.model.eval()(tokens).logits)
    expected = predict(adapter.model, {"input_ids": tokens})
    assert predict(model, {"input_ids": tokens}) == expected
    assert len({tuple(row) for row in expected}) > 1  # else the test would prove nothing


def test_the_base_model_is_unchanged(adapter):
    adapter.save_model("adapter")
    assert Path("adapter/config.json").is_file() and Path("adapter/adapter_config.json").is_file()
    assert BertForSequenceClassification.from_pretrained("someone/base").config.num_labels == 2
