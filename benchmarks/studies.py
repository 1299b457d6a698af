"""The studies: questions, and the runs that answer them.

A study has rows. A row has one or several settings, its trials. Every trial runs with the first seed. The trial with
the best score on `dev` also runs with the other seeds, and the table shows it. So every method has the same budget.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Settings = Mapping[str, Any]
SEEDS = (0, 1, 2)
MORE_SEEDS = (0, 1, 2, 3, 4)
"""For tasks whose runs take seconds, `QUICK_TASKS`."""


@dataclass(frozen=True)
class Study:
    """A question, and the runs that answer it.

    Attributes:
        question: as a sentence.
        rows: name -> trials.
        tasks: the tasks to run on; names in `TASKS`.
        baseline: the row that the others are compared with, seed by seed.
    """

    question: str
    rows: Mapping[str, Sequence[Settings]]
    tasks: Sequence[str]
    baseline: str = "BCE"


def off(**settings: Any) -> Settings:
    """No masks."""
    return {"plm_preset": "off", **settings}


def masks(**settings: Any) -> Settings:
    """The default preset's masks, with a different objective or other settings."""
    return {"plm_preset": "default", **settings}


def pos_weight(max_weight: float) -> Settings:
    """BCE with positives weighted, see `weighted_bce`."""
    return off(plm_objective="weighted_bce", plm_objective_kwargs={"max_weight": max_weight})


def rival(name: str, **kwargs: float) -> Settings:
    """A loss of `rivals.py`."""
    return off(rival=name, rival_kwargs=kwargs)


def fixed(initial_ratio: str | float, temper: float | None = None, **settings: Any) -> Settings:
    """Random masks whose ideal ratios stay at their start; on BCE unless an objective is given."""
    start = {"plm_initial_ratio": initial_ratio} | ({"plm_temper": temper} if temper is not None else {})
    return masks(
        **{
            "plm_rule": "fixed",
            "plm_objective": "bce",
            "plm_mask": "random",
            "plm_class_weight": 0.0,
            **start,
            **settings,
        }
    )


def asymmetric(gamma_negative: float, gamma_positive: float = 0, margin: float = 0.05) -> Settings:
    """The asymmetric loss with these arguments."""
    kwargs = {"gamma_negative": gamma_negative, "gamma_positive": gamma_positive, "margin": margin}
    return {"plm_objective": "asymmetric", "plm_objective_kwargs": kwargs}


def at_rates(*trials: Settings, rates: Sequence[float] = (0.5, 1)) -> list[Settings]:
    """Each of the settings at each learning rate, in multiples of the task's."""
    return [settings if rate == 1 else {**settings, "rate": rate} for settings in trials for rate in rates]


MULTI_LABEL = ("debtags", "clipart", "multimnist")
SINGLE_LABEL = ("mnist-lt-10", "mnist-lt-50", "mnist-lt-100", "fashion-lt-100")
QUICK_TASKS = (
    "keywords",
    "debtags-small",
    "features-debtags-500",
    "features-debtags-1500",
    "features-debtags-5000",
    "features-debtags",
    "features-clipart",
)
ALL_TASKS = (*MULTI_LABEL, *QUICK_TASKS, *SINGLE_LABEL)
PRETRAINED = ("minilm-debtags", "efficientnet-clipart")
"""Tasks that fine-tune a pretrained model. A run takes minutes, so only the main methods are run, one setting each."""


def has_one_class_per_row(task: str) -> bool:
    """Whether it is a long-tailed (`lt`) task, with one class per row."""
    return "lt" in task.split("-")


def seeds_of(task: str) -> tuple[int, ...]:
    """The seeds of a task's runs; the first is that of the trials."""
    return MORE_SEEDS if task in QUICK_TASKS else SEEDS


LONGER = (1, 3, 10)
MAIN_METHODS = {
    "BCE": off(),
    "BCE with pos_weight": pos_weight(10),
    "asymmetric": off(**asymmetric(2)),
    "PLM default": masks(),
}
"""The methods of the costly studies, one setting each, at the task's learning rate."""

METHODS = {
    "BCE": at_rates(off(), rates=(0.25, 0.5, 1, 2)),
    "BCE with pos_weight": [*(pos_weight(cap) for cap in (5, 10, 50)), {**pos_weight(10), "rate": 0.5}],
    "focal": at_rates(*(off(plm_objective="focal", plm_objective_kwargs={"gamma": gamma}) for gamma in (1, 2))),
    "asymmetric": at_rates(off(**asymmetric(4, 1)), off(**asymmetric(2))),
    "class-balanced": at_rates(
        *(off(plm_objective="class_balanced", plm_objective_kwargs={"beta": beta}) for beta in (0.9, 0.999))
    ),
    "distribution-balanced": at_rates(
        *(
            off(plm_objective="distribution_balanced", plm_objective_kwargs={"negative_scale": scale})
            for scale in (2, 5)
        )
    ),
    "logit adjustment": at_rates(
        *(off(plm_objective="logit_adjusted", plm_objective_kwargs={"tau": tau}) for tau in (0.4, 1))
    ),
    "LDAM": at_rates(*(rival("ldam", max_margin=margin) for margin in (0.5, 1.0))),
    "robust asymmetric": at_rates(*(rival("robust_asymmetric", gamma_negative=gamma) for gamma in (2.0, 4.0))),
    "ZLPR": at_rates(rival("zlpr"), rates=(0.25, 0.5, 1, 2)),
    "two-way": at_rates(*(rival("two_way", temperature=temperature) for temperature in (1.0, 4.0))),
    "re-sampling": at_rates(off(class_aware=True), rates=(0.25, 0.5, 1, 2)),
    "PLM paper": at_rates(*({"plm_preset": "paper", "plm_change_rate": rate} for rate in (0.01, 0.03))),
    "PLM default": at_rates(masks(), rates=(0.25, 0.5, 1, 2)),
}

SETTINGS = {
    "BCE": [off()],
    "default": [masks()],
    "random masks": [masks(plm_mask="random")],
    "class weight 0": [masks(plm_class_weight=0.0)],
    "class weight 0.5": [masks(plm_class_weight=0.5)],
    "class weight 1": [masks(plm_class_weight=1.0)],
    "asymmetric (2, 0)": [masks(**asymmetric(2))],
    "start R^0.4": [masks(plm_temper=0.4)],
    "start R^0.6": [masks(plm_temper=0.6)],
    "fixed ideal ratios": [masks(plm_rule="fixed")],
}

STARTS = {
    "BCE": [off()],
    "own ratio, kl 0.01": [fixed("dataset", plm_rule="kl", plm_change_rate=0.01)],
    "mean ratio": [fixed("mean")],
    **{f"R^{temper}": [fixed("tempered", temper)] for temper in (0.4, 0.6, 0.8)},
    **{f"asymmetric (1, 0), R^{temper}": [fixed("tempered", temper, **asymmetric(1))] for temper in (0.6, 0.8, 1)},
}


def epochs_row(name: str, longer: int) -> str:
    """The name of a row of the study `epochs`."""
    return f"{name}, epochs x {longer}"


EPOCHS = {
    epochs_row(name, longer): [settings if longer == 1 else {**settings, "longer": longer}]
    for longer in LONGER
    for name, settings in MAIN_METHODS.items()
}

BINS = {
    "BCE": [off()],
    **{
        f"paper, {bins} bins, rate {rate}": [{"plm_preset": "paper", "plm_num_bins": bins, "plm_change_rate": rate}]
        for bins in (10, 20, 50)
        for rate in (0.01, 0.1)
    },
}

STUDIES: dict[str, Study] = {
    "methods": Study("Which methods does it beat?", METHODS, ALL_TASKS),
    "pretrained": Study(
        "Does it help pretrained models?", {name: [settings] for name, settings in MAIN_METHODS.items()}, PRETRAINED
    ),
    "starts": Study("Which initial ideal ratio?", STARTS, MULTI_LABEL),
    "settings": Study("What does each setting of the default do?", SETTINGS, (*MULTI_LABEL, *QUICK_TASKS)),
    "epochs": Study("Does longer training matter?", EPOCHS, (*MULTI_LABEL, *QUICK_TASKS), epochs_row("BCE", 1)),
    "bins": Study("Which bins and rate for the paper's rule?", BINS, ("debtags", "multimnist")),
}

QUICK = ("BCE", "BCE with pos_weight", "asymmetric", "PLM paper", "PLM default")
"""The rows of the study `methods` that `--quick` runs, each with only its first trial."""

TASKS_OF_QUICK = ("debtags", "clipart", "keywords", "mnist-lt-100")
"""The tasks of the study `methods` that `--quick` runs by default: one of each kind, ten minutes in all."""
