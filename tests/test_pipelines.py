"""A saved folder is a plain Hugging Face model: pipelines load it without `hf_plm`, and it runs as ONNX."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import scenarios
from datasets import Dataset
from PIL import Image
from scipy.special import expit
from transformers import (
    AutoImageProcessor,
    AutoModelForImageClassification,
    ViTImageProcessorPil,
)

from hf_plm import PLMTrainer

GUIDE = Path(__file__).parent.parent / "docs" / "sharing.md"
TEXTS = ["a small editor", "a game of colours", "library", "a small unheard game"] * 4
NAMES = [["writing"], ["play", "art"], [], ["play"]] * 4

WITHOUT_HF_PLM = """
import json, sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "hf_plm":
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Absent())
try:
    import hf_plm
except ModuleNotFoundError:
    from transformers import pipeline
else:
    sys.exit("hf_plm could be imported")

text, image, texts, images = json.loads(sys.argv[1])
print(json.dumps([
    pipeline("text-classification", text, top_k=None)(texts),
    pipeline("image-classification", image, top_k=3)(images),
]))
assert "hf_plm" not in sys.modules
"""


def train(model, processor, rows, folder):
    args = scenarios.make_args(folder / "run", learning_rate=1e-2, remove_unused_columns=False)
    trainer = PLMTrainer(model, args, train_dataset=rows, processing_class=processor)
    trainer.train()
    trainer.save_model(str(folder))
    return expit(trainer.predict(rows).predictions)


@pytest.fixture(scope="module")
def text_model(tmp_path_factory):
    """The folder of a trained model, and its probabilities of `TEXTS`."""
    folder = tmp_path_factory.mktemp("text")
    tokenizer = scenarios.make_tokenizer()
    rows = Dataset.from_dict({**tokenizer(TEXTS), "labels": NAMES})
    return folder, train(scenarios.make_bert(num_labels=3), tokenizer, rows, folder)


@pytest.fixture
def image_model(tmp_path, make_vit):
    """The folder of a trained model, its probabilities, and the pictures' paths."""
    pixels = np.random.default_rng(0).integers(0, 255, (16, 10, 12, 3), dtype=np.uint8)
    paths = [str(tmp_path / f"{index}.png") for index in range(16)]
    for array, path in zip(pixels, paths, strict=True):
        Image.fromarray(array).save(path)
    processor = ViTImageProcessorPil(size={"height": 8, "width": 8})
    inputs = processor([Image.open(path) for path in paths], return_tensors="np")
    rows = Dataset.from_dict({"pixel_values": inputs["pixel_values"], "labels": NAMES})
    return tmp_path, train(make_vit(num_labels=3), processor, rows, tmp_path), paths


@pytest.mark.slow
def test_pipelines_give_sigmoid_scores_by_name_where_hf_plm_is_not_installed(text_model, image_model):
    (text_folder, text_scores), (image_folder, image_scores, paths) = text_model, image_model
    argument = json.dumps([str(text_folder), str(image_folder), TEXTS, paths])
    command = [sys.executable, "-I", "-c", WITHOUT_HF_PLM, argument]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr[-4000:]
    for rows, expected in zip(json.loads(process.stdout), (text_scores, image_scores), strict=True):
        found = [{one["label"]: one["score"] for one in row} for row in rows]
        np.testing.assert_allclose(
            [[row[name] for name in ("art", "play", "writing")] for row in found], expected, 1e-5
        )
        assert {len(row) for row in found} == {3}
        assert np.abs(expected.sum(1) - 1).min() > 1e-3  # not a softmax


@pytest.mark.slow
def test_the_documented_onnx_recipe_gives_an_image_models_scores_for_any_batch(image_model):
    folder, expected, paths = image_model
    inputs = AutoImageProcessor.from_pretrained(folder)([Image.open(path) for path in paths], return_tensors="pt")
    model = AutoModelForImageClassification.from_pretrained(folder)
    names = {
        "model": model,
        "inputs": {"pixel_values": inputs["pixel_values"][:2]},
        "path": str(folder / "model.onnx"),
    }
    blocks = re.findall(r"```python\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    (recipe,) = [block for block in blocks if "onnx.export" in block]
    exec(compile(recipe, str(GUIDE), "exec"), names)
    np.testing.assert_allclose(names["probabilities"], expected[:2], rtol=1e-4)
    (logits,) = names["session"].run(["logits"], {"pixel_values": inputs["pixel_values"].numpy()})
    np.testing.assert_allclose(expit(logits), expected, rtol=1e-4)
