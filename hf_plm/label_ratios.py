"""Values computed from the counts and ideal ratios of the labels: ratios, keep probabilities, weights and shifts."""

from typing import Any

from torch import Tensor

from . import functional
from .state_tensors import SavedTensors


class LabelRatios(SavedTensors):
    """Counts and ideal ratios, and values derived from them, which are cached until `ideal_ratio` is set.

    Attributes:
        positives, negatives (int64, `(num_labels,)`): the counts.
        settings (dict): `PLMSettings.to_dict()`; `mask`, `class_weight` and `prior` are read here.
        ideal_ratio (float32, `(num_labels,)`): I, in positives per negative.
    """

    positives: Tensor
    negatives: Tensor
    settings: dict[str, Any]

    @property
    def num_labels(self) -> int:
        return len(self.positives)

    @property
    def ratio(self) -> Tensor:
        """R, positives per negative, float32 `(num_labels,)`; 1 for a class that lacks either."""
        return functional.label_ratio(self.positives, self.negatives)

    @property
    def has_ratio(self) -> Tensor:
        """True for classes with both positives and negatives, bool `(num_labels,)`. The others keep every label."""
        return functional.has_ratio(self.positives, self.negatives)

    @property
    def ideal_ratio(self) -> Tensor:
        return self._ideal_ratio

    @ideal_ratio.setter
    def ideal_ratio(self, ideal_ratio: Tensor) -> None:
        self._ideal_ratio = ideal_ratio
        self._keep_probabilities: tuple[Tensor, Tensor] | None = None
        self._keeps_all: bool | None = None
        self._weights: tuple[Tensor, Tensor] | None = None
        self._shift: Tensor | None = None
        self._offset: Tensor | None = None

    def keep_probabilities(self) -> tuple[Tensor, Tensor]:
        """The probabilities that positives and negatives enter the loss: two float32 tensors `(num_labels,)`.

        With the mask `expected` all labels enter the loss, and these probabilities are weights.
        """
        if self._keep_probabilities is None:
            self._keep_probabilities = functional.keep_probabilities(self.ratio, self.ideal_ratio)
        return self._keep_probabilities

    def keeps_all(self) -> bool:
        """Whether every label enters the loss with probability 1. The first call waits for the device."""
        if self._keeps_all is None:
            self._keeps_all = all(bool((keep == 1).all()) for keep in self.keep_probabilities())
        return self._keeps_all

    def weights(self) -> tuple[Tensor, Tensor] | None:
        """The weights of positives and negatives in the loss, float32 `(num_labels,)` each; None where all are 1.

        They are the class weights; with the mask `expected`, times the keep probabilities.
        """
        expected, exponent = self.settings["mask"] == "expected", self.settings["class_weight"]
        if self._weights is None and (expected or exponent):
            keep = self.keep_probabilities()
            of_class = functional.class_weights(self.positives, self.negatives, keep, exponent)
            # Always two tensors: if one tensor is passed twice, the compiler compiles again.
            self._weights = (of_class * keep[0], of_class * keep[1]) if expected else (of_class, of_class.clone())
        return self._weights

    def offset(self) -> Tensor | None:
        """`log(I / T)`, which the loss adds to the logits so that they assume the ratio T; None if T is I."""
        if self._offset is None and self.settings["prior"] != "ideal":
            self._offset = functional.log_odds_shift(self._assumed_ratio(), self.ideal_ratio)
        return self._offset

    def mask_shift(self) -> Tensor:
        """The current `log(I / R)`, which the masks cause. Float32 `(num_labels,)`; 0 where a label has no ratio."""
        return functional.log_odds_shift(self.ratio, self.ideal_ratio)

    def shift(self) -> Tensor:
        """The current `log(T / R)`, where T is the ratio that the logits assume: I, unless `prior` says otherwise.

        It is the part of `mask_shift` that stays in the logits. Float32 `(num_labels,)`; 0 where a label has no ratio.
        """
        if self._shift is None:
            self._shift = functional.log_odds_shift(self.ratio, self._assumed_ratio())
        return self._shift

    def _assumed_ratio(self) -> Tensor:
        return functional.assumed_ratio(self.ratio, self.ideal_ratio, self.settings["prior"])
