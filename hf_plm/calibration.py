"""From scores that can be cut at 0.5 back to probabilities of the data's own frequencies."""

import torch
from torch import Tensor, nn

from .state import PLMState


def log_odds_shift(plm_state: PLMState) -> Tensor:
    """By how much training raised each label's log-odds: `log(I / R)`, float32 `(num_labels,)`.

    I is the ideal ratio that was in force last while the model trained: before the last update, if there was one.
    """
    in_force = plm_state.history[-1 if plm_state.is_measuring or len(plm_state.history) == 1 else -2]
    return torch.log(in_force / plm_state.ratio)


def calibrate(model: nn.Module, plm_state: PLMState) -> None:
    """Fold the shift of masked training into the classifier's bias, in place.

    After it the model's probabilities are those of the data's own frequencies, as far as the masks moved them: an
    objective other than binary cross-entropy has a bias of its own. Rare labels then seldom reach 0.5: choose
    thresholds with `tune_thresholds`. It can be done once; `model.config.plm_calibrated` says that it was.

    Args:
        model: its last linear layer with as many outputs as there are labels is the classifier.
        plm_state: `PLMTrainer.plm_state`, or the `PLMState` of a checkpoint.

    Raises:
        ValueError: if the model was calibrated before, or has no such layer, or one without a bias.
    """
    config = getattr(model, "config", None)
    if getattr(config, "plm_calibrated", False):
        raise ValueError("model.config.plm_calibrated is True: the shift is in the classifier's bias already")
    layers = [layer for layer in model.modules() if isinstance(layer, nn.Linear)]
    layers = [layer for layer in layers if layer.out_features == plm_state.num_labels]
    if not layers or layers[-1].bias is None:
        found = "without a bias" if layers else "missing"
        raise ValueError(
            f"the classifier, a linear layer with {plm_state.num_labels} outputs, is {found}; subtract "
            "log_odds_shift(plm_state) from the logits instead"
        )
    bias = layers[-1].bias
    with torch.no_grad():
        bias.sub_(log_odds_shift(plm_state).to(bias))
    if config is not None:
        config.plm_calibrated = True
