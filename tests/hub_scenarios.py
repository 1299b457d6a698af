"""Pushes to a Hub on this machine and downloads the result: `python hub_scenarios.py FOLDER`.

It needs its own process, because the client reads HF_ENDPOINT when it is imported. It prints the results as JSON.
"""

import json
import os
import re
import sys
from pathlib import Path
from unittest import mock

from hub_server import TOKEN, Hub

hub = Hub()
folder = Path(sys.argv[1])
os.environ |= {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(folder / "home"), "HF_HUB_DISABLE_TELEMETRY": "1"}
for name in ("HF_HUB_OFFLINE", "HF_TOKEN"):
    os.environ.pop(name, None)

import logging  # noqa: E402

import scenarios  # noqa: E402
import torch  # noqa: E402
from huggingface_hub import ModelCard, snapshot_download  # noqa: E402
from transformers import AutoModelForSequenceClassification, pipeline  # noqa: E402

from hf_plm import PLMTrainer, multilabel_compute_metrics  # noqa: E402

warnings = []


class Keep(logging.Handler):
    def emit(self, record):
        warnings.append(record.getMessage())


logging.getLogger("transformers.hf_plm").addHandler(Keep())
logging.getLogger("hf_plm").addHandler(Keep())


def make_trainer(name, token=TOKEN, **kwargs):
    data = scenarios.make_rows(32)
    data = data.map(lambda row: {"input_ids": [token % len(scenarios.WORDS) for token in row["input_ids"]]})
    settings = {
        "num_train_epochs": 2,
        "per_device_train_batch_size": 8,
        "save_strategy": "epoch",
        "lr_scheduler_type": "constant",
        **kwargs,
    }
    return PLMTrainer(
        scenarios.make_bert(id2label=dict(enumerate("abcde")), label2id={each: i for i, each in enumerate("abcde")}),
        scenarios.make_args(folder / name, hub_token=token, hub_model_id=name, **settings),
        train_dataset=data,
        eval_dataset=data,
        processing_class=scenarios.make_tokenizer(),
        compute_metrics=multilabel_compute_metrics(data),
    )


def push(strategy):
    """A run that pushes at each save and at the end; the model is then downloaded and used, and the run is resumed."""
    trainer = make_trainer(strategy, push_to_hub=True, hub_strategy=strategy, hub_always_push=True)
    trainer.train()
    trainer.push_in_progress.wait_until_done()
    during = list(hub.commits[f"someone/{strategy}"])
    card_during = hub.files[f"someone/{strategy}"]["README.md"].decode()
    trainer.evaluate()
    trainer.push_to_hub()
    repository = trainer.hub_model_id
    downloaded = Path(snapshot_download(repository, cache_dir=folder / "downloads" / strategy, token=TOKEN))
    files = sorted(str(each.relative_to(downloaded)) for each in downloaded.rglob("*") if each.is_file())
    equal = all(
        (downloaded / each).read_bytes() == (folder / strategy / each).read_bytes()
        for each in files
        if "/" not in each or each.startswith("plots/")
    )
    model = AutoModelForSequenceClassification.from_pretrained(repository, token=TOKEN)
    scores = pipeline("text-classification", repository, top_k=None, token=TOKEN)(["a small editor"])
    (code,) = re.findall(r"```python\n(.*?)```", (downloaded / "README.md").read_text(), re.DOTALL)
    exec(code, names := {})  # reading needs no token
    result = {
        "during": during,
        "card during": card_during,
        "code gives": len(names["tagger"]("a small editor", top_k=None)),
        "with token": [name for name in files if TOKEN.encode() in (downloaded / name).read_bytes()],
        "commits": hub.commits[repository],
        "files": files,
        "equal": equal,
        "same weights": all(
            torch.equal(v.cpu(), trainer.model.state_dict()[k].cpu()) for k, v in model.state_dict().items()
        ),
        "labels": sorted(score["label"] for score in scores[0]),
        "results": [each.metric_type for each in ModelCard.load(downloaded / "README.md").data.eval_results],
    }
    if strategy == "checkpoint":
        again = make_trainer("again", num_train_epochs=3)
        again.train(resume_from_checkpoint=str(downloaded / "last-checkpoint"))
        whole = make_trainer("whole", num_train_epochs=3)
        whole.train()
        result["resumed"] = torch.equal(again.plm_state.history, whole.plm_state.history) and all(
            torch.equal(v, whole.model.state_dict()[k]) for k, v in again.model.state_dict().items()
        )
    return result


def saved(name):
    root = folder / name
    return sorted(str(each.relative_to(root)) for each in root.rglob("*") if each.suffix in (".safetensors", ".md"))


def failure(name, during_training=False, **kwargs):
    """The message of a push that fails, and what is on disk then."""
    trainer = make_trainer(name, **kwargs)
    try:
        trainer.train()
        if not during_training:
            trainer.push_to_hub()
        message = "\n".join(warnings)
    except RuntimeError as error:
        message = str(error)
    return {"message": message, "saved": saved(name)}


def main():
    results = {strategy: push(strategy) for strategy in ("every_save", "checkpoint")}
    with mock.patch("time.sleep"):  # the client retries, with pauses
        results["no token"] = failure("no-token", token=None)
        hub.fail_after = 0
        results["server error at the end"] = failure("at-the-end", push_to_hub=True, hub_strategy="end")
        hub.fail_after = 1
        results["server error during training"] = failure("during", True, push_to_hub=True, hub_strategy="every_save")
        hub.shutdown()
        hub.server_close()
        results["no network"] = failure("no-network")
    (folder / "results.json").write_text(json.dumps(results))


main()
