"""From the section `synth` of a config to synthetic cases on disk."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from medjax.data import recipe as recipes
from medjax.data.fresh import Restyle, Source, source
from medjax.data.parents import parent_of
from medjax.data.parents import parents as open_parents
from medjax.data.plan import Plan
from medjax.data.recipe import Recipe
from medjax.data.synthetic import case_name, make_cases
from medjax.errors import UserError
from medjax.modes.defaults import Config
from medjax.modes.folders import case_cache, user_cache
from medjax.progress import bar, counter
from medjax.sim.anatomy import Anatomy


def recipe(config: Config) -> Recipe:
    """What the config makes patients with. Errors name the key."""
    chosen = config.synth
    return Recipe(
        spacing=chosen.spacing,
        fields=tuple(chosen.fields),
        contrasts=tuple(chosen.contrasts),
        growth=chosen.growth,
        style=chosen.style,
        faults=chosen.faults,
        slices=chosen.slices,
        head=chosen.head,
    )


def parents(config: Config) -> list[Anatomy]:
    """The anatomies of the config: its label maps, or the MNI152 template."""
    chosen = config.synth
    return open_parents(
        chosen.label_maps, chosen.table, head=chosen.head, cache=user_cache("parents")
    )


def make(config: Config, root: Path | None = None) -> tuple[str, set[str]]:
    """Makes the cases of the config in `root`, or in this user's cache; the folder, and their names."""
    chosen, wanted = config.synth, recipe(config)
    sources = parents(config)
    if root is None:
        names = [parent.name for parent in sources]
        depends = json.dumps([recipes.VERSION, config.seed, wanted.facts(), names])
        named = hashlib.sha256(depends.encode()).hexdigest()[:16]
        root = user_cache("synthetic", named, f"synthetic-{chosen.growth}")  # as the report has it
    with counter("making synthetic cases") as show:
        folder = make_cases(
            root, sources, wanted, cases=chosen.cases, seed=config.seed, progress=show
        )
    return str(folder), {case_name(index, sources, wanted) for index in range(chosen.cases)}


def beside(
    config: Config, plan: Plan, train: Sequence[str], restyle: Restyle | None = None
) -> Source:
    """The synthetic patients that training patches come from beside those of the cases `train`.

    Where the training cases are synthetic too, new patients have the anatomies of those alone: the
    other anatomies validate and test.
    """
    chosen = config.synth
    if config.train.workers:
        raise UserError("train.workers: synthetic patients are made in this process; set it to 0")
    if chosen.reuse < 1 or chosen.pool < 0:
        raise UserError("synth.reuse: at least 1, and synth.pool at least 0")
    sources, wanted = parents(config), recipe(config)
    if not config.data.root:
        known = {case_name(index, sources, wanted): index for index in range(chosen.cases)}
        used = sorted({parent_of(known[name], sources) for name in train})
        sources = [sources[number] for number in used]
    return source(
        wanted,
        sources,
        plan,
        seed=config.seed,
        reuse=chosen.reuse,
        pool=chosen.pool,
        folder=case_cache(config),
        restyle=restyle,
        progress=bar("making synthetic patients"),
    )
