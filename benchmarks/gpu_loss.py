"""What the loss costs on a device: for the host that waits for it, for the device alone, and beside its memory."""

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

    On a GPU between two events, behind matrix products that last until the host has sent the whole step: so the time
    that the host takes to send it is left out. On a CPU it is the time that the step takes.
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
    """Bytes a second that the device's memory moves: a copy reads and writes each byte once."""
    source, target = (torch.zeros(num_bytes, dtype=torch.uint8, device=device) for _ in range(2))
    return 2 * num_bytes / device_seconds(lambda: target.copy_(source), device)


def measure_shape(
    rows: int, num_labels: int, dtype: torch.dtype, device: str, bandwidth: float, methods: Sequence[str]
) -> list[dict[str, Any]]:
    """The results of `measure_seconds`, with what the device alone takes.

    Each shape is compiled anew, as in a process of its own: how the compiler shares out the work of a row on a GPU
    follows from the first shape that it sees.

    Returns:
        with `device_seconds` (see there), `device_ratio` to that of eager BCE, and `over_floor`: `device_seconds` over
        the bytes that any method must move (logits and labels are read, the gradient is written) by the bandwidth.
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
