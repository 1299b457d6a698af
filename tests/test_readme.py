"""Every Python block of the README runs, in its order, with small stand-ins for the user's data and model."""

import re
from pathlib import Path

import torch
from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import nn
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from hf_plm import PLMState, PLMTrainingArguments

README = Path(__file__).parent.parent / "README.md"
WORDS = ["[PAD]", "[UNK]", "a", "small", "editor", "game", "library", "of", "colours"]


def save_pretrained_stand_in(path):
    tokenizer = Tokenizer(models.WordLevel({word: index for index, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]").save_pretrained(path)
    config = BertConfig(
        vocab_size=len(WORDS), hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8
    )
    BertModel(config).save_pretrained(path)


def test_every_python_block_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_pretrained_stand_in(tmp_path / "pretrained")
    texts = ["a small editor", "a game of colours", "library", "a small game"] * 4
    labels = [[0], [1, 2], [], [0, 2]] * 4
    network = nn.Linear(4, 3)
    names = {
        "train_set": Dataset.from_dict({"text": texts, "labels": labels}),
        "validation_set": Dataset.from_dict({"text": texts[:4], "labels": labels[:4]}),
        "name": str(tmp_path / "pretrained"),
        "training_args": PLMTrainingArguments("other", use_cpu=True, max_steps=1),
        "network": network,
        "loader": [(torch.randn(8, 4), torch.tensor([[1.0, 0.0, torch.nan]] * 8))],
        "optimizer": torch.optim.SGD(network.parameters(), 0.1),
    }
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert len(blocks) >= 3
    for block in blocks:
        exec(compile(block, "README.md", "exec"), names)
    assert names["trainer"].plm_loss.objective is names["squared_hinge"]
    assert names["trainer"].train().global_step == 1
    assert len(PLMState.load("plm_state.safetensors").history) == 4
