"""Shortens the logs in terminals and notebooks to a few metrics and a few numbers about the ideal ratios.

`log_history`, trackers and the result of `evaluate` keep all of them.
"""

from collections.abc import Callable
from typing import Any

from transformers import PrinterCallback, ProgressCallback, TrainerCallback
from transformers.utils.import_utils import is_in_notebook


def printers() -> list[type[TrainerCallback]]:
    """The callbacks that show logs to people."""
    if not is_in_notebook():
        return [PrinterCallback, ProgressCallback]
    from transformers.utils.notebook import NotebookProgressCallback  # it needs IPython

    return [PrinterCallback, ProgressCallback, NotebookProgressCallback]


def shorten_logs(printer: TrainerCallback, left_out: Callable[[], set[str]]) -> TrainerCallback:
    """Make a callback that shows logs show only a part of them; the logs do not change.

    Args:
        left_out: returns the names of the metrics to leave out; it is called at each log.
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
