"""The scores of each training of a comparison on disk, so that a comparison that was stopped goes on."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .run_record import differences

RUNS = "runs"
"""The folder with a file for each training."""

Scores = dict[str, dict[str, float]]
"""Row -> score -> value."""


class ComparisonRuns:
    """One json file for each training, with its settings and scores.

    Args:
        folder: of the comparison; the files are in `runs/` in it.
        settings: whatever the scores depend on, but method and seed; values as JSON has them.
    """

    def __init__(self, folder: str | Path, settings: Mapping[str, Any]):
        self.folder = Path(folder) / RUNS
        self.settings = json.loads(json.dumps(dict(settings)))

    def read(self, method: str, seed: int) -> Scores | None:
        """The scores of a training; None if it was not done yet.

        Raises:
            ValueError: if it was done with other settings.
        """
        path = self._path(method, seed)
        if not path.is_file():
            return None
        stored = json.loads(path.read_text())
        if stored["settings"] != self.settings:
            raise ValueError(
                f"{path} is of a comparison with {differences(stored['settings'], self.settings)}; to go on with it, "
                f"give the same settings; for a new one, choose another folder (--output-dir), or delete {self.folder}"
            )
        scores: Scores = stored["scores"]
        return scores

    def write(self, method: str, seed: int, scores: Scores) -> None:
        """Keep the scores of a training; the file is there as a whole or not at all."""
        path = self._path(method, seed)
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(".unfinished")
        unfinished.write_text(json.dumps({"settings": self.settings, "scores": scores}, indent=1))
        unfinished.replace(path)

    def _path(self, method: str, seed: int) -> Path:
        return self.folder / f"{method}-{seed}.json"
