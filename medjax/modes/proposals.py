"""What Ray asks of a sweep while it runs; in a file of its own, as it needs Ray to be imported."""

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
from ray import tune
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search import Searcher

from medjax import progress
from medjax.modes.space import TRIES, Axis, Point, code, distributions, suggest
from medjax.modes.trials import Trial, close, place


class Proposals(Searcher):
    """Optuna's tree-structured Parzen estimator (Bergstra 2011), which knows the trials that there are.

    `waiting` points, of trials that did not end, come first. No point comes twice; where none is left, the
    search is over.
    """

    def __init__(
        self, axes: Sequence[Axis], known: Sequence[Trial], waiting: Sequence[Point], seed: int
    ):
        super().__init__(metric="score", mode="max")
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        sampler = optuna.samplers.TPESampler(seed=seed + len(known))
        self._axes, self._asked = axes, {}
        self._taken = {trial.name for trial in known}
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

    def suggest(self, trial_id: str) -> dict[str, Any] | str:
        """The point of the next trial, or that there is none."""
        for _ in range(TRIES):
            asked = self._study.ask()
            point = suggest(self._axes, asked)
            name = place(Path(), point).name
            if name not in self._taken:
                self._taken.add(name)
                self._asked[trial_id] = asked
                return {"point": point}
            self._study.tell(asked, state=optuna.trial.TrialState.FAIL)
        return Searcher.FINISHED

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


class Halving(ASHAScheduler):
    """ASHA (Li 2020) over validations, which knows those of the trials that there are."""

    def __init__(self, known: Sequence[Trial], validations: int, grace: int):
        super().__init__(max_t=validations, grace_period=grace, reduction_factor=3)
        self._known = known

    def set_search_properties(self, metric: str | None, mode: str | None, **spec: Any) -> bool:
        """Takes what counts as good, by which the trials that there are find their places."""
        taken = super().set_search_properties(metric, mode, **spec)
        nobody: Any = None
        for trial in self._known:
            ended: Any = SimpleNamespace(trial_id=trial.name)
            self.on_trial_add(nobody, ended)
            for number, (_, score) in enumerate(trial.curve, start=1):
                self.on_trial_result(nobody, ended, {"training_iteration": number, metric: score})
            self.on_trial_remove(nobody, ended)
        return taken


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
