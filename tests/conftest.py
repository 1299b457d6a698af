import os

os.environ["HF_HUB_OFFLINE"] = "1"  # no test uses the network
os.environ["HF_EVALUATE_OFFLINE"] = "1"
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "0")  # with several devices, Trainer multiplies the batch size
os.environ["OMP_NUM_THREADS"] = "1"  # as under torchrun: the number of threads changes the order of sums

import gc
import logging
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import scenarios
import torch
from datasets import Dataset
from matplotlib.figure import Figure
from one_pixel import save_one_pixel
from transformers import ViTConfig, ViTForImageClassification

from hf_plm import LabelCounts, PLMLoss, PLMTrainer


@pytest.fixture(
    params=["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"))]
)
def device(request):
    """The devices on which a test runs: the CPU, and the GPU where there is one."""
    return request.param


def pytest_collection_modifyitems(items):
    """Marks tests that need runs of several processes as slow."""
    for item in items:
        if "killed_runs" in item.fixturenames:
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="module", autouse=True)
def gc_skips_imported_objects():
    """`Trainer` collects garbage when it starts; without `gc.freeze` this takes longer than the training."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def enough_compilations():
    """PyTorch compiles a function only for a limited number of kinds of arguments; all tests together need more."""
    with torch._dynamo.config.patch(recompile_limit=64):
        yield


@pytest.fixture(autouse=True)
def no_pictures_of_runs_that_save_nothing(request, monkeypatch):
    """Draws no pictures, because they take as long as a short training. `with_pictures` draws them."""
    if "with_pictures" not in request.fixturenames:
        report = PLMTrainer.report_plots
        monkeypatch.setattr(
            PLMTrainer, "report_plots", lambda self: None if self.args.save_strategy == "no" else report(self)
        )


@pytest.fixture(autouse=True)
def pictures_of_one_pixel(request, monkeypatch):
    """Only slow tests and tests with `rendered` render their pictures."""
    if "rendered" not in request.fixturenames and request.node.get_closest_marker("slow") is None:
        monkeypatch.setattr(Figure, "savefig", save_one_pixel)


@pytest.fixture
def rendered():
    """Pictures are rendered in full, as they are for users."""


@pytest.fixture
def with_pictures(rendered):
    """Pictures are drawn, as they are for users, also by runs that save nothing."""


@pytest.fixture(scope="session")
def killed_runs(tmp_path_factory):
    """The folder with runs on one rank and on two that were killed before their end: see `scenarios.killed_folder`."""
    folder = tmp_path_factory.mktemp("killed")
    command = [sys.executable, str(Path(__file__).parent / "killed.py"), str(folder)]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr[-4000:]
    return folder


@pytest.fixture
def trained():
    """A loss whose state has two updates and an unfinished epoch."""
    plm_loss = PLMLoss(LabelCounts([500, 100, 10], [500, 900, 990]))
    generator = torch.Generator().manual_seed(0)
    for epoch in range(3):
        for _ in range(2):
            logits = torch.randn(32, 3, generator=generator)
            plm_loss(logits, (logits > 0.3).float())
        if epoch < 2:
            plm_loss.end_epoch()
    return plm_loss


@pytest.fixture
def make_bert():
    return scenarios.make_bert


@pytest.fixture
def make_vit():
    def make(num_labels=scenarios.NUM_LABELS):
        torch.manual_seed(0)
        config = ViTConfig(
            image_size=8,
            patch_size=4,
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=16,
            num_labels=num_labels,
        )
        return ViTForImageClassification(config)

    return make


@pytest.fixture
def text_data():
    """64 token sequences; their first tokens decide the labels; label 4 is rarely positive."""
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(5, 50, (64, 8), generator=generator)
    thresholds = torch.tensor([0.5, 0.6, 0.7, 0.85, 0.95])
    labels = (tokens[:, :5] - 5) / 45 >= thresholds
    return Dataset.from_dict(
        {
            "input_ids": tokens.tolist(),
            "attention_mask": torch.ones_like(tokens).tolist(),
            "labels": [row.nonzero().flatten().tolist() for row in labels],
        }
    )


@pytest.fixture
def image_data():
    generator = torch.Generator().manual_seed(0)
    pixels = torch.rand(64, 3, 8, 8, generator=generator)
    labels = (pixels[:, 0, 0, :5] > 0.7).float()
    return Dataset.from_dict({"pixel_values": pixels.tolist(), "labels": labels.tolist()}).with_format("torch")


@pytest.fixture
def digits():
    """600 pictures of noise; each class is brighter than the previous one."""
    generator = np.random.default_rng(0)
    classes = np.arange(600) % 10
    images = generator.integers(1, 20, (600, 28, 28)) + 20 * classes[:, None, None]
    return images.astype(np.uint8), classes


@pytest.fixture
def make_args(tmp_path):
    def make(**kwargs):
        defaults = {
            "per_device_train_batch_size": 16,
            "learning_rate": 1e-2,
            "train_sampling_strategy": "random",
        }
        return scenarios.make_args(tmp_path / "run", **{**defaults, **kwargs})

    return make


@pytest.fixture
def messages(caplog):
    """The messages that the package logs."""
    for name in ("transformers", "hf_plm"):
        logging.getLogger(name).addHandler(caplog.handler)
    yield caplog
    for name in ("transformers", "hf_plm"):
        logging.getLogger(name).removeHandler(caplog.handler)
