"""The pictures that a table names are found, or an error names the first missing one."""

import os

import numpy as np
import pandas as pd
import pytest
from datasets import Image
from PIL import Image as Picture

from hf_plm import read_labeled


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def pictures():
    os.makedirs("pictures/more")
    for index, name in enumerate(["0.png", "1.png", "more/007.png"]):
        Picture.fromarray(np.full((4, 4, 3), index, np.uint8)).save(f"pictures/{name}")


@pytest.mark.parametrize("names", [["0.png", "1.png", "more/007.png"], ["0", "1", "more/007"]])
def test_pictures_come_from_a_folder(names, pictures, monkeypatch, tmp_path):
    pd.DataFrame({"file": names, "labels": ["a|b", "b", "a"]}).to_csv("a.csv", index=False)
    rows = read_labeled("a.csv", image_folder="pictures", image_column="file")["train"]
    assert isinstance(rows.features["image"], Image)
    assert "file" not in rows.column_names
    monkeypatch.chdir(tmp_path / "pictures")
    assert [np.asarray(picture)[0, 0, 0] for picture in rows["image"]] == [0, 1, 2]


def test_an_error_names_the_first_missing_picture_and_counts_them(pictures):
    frame = pd.DataFrame({"image": ["0.png", "gone.png", "lost.png"], "labels": ["a|b", "b", "a"]})
    with pytest.raises(ValueError, match=r"no file 'gone.png' \(column 'image', row 1 of 'train'\); 2 of 3 pictures"):
        read_labeled(frame, image_folder="pictures")
    frame["image"] = "pictures/" + frame["image"]
    with pytest.raises(ValueError, match="there is no file 'pictures/gone.png'"):
        read_labeled(frame, image_column="image")
    rows = read_labeled(frame[:1], image_column="image")["train"]
    assert np.asarray(rows[0]["image"]).shape == (4, 4, 3)
    assert read_labeled(rows, image_column="image")["train"].features["image"] == Image()
