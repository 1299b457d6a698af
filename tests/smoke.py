"""`make build` runs this in an environment with only the wheel, or the sdist, and its dependencies."""

import importlib
import pkgutil
import subprocess
import sys
import sysconfig
from importlib.metadata import files, version
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from datasets import Dataset
from transformers import BertConfig, BertForSequenceClassification

import hf_plm
from hf_plm import PLMState, PLMTrainer, PLMTrainingArguments

ROWS = Dataset.from_dict({"input_ids": [[5, 6, 7], [8, 9, 10]] * 8, "labels": [["a"], ["b", "c"]] * 8})
SIZE = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}


def check_installation() -> None:
    assert Path(hf_plm.__file__).is_relative_to(sysconfig.get_path("purelib")), hf_plm.__file__
    assert version("hf_plm") == hf_plm.__version__
    for module in pkgutil.iter_modules(hf_plm.__path__, "hf_plm."):
        if module.name != "hf_plm.__main__":
            try:
                importlib.import_module(module.name)
            except ModuleNotFoundError as error:  # needs a package that only some users install
                assert 'pip install "hf_plm[all]"' in str(error), error
    installed = {path.as_posix() for path in files("hf_plm") or ()}
    assert "hf_plm/py.typed" in installed
    assert f"hf_plm-{hf_plm.__version__}.dist-info/licenses/LICENSE" in installed
    command = Path(sys.executable).parent / "hf-plm"
    printed = subprocess.run([command, "--version"], check=True, capture_output=True, text=True).stdout
    assert printed == f"hf-plm {hf_plm.__version__}\n"


def check_training(folder: str) -> None:
    args = PLMTrainingArguments(folder, max_steps=2, use_cpu=True, report_to="none", disable_tqdm=True)
    model = BertForSequenceClassification(BertConfig(vocab_size=20, num_labels=3, **SIZE))
    trainer = PLMTrainer(model, args, train_dataset=ROWS)
    trainer.train()
    trainer.save_model()
    again = BertForSequenceClassification.from_pretrained(folder)
    tokens = torch.tensor(ROWS["input_ids"][:2])
    assert torch.equal(again.eval()(tokens).logits, trainer.model.eval()(tokens).logits)
    assert again.config.id2label == {0: "a", 1: "b", 2: "c"}
    state = PLMState.load(f"{folder}/plm_state.safetensors")
    assert torch.equal(state.ideal_ratio, trainer.plm_state.ideal_ratio)


if __name__ == "__main__":
    check_installation()
    with TemporaryDirectory() as folder:
        check_training(folder)
    print(f"hf_plm {hf_plm.__version__} works as it is installed")
