"""Tiny models of several kinds with thresholds and shifts, for the tests of decisions."""

import numpy as np
import scenarios
import torch
from peft import LoraConfig, get_peft_model
from transformers import (
    DistilBertConfig,
    DistilBertForSequenceClassification,
    ModernBertConfig,
    ModernBertForSequenceClassification,
    RobertaConfig,
    RobertaForSequenceClassification,
)

from hf_plm import (
    LabelCounts,
    PLMLoss,
)
from hf_plm.classifier_bias import logits_of
from hf_plm.decisions import (
    Decisions,
    log_odds_shift,
    read_decisions,
    write_decisions,
)

NAMES = ["red", "green", "blue", "round", "square"]
THRESHOLDS = (-0.11, 0.03, 0.02, -0.05, 0.08)
SIZES = {
    "vocab_size": 50,
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "max_position_embeddings": 40,
}
TOKENS = torch.randint(5, 50, (32, 8), generator=torch.Generator().manual_seed(1))


def named_bert(**kwargs):
    names = kwargs.pop("names", NAMES)
    return scenarios.make_bert(
        len(names), id2label=dict(enumerate(names)), label2id={name: i for i, name in enumerate(names)}, **kwargs
    )


def lora(bert):
    settings = LoraConfig(task_type="SEQ_CLS", target_modules=["query"], modules_to_save=["classifier"])
    return get_peft_model(bert, settings)


def distilbert(num_labels):
    config = DistilBertConfig(vocab_size=50, dim=16, n_layers=1, n_heads=2, hidden_dim=16, num_labels=num_labels)
    return DistilBertForSequenceClassification(config)


def modernbert(num_labels):
    tokens = {f"{kind}_token_id": index for index, kind in enumerate(("pad", "bos", "eos", "cls", "sep"))}
    return ModernBertForSequenceClassification(ModernBertConfig(**SIZES, **tokens, num_labels=num_labels))


TEXT_MODELS = {
    "bert": scenarios.make_bert,
    "distilbert": distilbert,
    "roberta": lambda num_labels: RobertaForSequenceClassification(RobertaConfig(**SIZES, num_labels=num_labels)),
    "modernbert": modernbert,
    "lora": lambda num_labels: lora(scenarios.make_bert(num_labels)),
}


def state_of(num_labels=5, names=None):
    """A state whose shifts are large and differ."""
    counts = LabelCounts([2 * 4**label for label in range(num_labels)], [3000] * num_labels, names)
    state = PLMLoss(counts, temper=0.5, initial_ratio="tempered", max_shift=100).state
    assert log_odds_shift(state).min() > 0.1
    return state


def write_thresholds(model, thresholds=THRESHOLDS, **kwargs):
    config = model.config
    write_decisions(config, Decisions(**{**vars(read_decisions(config)), "thresholds": thresholds, **kwargs}))


def scores_of(model, inputs=None):
    with torch.no_grad():
        return logits_of(model.eval()(**(inputs or {"input_ids": TOKENS}))).double().numpy()


def quantiles_of(model):
    """Thresholds that a third to two thirds of the rows do not reach."""
    return np.quantile(scores_of(model), [0.3, 0.4, 0.5, 0.6, 0.7], axis=0).diagonal()


def weights_of(model):
    return {name: weight.detach().clone() for name, weight in model.state_dict().items()}


def assert_unchanged(model, before):
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())
