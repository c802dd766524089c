"""`--mode prune`: what pruning would take away of a trained run, family by family; nothing is changed."""

from pathlib import Path

from medjax import progress
from medjax.deploy.prune import choice
from medjax.deploy.prune.pruned import structure_of
from medjax.deploy.prune.structure import Structure, grow
from medjax.errors import UserError
from medjax.modes import build, experiment, members, prune
from medjax.modes.defaults import Config
from medjax.modes.trained import load_weights

console = progress.console


def main(config: Config, workdir: Path) -> None:
    """Prints the families of a run's network, what `prune` leaves of each, and what stays and why.

    Errors: nothing trained in the work folder, or no `prune.ratio`.
    """
    experiment.start_jax()
    own, trained = config.prune, experiment.stored_config(config, workdir)
    members.alone(trained, workdir, "prune")
    if not 0 < own.ratio < 1:
        raise UserError(
            f"prune.ratio: {own.ratio}; give a share above 0 and below 1, to see its effect"
        )
    prune.check_choice(config)
    run = experiment.prepare_experiment(trained, workdir)
    plan = run.plan
    _, params, _ = load_weights(trained, plan, workdir)
    structure = structure_of(build.whole(trained, plan), build.window(plan))
    before = structure.removed(plan.pruned)
    params = grow(structure, params, before)
    removed = prune.chosen(run, structure, params, before, own)
    rows = choice.table(structure, removed)
    console.print(
        f"{'units':>6} {'left':>6} {'channels':>9} {'parameters':>11} {'mult.':>7}  family"
    )
    for row in rows:
        more = f" and {len(row['members']) - 1} more" if len(row["members"]) > 1 else ""
        console.print(
            f"{row['units']:6} {row['left']:6} {row['channels']:9} {row['parameters']:11.1%} "
            f"{row['multiplications']:7.1%}  {row['family']}{more}"
        )
    for (path, axis), why in _stays(structure).items():
        console.print(f"stays: {path}[{axis}]: {why}")
    for name in sorted(structure.coupling.unknown):
        console.print(f"stays: what {name} touches, of which nothing is known")
    prune.say(structure, before, removed, params)
    console.print(
        f"nothing is changed; train with --config.train.start_from={workdir} "
        f"--config.prune.ratio={own.ratio:g} and another --workdir"
    )


def _stays(structure: Structure) -> dict[tuple[str, int], str]:
    """Why whole axes of kernels' output channels stay; those of space and of the image always do."""
    return {
        (path, axis): why
        for (path, axis), why in structure.stays.items()
        if "moves along it" not in why and "input" not in why
    }
