"""Checkpoints with Orbax: the last and the best, whole or not at all."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers as policies

from medjax.errors import UserError
from medjax.train.state import State

BEST = "validation_dice"


def manager(folder: Path) -> ocp.CheckpointManager:
    """Keeps the newest checkpoint, to resume from, and the one with the highest validation Dice.

    Saving happens in the background; call `wait_until_finished` before the run ends.
    """
    options = ocp.CheckpointManagerOptions(
        preservation_policy=policies.AnyPreservationPolicy(
            [
                policies.LatestN(1),
                policies.BestN(get_metric_fn=lambda metrics: metrics[BEST], n=1),
            ]
        ),
        best_fn=lambda metrics: metrics[BEST],
        best_mode="max",
    )
    return ocp.CheckpointManager(folder.resolve(), options=options)


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


def save(
    checkpoints: ocp.CheckpointManager, state: State, facts: Mapping[str, Any], *, score: float
) -> None:
    """Saves the state at its own step with what the loop must remember (JSON); `score` decides the best."""
    checkpoints.save(
        int(state.step),
        args=ocp.args.Composite(
            state=ocp.args.StandardSave(state), facts=ocp.args.JsonSave(dict(facts))
        ),
        metrics={BEST: score},
    )


def restore(
    checkpoints: ocp.CheckpointManager, like: State, step: int | None = None
) -> tuple[State, dict[str, Any]]:
    """The state of `step` (default: the newest) on the devices and in the shapes of `like`, and its facts.

    Errors: nothing saved yet, or a checkpoint of another model.
    """
    step = checkpoints.latest_step() if step is None else step
    if step is None:
        raise UserError(f"{checkpoints.directory}: holds no checkpoint; train first")
    abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
    try:
        found = checkpoints.restore(
            step,
            args=ocp.args.Composite(
                state=ocp.args.StandardRestore(abstract), facts=ocp.args.JsonRestore()
            ),
        )
    except (ValueError, KeyError, TypeError, FileNotFoundError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(
            f"{checkpoints.directory}/{step}: is damaged or of another model ({first}); "
            "use another --workdir"
        ) from error
    return found["state"], found["facts"]
