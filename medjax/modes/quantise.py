"""Eight bits of a run: the scales that its training cases give, and the network that trains in them."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from medjax import progress
from medjax.data.cases import Case
from medjax.deploy.program import trace
from medjax.deploy.quantize.calibrate import calibrate
from medjax.deploy.quantize.fake import Quantised
from medjax.deploy.quantize.scales import FLAVOURS, Scale
from medjax.deploy.windows import spread, windows
from medjax.errors import UserError
from medjax.modes import build
from medjax.modes.defaults import Config
from medjax.modes.experiment import Experiment
from medjax.train import results

SCALES = "scales.json"  # in the work folder of a run that trains in eight bits


def check(config: Config) -> None:
    """What training in eight bits asks of the rest of a config. Errors name the key."""
    train = config.train
    if train.precision != "int8":
        return
    if not train.start_from:
        raise UserError(
            "train.precision: int8 trains on what is trained; name its run in train.start_from"
        )
    if train.paradigm != "supervised":
        raise UserError(
            f"train.precision: int8 is not for {train.paradigm}; set train.paradigm=supervised"
        )
    if config.prune.ratio:
        raise UserError(
            "train.precision: int8 needs scales that last; prune in a run before, and start from that"
        )


def calibrating(run: Experiment, count: int) -> list[Case]:
    """`count` training cases, spread over all of them."""
    return spread(run.cases(run.split.train), count)


def scales(
    run: Experiment, fn: Callable[[Any, Any], Any], params: Any, cases: Sequence[Case]
) -> list[Scale]:
    """A scale for each group of points of `fn(params, image)`, as `export` of the config asks for."""
    own = run.config.export
    bar = progress.bar("calibrating on training cases")
    seen = [s.image for s in windows(cases, run.plan, spacing=run.spacing, progress=bar)]
    program, _ = trace(fn, params, build.window(run.plan))
    return calibrate(program, params, seen, FLAVOURS[own.flavour], own.calibration)


def learner(run: Experiment, network: build.Network, trained: Any) -> Any:
    """The network that trains: in eight bits where `train.precision` says so.

    Its scales are those of the `trained` weights that it starts with, and stay; a run that goes on finds them
    in its folder.
    """
    if run.config.train.precision != "int8":
        return network
    path = run.workdir / SCALES
    if trained is not None:
        cases = calibrating(run, run.config.export.cases)

        def fn(params: Any, image: Any) -> Any:
            return network.apply({"params": params}, image, False)

        found = scales(run, fn, trained, cases)
        results.write_json(path, {"scales": [asdict(own) for own in found]})
    return Quantised(network, [Scale(**own) for own in results.read_json(path)["scales"]])
