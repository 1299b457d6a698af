"""Terminals and notebooks show a handful of an evaluation's metrics, and of the numbers about the ideal ratios.

All of them stay in `log_history`, in what trackers are sent, and in what `evaluate` returns.
"""

from collections.abc import Callable
from typing import Any

from transformers import PrinterCallback, ProgressCallback, TrainerCallback
from transformers.utils.import_utils import is_in_notebook


def printers() -> list[type[TrainerCallback]]:
    """The callbacks that show logs to people."""
    if not is_in_notebook():
        return [PrinterCallback, ProgressCallback]
    from transformers.utils.notebook import NotebookProgressCallback  # which needs IPython

    return [PrinterCallback, ProgressCallback, NotebookProgressCallback]


def shorten_logs(printer: TrainerCallback, left_out: Callable[[], set[str]]) -> TrainerCallback:
    """Let a callback that shows logs see only a part of them, in a copy.

    Args:
        left_out: gives the names of the metrics that are not shown, at the time of a log.
    """

    def shortened(event: Callable[..., Any]) -> Callable[..., Any]:
        def show(*args: Any, **kwargs: Any) -> Any:
            for name in ("logs", "metrics"):
                if kwargs.get(name) is not None:
                    hidden = left_out()
                    kwargs[name] = {key: value for key, value in kwargs[name].items() if key not in hidden}
            return event(*args, **kwargs)

        return show

    for name in ("on_log", "on_evaluate"):
        setattr(printer, name, shortened(getattr(printer, name)))
    return printer
