"""Stores the scores of each training of a comparison on disk, so that a stopped comparison can continue."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .run_record import differences

RUNS = "runs"
"""The name of the folder with a file for each training."""

Scores = dict[str, dict[str, float]]
"""Row -> score -> value."""


class ComparisonRuns:
    """One json file for each training, with its settings and scores.

    Args:
        folder: the folder of the comparison; the files are in its folder `runs`.
        settings: everything that the scores depend on, apart from method and seed; the values must fit JSON.
    """

    def __init__(self, folder: str | Path, settings: Mapping[str, Any]):
        self.folder = Path(folder) / RUNS
        self.settings = json.loads(json.dumps(dict(settings)))

    def read(self, method: str, seed: int) -> Scores | None:
        """The scores of a training; None if there are none yet.

        Raises:
            ValueError: if the training had different settings.
        """
        path = self._path(method, seed)
        if not path.is_file():
            return None
        stored = json.loads(path.read_text())
        if stored["settings"] != self.settings:
            raise ValueError(
                f"{path} is from a comparison with {differences(stored['settings'], self.settings)}; to continue it, "
                "give the same settings; for a new one, choose a different folder (--output-dir), or delete "
                f"{self.folder}"
            )
        scores: Scores = stored["scores"]
        return scores

    def write(self, method: str, seed: int, scores: Scores) -> None:
        """Store the scores of a training; the file is written completely or not at all."""
        path = self._path(method, seed)
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(".unfinished")
        unfinished.write_text(json.dumps({"settings": self.settings, "scores": scores}, indent=1))
        unfinished.replace(path)

    def _path(self, method: str, seed: int) -> Path:
        return self.folder / f"{method}-{seed}.json"
