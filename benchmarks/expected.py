"""How far a training would scale, from what one device, the compiled step and the loader do here.

    python -m benchmarks.expected

Measured: a step of one patch on one of eight virtual devices, what the compiled step sends between devices
(read from XLA's program for meshes of virtual ones), the loader's rate. Simulated from these: devices in
step, each as long as the slowest of so many drawn times, then what is sent over a link of a bandwidth and
a latency. A faster device is one whose times are shorter by a factor; nothing else is assumed of it.
"""

import re
import statistics
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from math import log2, prod
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from benchmarks.augment import write_cases
from benchmarks.train_step import Net, replica
from medjax import hugepages
from medjax.data.patches import iterate, patches
from medjax.train import step

NET = Net((64, 64, 64), 1, 4, 4, (16, 32, 64, 128))
DEVICES, NEIGHBOURS = (8, 64, 512), (2, 4, 8)
STEPS, WARM, DRAWS, READ = 30, 3, 300, 200
CORES = 16  # of a host with eight devices, for its loader
WORDS = {"f32": 4, "bf16": 2, "s32": 4, "u32": 4, "pred": 1, "u8": 1}
CALL = re.compile(
    r"= (?P<made>\(?[^=]*?) (?P<kind>all-reduce|all-gather|all-to-all|collective-permute)(-start)?\("
)


class Link(NamedTuple):
    """Between devices: bytes and seconds."""

    name: str
    per_second: float
    latency: float


class Machine(NamedTuple):
    """Devices so many times as fast as the one here; links within hosts of eight, and between them."""

    speed: float
    near: Link
    far: Link


class Sent(NamedTuple):
    """By each device in a step."""

    messages: int = 0
    size: float = 0.0


ETHERNET = Link("1 Gbit/s, 50 us", 0.125e9, 50e-6)
MACHINES = {
    "as here": Machine(1, ETHERNET, ETHERNET),
    "100 times as fast": Machine(
        100, Link("100 GB/s, 5 us", 100e9, 5e-6), Link("12.5 GB/s, 10 us", 12.5e9, 10e-6)
    ),
    "1000 times as fast": Machine(
        1000, Link("300 GB/s, 5 us", 300e9, 5e-6), Link("50 GB/s, 10 us", 50e9, 10e-6)
    ),
}


def compiled(devices: int, space: int) -> tuple[jax.stages.Compiled, tuple]:
    """The step of one patch a replica on a mesh, and arguments for it."""
    made, start = replica(NET)
    mesh = step.data_mesh(devices, space)
    state = step.replicate(jax.jit(start)(jax.random.key(0)), mesh)
    batch = NET._replace(batch=devices // space).random_batch()
    given = state, step.shard(batch, mesh), jax.random.key(1)
    return step.map_step(made, mesh).lower(*given).compile(), given


def step_seconds(program: jax.stages.Compiled, given: tuple) -> list[float]:
    """The times of steps, after some that do not count."""
    state, batch, key = given
    seconds = []
    for _ in range(WARM + STEPS):
        begin = time.perf_counter()
        state, means = program(state, batch, key)
        jax.block_until_ready((state, means))
        seconds.append(time.perf_counter() - begin)
    return seconds[WARM:]


def sent(program: jax.stages.Compiled) -> dict[str, Sent]:
    """What each kind of exchange in the program of one device makes."""
    found: dict[str, Sent] = {}
    for line in (program.as_text() or "").splitlines():
        if call := CALL.search(re.sub(r"/\*.*?\*/", "", line)):
            size = sum(
                WORDS[kind] * prod(map(int, filter(None, shape.split(","))))
                for kind, shape in re.findall(r"(\w+)\[([\d,]*)\]", call["made"])
            )
            before = found.get(call["kind"], Sent())
            found[call["kind"]] = Sent(before.messages + 1, before.size + size)
    return found


def loader_rate() -> float:
    """Patches a second of the loader's threads, from mapped files that the system holds in memory."""
    with tempfile.TemporaryDirectory() as folder:
        cases = write_cases(Path(folder))
        drawn = iterate(patches(cases, patch=NET.patch, batch=2, steps=READ, seed=0))
        for _ in range(10):
            next(drawn)
        begin = time.perf_counter()
        for _ in range(READ // 2):
            next(drawn)
        return READ / (time.perf_counter() - begin)


def reduced(gradients: Sent, devices: int, machine: Machine) -> float:
    """Seconds of a ring within hosts of eight and one between them, all gradients in one message."""
    near, hosts = min(devices, 8), max(1, devices // 8)
    seconds = 0.0
    for link, count in ((machine.near, near), (machine.far, hosts)):
        if count > 1:
            seconds += 2 * (count - 1) / count * gradients.size / link.per_second
            seconds += 2 * log2(count) * link.latency
    return seconds


def efficiency(
    taken: Sequence[float],
    devices: int,
    machine: Machine,
    gradients: Sent,
    halos: Sent,
    *,
    share: int = 1,
) -> tuple[float, float]:
    """The share of `devices` alone that they bring together: by waiting for each other alone, and in all."""
    rng = np.random.default_rng(0)
    drawn = rng.choice(taken, (DRAWS, devices // share)).max(axis=1) / machine.speed / share
    moved = reduced(gradients, devices, machine)
    moved += halos.size / machine.near.per_second + halos.messages * machine.near.latency
    alone = statistics.mean(taken) / machine.speed / share
    return alone / float(drawn.mean()), alone / float(drawn.mean() + moved)


def main() -> None:
    """Prints what was measured, then a table of what it would mean."""
    hugepages.restart()
    jax.config.update("jax_num_cpu_devices", 8)
    program, given = compiled(1, 1)
    taken = step_seconds(program, given)
    rate = loader_rate()
    low, high = np.percentile(taken, [5, 95])
    print(f"step of one patch: {statistics.median(taken):.3f} s [{low:.3f}, {high:.3f}]")
    print(f"loader: {rate:.0f} patches/s")
    exchanges = {k: sent(compiled(k, k)[0]) for k in NEIGHBOURS}
    gradients = sent(compiled(8, 1)[0])["all-reduce"]
    print(f"all gradients: {gradients.size / 1e6:.2f} MB")
    halos: dict[int, Sent] = {}
    for k, found in exchanges.items():
        parts = [own for kind, own in found.items() if kind != "all-reduce"]
        sums = found.get("all-reduce", Sent())
        messages = sum(own.messages for own in parts) + sums.messages
        halos[k] = Sent(messages, sum(own.size for own in parts))
        print(
            f"{k} neighbours: {messages} exchanges, of which {sums.messages} sums; "
            f"{halos[k].size / 1e6:.2f} MB of borders each"
        )
    print("\n| devices | waiting alone | " + " | ".join(MACHINES) + " |")
    print("|---|---|" + "---|" * len(MACHINES))
    for share in (1, *NEIGHBOURS):
        for devices in DEVICES:
            found = [
                efficiency(taken, devices, m, gradients, halos.get(share, Sent()), share=share)
                for m in MACHINES.values()
            ]
            name = f"{devices}" if share == 1 else f"{devices}, {share} a patch"
            row = [f"{found[0][0]:.2f}", *(f"{whole:.2f}" for _, whole in found)]
            print(f"| {name} | " + " | ".join(row) + " |")
    print("\n| | patches/s that eight devices ask for | hosts of 16 cores bring |\n|---|---|---|")
    for name, machine in MACHINES.items():
        asked = 8 * machine.speed / statistics.median(taken)
        print(f"| {name} | {asked:.0f} | {rate * CORES / 2:.0f} |")
    whole = partial(efficiency, taken, 512, gradients=gradients, halos=Sent())
    for speed in (1, 10, 100, 1000):
        for per_second in np.geomspace(1e7, 1e12, 51):
            link = Link("", float(per_second), 10e-6)
            if whole(Machine(speed, link, link))[1] > 0.8 * whole(Machine(speed, link, link))[0]:
                print(
                    f"512 devices {speed} times as fast lose a fifth to links of {per_second:.1e} B/s"
                )
                break


if __name__ == "__main__":
    main()
