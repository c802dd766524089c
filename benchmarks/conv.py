"""XLA's own 3-D convolution against the form that `ops/conv.py` picks on this machine, shape by shape.

    python -m benchmarks.conv

One row per shape: forward, and forward with both gradients; medians of interleaved runs, compilation apart.
"""

import statistics
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp

from medjax.ops.conv import Implementation, conv

# (batch, d, h, w, c), kernel, outputs, strides
SHAPES = [
    ((2, 36, 52, 36, 1), (3, 3, 3), 16, (1, 1, 1)),
    ((2, 36, 52, 36, 16), (3, 3, 3), 16, (1, 1, 1)),
    ((2, 36, 52, 36, 32), (3, 3, 3), 16, (1, 1, 1)),
    ((2, 36, 52, 36, 16), (3, 3, 3), 32, (2, 2, 2)),
    ((2, 18, 26, 18, 32), (3, 3, 3), 32, (1, 1, 1)),
    ((2, 9, 13, 9, 64), (3, 3, 3), 64, (1, 1, 1)),
    ((2, 10, 128, 128, 16), (1, 3, 3), 16, (1, 1, 1)),
    ((2, 64, 64, 64, 16), (3, 3, 3), 16, (1, 1, 1)),
    ((2, 40, 48, 40, 64), (3, 3, 3), 32, (1, 1, 1)),
    ((2, 5, 6, 5, 256), (3, 3, 3), 256, (1, 1, 1)),
    ((8, 1, 64, 64, 64), (1, 3, 3), 64, (1, 1, 1)),
]
RUNS = 7
IMPLEMENTATIONS: tuple[Implementation, ...] = ("native", "fast")


def seconds(functions: dict[str, Callable[[], object]]) -> dict[str, float]:
    """The median time of each, run in turn."""
    taken: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(RUNS + 1):
        for name, function in functions.items():
            begin = time.perf_counter()
            jax.block_until_ready(function())
            taken[name].append(time.perf_counter() - begin)
    return {name: statistics.median(values[1:]) for name, values in taken.items()}


def main() -> None:
    """Prints the table."""
    print(
        "| input | kernel | outputs | strides | forward, ms | ratio | with gradients, ms | ratio |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for shape, size, outputs, strides in SHAPES:
        x = jax.random.normal(jax.random.key(0), shape)
        kernel = 0.1 * jax.random.normal(jax.random.key(1), (*size, shape[-1], outputs))
        cells = []
        for gradients in (False, True):
            functions = {}
            for impl in IMPLEMENTATIONS:

                def apply(x, kernel, impl: Implementation = impl, strides=strides):
                    return conv(x, kernel, strides, impl=impl)

                def both(x, kernel, apply=apply):
                    return jax.grad(lambda *a: jnp.sum(apply(*a) ** 2), (0, 1))(x, kernel)

                run = jax.jit(both if gradients else apply)
                functions[impl] = lambda run=run, x=x, kernel=kernel: run(x, kernel)
            found = seconds(functions)
            cells += [f"{1e3 * found['fast']:.1f}", f"{found['native'] / found['fast']:.1f}"]
        print(
            f"| {shape} | {size} | {outputs} | {strides} | " + " | ".join(cells) + " |", flush=True
        )


if __name__ == "__main__":
    main()
