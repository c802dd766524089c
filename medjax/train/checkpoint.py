"""Checkpoints with Orbax: the last two and the best, whole or not at all, and known to be what was saved."""

import errno
import json
import os
import shutil
import warnings
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers as policies

from medjax.errors import UserError
from medjax.train import processes
from medjax.train.state import State

BEST = "validation_dice"
SUM = "crc32"  # an item of a checkpoint beside state and facts


def manager(folder: Path, *, shared: bool = False) -> ocp.CheckpointManager:
    """Keeps the two newest checkpoints, to resume from, and the one with the highest validation Dice.

    Saving happens in the background; call `wait_until_finished` before the run ends. A checkpoint whose
    score cannot be read is put aside. A `shared` one is of all processes, which must call it alike; others
    are of this process alone.
    """
    if processes.first() or not shared:
        for scores in folder.glob("[0-9]*/metrics/metrics"):
            try:
                float(json.loads(scores.read_text("utf-8"))[BEST])
            except (ValueError, KeyError, TypeError) as error:
                put_aside(scores.parents[1], f"its score cannot be read: {error}")
    if shared:
        processes.meet()
    own = jax.process_index()
    alone = ocp.options.MultiprocessingOptions(own, {own}, f"process-{own}")
    folder.mkdir(parents=True, exist_ok=True)
    options = ocp.CheckpointManagerOptions(
        create=False,
        multiprocessing_options=ocp.options.MultiprocessingOptions() if shared else alone,
        preservation_policy=policies.AnyPreservationPolicy(
            [
                policies.LatestN(2),
                policies.BestN(get_metric_fn=lambda metrics: metrics[BEST], n=1),
            ]
        ),
        best_fn=lambda metrics: metrics[BEST],
        best_mode="max",
    )
    return ocp.CheckpointManager(folder.resolve(), options=options)


def clear(folder: Path) -> None:
    """Removes what a killed run left of a checkpoint; to be called where no other run can be saving one."""
    for left in folder.glob("*.orbax-checkpoint-tmp*"):
        shutil.rmtree(left)


def newest(folder: Path) -> int | None:
    """The step of the newest whole checkpoint, or None."""
    if not folder.is_dir():
        return None
    with manager(folder) as saved:
        return saved.latest_step()


def facts(folder: Path) -> dict[str, Any]:
    """What the newest checkpoint remembers beside its state. Errors: nothing saved yet."""
    with manager(folder) as saved:
        if saved.latest_step() is None:
            raise UserError(f"{folder}: holds no checkpoint; train first")
        return saved.restore(None, args=ocp.args.Composite(facts=ocp.args.JsonRestore()))["facts"]


def put_aside(path: Path, why: str) -> None:
    """Renames a damaged checkpoint, with a warning."""
    goal = path.with_name(f"damaged-{path.name}")
    shutil.rmtree(goal, ignore_errors=True)
    path.rename(goal)
    warnings.warn(f"{path}: is damaged ({why}); it is {goal.name} now", stacklevel=3)


def save(
    checkpoints: ocp.CheckpointManager, state: State, facts: Mapping[str, Any], *, score: float
) -> None:
    """Saves the state at its own step with what the loop must remember (JSON); `score` decides the best.

    Errors: OSError where the disk has no room for it, before anything is written.
    """
    folder = Path(checkpoints.directory)
    if shutil.disk_usage(folder).free < sum(leaf.nbytes for leaf in jax.tree.leaves(state)):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))
    total = {SUM: checksum(state, facts)}
    checkpoints.save(
        int(state.step),
        args=ocp.args.Composite(
            state=ocp.args.StandardSave(state),
            facts=ocp.args.JsonSave(dict(facts)),
            **{SUM: ocp.args.JsonSave(total)},
        ),
        metrics={BEST: score},
    )


def checksum(state: State, facts: Mapping[str, Any]) -> int:
    """CRC-32 of all that is saved: Orbax notices a file that was cut short, not a byte that changed."""
    number = zlib.crc32(json.dumps(facts, sort_keys=True).encode())
    for leaf in jax.tree.leaves(state):
        number = zlib.crc32(np.asarray(leaf).tobytes(), number)
    return number


def restore(
    checkpoints: ocp.CheckpointManager, like: State, step: int | None = None
) -> tuple[State, dict[str, Any]]:
    """The state of `step` (default: the newest) on the devices and in the shapes of `like`, and its facts.

    Errors: nothing saved yet, or a checkpoint that is damaged or of another model.
    """
    step = checkpoints.latest_step() if step is None else step
    if step is None:
        raise UserError(f"{checkpoints.directory}: holds no checkpoint; train first")
    abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
    items = {"state": ocp.args.StandardRestore(abstract), "facts": ocp.args.JsonRestore()}
    if Path(checkpoints.directory, str(step), SUM).is_dir():  # older ones have none
        items[SUM] = ocp.args.JsonRestore()
    try:
        found = checkpoints.restore(step, args=ocp.args.Composite(**items))
        state, facts = found["state"], found["facts"]
        if SUM in items and found[SUM][SUM] != checksum(state, facts):
            raise ValueError("it holds other bytes than were saved")
    except Exception as error:  # of many kinds, the plain one among them
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(
            f"{checkpoints.directory}/{step}: is damaged or of another model ({first}); train again to go "
            "on from the one before, or use another --workdir"
        ) from error
    return state, facts


def resume(checkpoints: ocp.CheckpointManager, like: State) -> tuple[State, dict[str, Any]]:
    """The newest checkpoint that can be read; damaged ones after it are put aside, with a warning.

    For all processes of a run together, where there are several.
    Errors: nothing saved yet, or none that can be read.
    """
    refused: dict[int, UserError] = {}
    for step in sorted(checkpoints.all_steps(), reverse=True):
        try:
            found = restore(checkpoints, like, step)
        except UserError as error:
            refused[step] = error
            continue
        if refused:
            for late, error in refused.items() if processes.first() else ():
                put_aside(Path(checkpoints.directory) / str(late), str(error.__cause__))
            processes.meet()
            checkpoints.reload()
        return found
    if refused:
        raise next(iter(refused.values()))
    return restore(checkpoints, like)
