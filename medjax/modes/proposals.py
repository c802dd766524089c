"""What Ray asks of a sweep while it runs; in a file of its own, as it needs Ray to be imported."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import optuna
from ray import tune
from ray.tune.search import Searcher

from medjax import progress
from medjax.modes.space import Axis, Point, code, distributions, suggest
from medjax.modes.trials import Trial, close


class Proposals(Searcher):
    """Optuna's tree-structured Parzen estimator (Bergstra 2011), which knows the trials that there are.

    `waiting` points, of trials that did not end, come first.
    """

    def __init__(
        self, axes: Sequence[Axis], known: Sequence[Trial], waiting: Sequence[Point], seed: int
    ):
        super().__init__(metric="score", mode="max")
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        sampler = optuna.samplers.TPESampler(seed=seed + len(known))
        self._axes, self._asked = axes, {}
        self._study = optuna.create_study(direction="maximize", sampler=sampler)
        for trial in known:
            if trial.best is not None:
                params, spaces = code(axes, trial.values), distributions(axes, trial.values)
                made = optuna.trial.create_trial(
                    params=params, distributions=spaces, value=trial.best
                )
                self._study.add_trial(made)
        for point in waiting:
            self._study.enqueue_trial(code(axes, point))

    def suggest(self, trial_id: str) -> dict[str, Any]:
        """The point of the next trial."""
        asked = self._asked[trial_id] = self._study.ask()
        return {"point": suggest(self._axes, asked)}

    def on_trial_complete(
        self, trial_id: str, result: dict | None = None, error: bool = False
    ) -> None:
        """Learns from the score of a trial."""
        score = (result or {}).get("score")
        failed = optuna.trial.TrialState.FAIL
        asked = self._asked.pop(trial_id)
        if error or score is None:
            self._study.tell(asked, state=failed)
        else:
            self._study.tell(asked, score)

    def save(self, checkpoint_path: str) -> None:
        """Nothing: a sweep goes on from the folders of its trials."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing, see `save`."""


class Teller(tune.Callback):
    """Says a line for each trial that ends, and notes in its folder that it has ended."""

    def __init__(self, folder: str):
        self._folder = folder

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Finished, or stopped early."""
        name = close(Path(self._folder), trial.config["point"])
        score = (trial.last_result or {}).get("score")
        progress.console.print(f"{name}: {'no score' if score is None else f'{score:.4f}'}")

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Why stands in the report."""
        progress.console.print(f"{close(Path(self._folder), trial.config['point'])}: failed")
