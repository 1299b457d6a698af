"""Measures the loss on a device: the time of host and device, of only the device, and the memory bandwidth."""

import statistics
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch._inductor.config
from loss_speed import measure_seconds, seconds_of
from loss_steps import BASELINE, FLOOR, make_batch, make_step

SHAPES = ((64, 10_000), (16, 200_000), (4, 1_000_000), (256, 365))
TINY_SHAPES = ((8, 50),)
METHODS = (
    FLOOR,
    BASELINE,
    "BCE, compiled",
    "PLM default",
    *(f"PLM {name}, compiled" for name in ("paper", "default", "random")),
)
TINY_METHODS = (FLOOR, BASELINE, "PLM default")
REPEATS = 15


def device_seconds(step: Callable[[], Any], device: str) -> float:
    """For how long a step keeps the device busy: the median of `REPEATS`.

    On a GPU this is the time between two events. They are queued after matrix products that last until the host has
    sent the whole step, so the host's time is not included. On a CPU it is the duration of the step.
    """
    step()
    if device == "cpu":
        return statistics.median(seconds_of(step) for _ in range(REPEATS))
    busy = torch.ones(4096, 4096, device=device)
    seconds: list[float] = []
    products = 2
    while len(seconds) < REPEATS:
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize()
        for _ in range(products):
            busy @ busy
        start.record()
        step()
        end.record()
        was_sent_in_time = not start.query() or products >= 64
        torch.cuda.synchronize()
        if was_sent_in_time:
            seconds.append(start.elapsed_time(end) / 1000)
        else:
            products *= 2
    return statistics.median(seconds)


def measure_bandwidth(device: str, num_bytes: int) -> float:
    """The bandwidth of the device's memory in bytes per second: a copy reads and writes each byte once."""
    source, target = (torch.zeros(num_bytes, dtype=torch.uint8, device=device) for _ in range(2))
    return 2 * num_bytes / device_seconds(lambda: target.copy_(source), device)


def measure_shape(
    rows: int, num_labels: int, dtype: torch.dtype, device: str, bandwidth: float, methods: Sequence[str]
) -> list[dict[str, Any]]:
    """The results of `measure_seconds`, with the time of only the device.

    Each shape is compiled again, as in a new process: on a GPU the compiler chooses how to divide the work of a row by
    the first shape that it sees.

    Returns:
        also `device_seconds` (see there), `device_ratio` (to eager BCE) and `over_floor`: `device_seconds` divided by
        the least time that the bandwidth allows to read logits and labels and to write the gradient.
    """
    torch.compiler.reset()
    with torch._inductor.config.patch(fx_graph_cache=False):
        results = measure_seconds(rows, num_labels, dtype, device, methods)
        logits, labels = make_batch(rows, num_labels, dtype, device)
        floor = 3 * logits.numel() * logits.element_size() / bandwidth
        seconds = {method: device_seconds(make_step(method, logits, labels), device) for method in methods}
    for result in results:
        alone = seconds[result["method"]]
        result |= {"device_seconds": alone, "device_ratio": alone / seconds[BASELINE], "over_floor": alone / floor}
        result["bandwidth"] = bandwidth
    return results
