"""Uploads a trained model to the Hub with its card and pictures; errors say why an upload failed."""

import os
from pathlib import Path
from typing import Any

from transformers import Trainer
from transformers.utils import logging

from .model_card import make_model_card
from .reporting import draw_plots, has_plots, send_plots
from .run_facts import RunFacts

logger = logging.get_logger(__name__)


class HubTrainer(Trainer):
    """A `Trainer` with the model card of `make_model_card` and pictures of the run; a subclass provides the facts."""

    _plotted_folders: frozenset[str] = frozenset()
    """The folders into which this trainer has drawn pictures, as absolute paths."""

    def run_facts(self) -> RunFacts:
        """The facts about the model and its training so far, for the card and the pictures."""
        raise NotImplementedError(
            f"{type(self).__name__} has no run_facts(); a HubTrainer needs it for the model card"
        )

    def init_hf_repo(self, token: str | None = None, private: bool | None = None) -> None:
        """As `Trainer.init_hf_repo`, which creates the repository at the start of a trainer with `push_to_hub=True`.

        Raises:
            RuntimeError: if it could not be created and `push_to_hub` is True.
        """
        try:
            super().init_hf_repo(token, **_given(private=private))
        except Exception as error:  # the client's errors change with its version
            if not self.args.push_to_hub:
                raise
            repository = self.args.hub_model_id or Path(self.args.output_dir or ".").absolute().name
            raise RuntimeError(
                f"push_to_hub is True, and the repository '{repository}' could not be created on the Hub: {error}\n"
                "Check the network, and the token (`hf auth login`, or hub_token=...). Or set push_to_hub=False, and "
                "call trainer.push_to_hub() after training"
            ) from error

    def create_model_card(
        self,
        language: str | None = None,
        license: str | None = None,
        tags: str | list[str] | None = None,
        model_name: str | None = None,
        finetuned_from: str | None = None,
        tasks: str | list[str] | None = None,
        dataset_tags: str | list[str] | None = None,
        dataset: str | list[str] | None = None,
        dataset_args: str | list[str] | None = None,
    ) -> None:
        """Write the model card, `README.md` in the output folder, on the first rank only; see `make_model_card`.

        Its pictures are drawn again, so that they agree with its tables. `dataset_tags` are ids of data sets of the
        Hub, and are used if `dataset` is None. `dataset_args` are not shown.

        Raises:
            OSError: if the card cannot be written; an earlier card is then unchanged. If a picture cannot be drawn,
                a warning is logged.
        """
        if not self.is_world_process_zero():
            return
        folder = Path(self.args.output_dir or ".")
        folder.mkdir(parents=True, exist_ok=True)
        facts = self.run_facts()
        self._plotted_folders |= {os.path.abspath(folder)}
        name = model_name or folder.absolute().name
        card = make_model_card(
            facts,
            name,
            repository=self.hub_model_id or name,
            language=language,
            license=license,
            tags=_listed(tags),
            finetuned_from=finetuned_from,
            tasks=_listed(tasks),
            dataset=_listed(dataset or dataset_tags),
            pictures={key: path.relative_to(folder).as_posix() for key, path in draw_plots(facts, folder).items()},
        )
        temporary = folder / "_README.md"  # uploads leave out names that begin with _
        try:
            card.save(temporary)
            os.replace(temporary, folder / "README.md")
        finally:
            temporary.unlink(missing_ok=True)

    def push_to_hub(
        self,
        commit_message: str | None = "End of training",
        blocking: bool = True,
        token: str | None = None,
        revision: str | None = None,
        private: bool | None = None,
        **kwargs: Any,
    ) -> Any:
        """As `Trainer.push_to_hub`, with the model card of `create_model_card`.

        Raises:
            RuntimeError: if the upload failed. Everything is then still in the output folder.
        """
        try:
            if self.hub_model_id is None:
                try:
                    self.init_hf_repo(token=token, private=private)
                except Exception:
                    self.save_model(_internal_call=True)
                    raise
            return super().push_to_hub(commit_message, blocking, token, revision, **_given(private=private), **kwargs)
        except Exception as error:  # the client's errors change with its version
            raise RuntimeError(
                f"the model could not be uploaded: {error}\nNothing is lost: it is in '{self.args.output_dir}'. Call "
                "push_to_hub() again when the cause is fixed (for a missing token: `hf auth login`, or hub_token=...)"
            ) from error

    def update_model_card(self) -> None:
        """Write the current card during training; if that fails, warn and continue."""
        try:
            self.create_model_card()
        except Exception as error:  # the model is worth more than its card
            logger.warning(f"The model card could not be written: {error}. Training continues")

    def report_plots(self) -> None:
        """Draw the pictures of the run and send them to the trackers in use; if that fails, warn and continue."""
        paths = self._draw_plots(self.args.output_dir or ".")
        send_plots(self.callback_handler.callbacks, paths, self.state.global_step)

    def refresh_plots(self, model_folder: str | os.PathLike[str] | None = None) -> None:
        """Draw the pictures in a folder again, on the first rank only; if that fails, warn and continue.

        Call it when scores, thresholds or probabilities have changed, or after the model was saved. A folder without
        pictures gets none.

        Args:
            model_folder: the folder of the model that was just saved. None for the output folder, if this trainer has
                drawn its pictures; pictures of a different trainer are not changed.
        """
        folder = model_folder or self.args.output_dir or "."
        is_ours = has_plots(folder) if model_folder else os.path.abspath(folder) in self._plotted_folders
        if is_ours and self.is_world_process_zero():
            self._draw_plots(folder)

    def _draw_plots(self, folder: str | os.PathLike[str]) -> dict[str, Path]:
        self._plotted_folders |= {os.path.abspath(folder)}
        try:
            return draw_plots(self.run_facts(), folder)
        except Exception as error:  # errors of single pictures are warnings already; this catches the rest
            logger.warning(f"No pictures of the run could be drawn: {error}")
            return {}

    def warn_of_failed_uploads(self) -> None:
        """Warn once of each upload that failed during training; uploads run in the background and fail silently."""
        push = getattr(self, "push_in_progress", None)
        for job in push.jobs if push is not None else ():
            if job.done() and not job.cancelled() and job.exception() is not None:
                logger.warning(
                    f"An upload during training failed: {job.exception()}\nNothing is lost: the checkpoints are in "
                    f"'{self.args.output_dir}'. The next save uploads again; after training, push_to_hub() does"
                )
        if push is not None:
            push.jobs = [job for job in push.jobs if not job.done()]


def _given(**arguments: Any) -> dict[str, Any]:
    """The arguments that are not None: transformers 5.20 and earlier do not take `private`."""
    return {name: value for name, value in arguments.items() if value is not None}


def _listed(values: str | list[str] | None) -> list[str]:
    return [values] if isinstance(values, str) else list(values or [])
