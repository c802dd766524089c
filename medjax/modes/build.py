"""From a config and a plan to what is trained: network, augmentation, update, step, first state."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import optax

from medjax.data.augment import Augmentation, Motion, default, spatial
from medjax.data.plan import Plan
from medjax.deploy.prune.pruned import Pruned, shapes_of
from medjax.errors import UserError
from medjax.losses import weighting
from medjax.modes.defaults import Config
from medjax.nn.resnet import ResNet
from medjax.nn.twin import Twin
from medjax.nn.unet import UNet
from medjax.train import optim, step, weigh
from medjax.train.distill import TEACHER
from medjax.train.state import State, create
from medjax.train.step import Loss
from medjax.train.supervised import Segmenter
from medjax.train.tasks import HEADS, TERMS

PRECISIONS = ("auto", "float32", "bfloat16", "int8")


def dtype(config: Config) -> Any:
    """What networks compute in; eight bits are played in float32."""
    precision = config.train.precision
    half = precision == "bfloat16" or (precision == "auto" and jax.default_backend() != "cpu")
    return jnp.bfloat16 if half else jnp.float32


Network: TypeAlias = UNet | ResNet | Twin | Pruned


def model(config: Config, plan: Plan) -> Network:
    """The network of the plan, without what was pruned of it."""
    made = whole(config, plan)
    return Pruned(made, plan.pruned) if plan.pruned else made


def whole(config: Config, plan: Plan) -> UNet | ResNet | Twin:
    """The network of the plan with the config's blocks, two for `cps`; for `masked` it makes the channels.

    Errors name the key.
    """
    if config.model.trunk == "resnet50":
        return _resnet(config, plan)
    given = {key: value for key, value in config.model.items() if key != "trunk"}
    level, stages = config.tasks.detection_level, len(plan.widths)
    if "detection" in config.tasks.learn and not 0 <= level < stages:
        raise UserError(
            f"tasks.detection_level: {level} of {stages} stages; give 0 to {stages - 1}"
        )
    make = partial(
        UNet,
        heads=heads(config, plan),
        widths=plan.widths,
        kernels=plan.kernels,
        strides=plan.strides,
        dtype=dtype(config),
        axis=step.AXIS,
        detection_level=level,
        **given,
    )
    return Twin(make) if config.train.paradigm == "cps" else make()


def _resnet(config: Config, plan: Plan) -> ResNet:
    """ResNet-50 with the first width and the strides of the plan."""
    own = config.model
    return ResNet(
        heads=heads(config, plan),
        strides=plan.strides[1:],
        width=plan.widths[0],
        norm=own.norm,
        act=own.act,
        dropout=own.dropout,
        dtype=dtype(config),
        axis=step.AXIS,
    )


def distils(config: Config) -> bool:
    """Whether a pruned network learns from the whole one."""
    return bool(config.prune.ratio and config.prune.distill)


def segmenter(config: Config, plan: Plan, network: Any) -> Segmenter:
    """The network with what the losses must know of the plan's classes."""
    return Segmenter(network, plan.groups, plan.exclusive, config.train.batch_dice, plan.undecided)


def heads(config: Config, plan: Plan) -> dict[str, int]:
    """The heads of the network and their outputs."""
    if config.train.paradigm == "masked":
        return {"seg": len(plan.channels)}
    sizes = {
        "segmentation": len(plan.groups),
        "classification": len(plan.targets),
        "detection": 1,
    }
    return {HEADS[task]: sizes[task] for task in TERMS if task in config.tasks.learn}


def shown(config: Config) -> tuple[str, ...]:
    """The means beside the progress bar: one of each task."""
    told = {"segmentation": "dice", "classification": "accuracy", "detection": "heatmap_loss"}
    return tuple(told[task] for task in TERMS if task in config.tasks.learn)


def rule(config: Config) -> weighting.Rule | None:
    """How the tasks are weighed while training; None where their weights stay. Errors: an unknown rule."""
    name, tasks = config.tasks.rule, len(config.tasks.learn)
    rules = {
        "static": lambda: None,
        "uncertainty": lambda: weighting.uncertainty([1.0] * tasks),
        "famo": lambda: weighting.famo(tasks),
        "dwa": lambda: weighting.dwa(tasks, period=config.tasks.period),
        "gradnorm": lambda: weighting.gradnorm(tasks),
    }
    if name not in rules:
        raise UserError(f"tasks.rule: {name!r} is unknown; choose one of {', '.join(rules)}")
    return rules[name]()


def optimizer(config: Config) -> optax.GradientTransformation:
    """The update rule of the config, for a rate of 1."""
    chosen = config.train
    return optim.optimizer(
        chosen.optimizer,
        weight_decay=chosen.weight_decay,
        clip=chosen.clip,
        momentum=chosen.momentum,
        beta1=chosen.beta1,
    )


def params(network: Network, plan: Plan, seed: int) -> Any:
    """The weights at the start, a function of the seed."""
    image = window(plan)
    return drawn(lambda key: network.init(key, image, False)["params"], seed)


def window(plan: Plan) -> jax.Array:
    """An image of the size of a patch, of zeros: to see shapes by."""
    return jnp.zeros((1, *plan.patch, len(plan.channels)))


def drawn(initial: Callable[[jax.Array], Any], seed: int) -> Any:
    """What `initial` draws with the seed; compiled without the forward pass.

    On CPU without optimisation: it runs once, and its random bits take ten times as long to compile.
    """
    options = {"xla_backend_optimization_level": 0} if jax.default_backend() == "cpu" else None
    return jax.jit(initial, compiler_options=options)(jax.random.key(seed))


def augmentation(config: Config, plan: Plan) -> tuple[Augmentation, Motion | None]:
    """The augmentation of the config and what its loader must know of it."""
    chosen = config.augment
    return default(
        plan.patch,
        plan.spacing,
        strength=chosen.strength,
        flips=None if chosen.flips else (),
        rotation=chosen.rotation,
        scale=tuple(chosen.scale),
        shear=chosen.shear,
        elastic=tuple(chosen.elastic) or None,
        probability_scanner=chosen.scanner,
    )


def flips(config: Config, plan: Plan) -> Augmentation:
    """The flips of the augmentation alone."""
    axes = [axis for axis in range(3) if plan.patch[axis] > 1] if config.augment.flips else ()
    return spatial(
        plan.patch,
        plan.spacing,
        flips=axes,
        probability_rotation=0.0,
        probability_scale=0.0,
        probability_elastic=0.0,
    )


def train_step(
    config: Config, loss: Loss, weights: Mapping[str, float], *, ema: bool
) -> Callable[..., Any]:
    """The step of a loss body of one objective with the config's update, for one replica."""
    gradients = step.differentiate(loss, weights, accumulate=config.train.accumulate)
    return step.make_step(gradients, optimizer(config), rate(config), *_averages(ema))


def tasks_step(config: Config, loss: Loss, terms: weigh.Terms, *, ema: bool) -> Callable[..., Any]:
    """The step of a loss body of several tasks, of which each pair has its weight in `terms`.

    A task's loss counts by `tasks.scale`, as if it were measured so, and by its weight.
    """
    tasks, learned = config.tasks, rule(config)
    scaled = {
        task: {pair: tasks.scale[task] * weight for pair, weight in own.items()}
        for task, own in terms.items()
        if task in tasks.learn
    }
    if learned is None:
        flat = {
            pair: tasks.weights[task] * weight
            for task, own in scaled.items()
            for pair, weight in own.items()
        }
        return train_step(config, loss, flat, ema=ema)
    gradients, after = weigh.weigh(loss, scaled, learned)
    return step.make_step(gradients, optimizer(config), rate(config), *_averages(ema), after)


def rate(config: Config) -> optim.Rate:
    """The learning rate over the run."""
    chosen = config.train
    return optim.schedule(chosen.schedule, peak=chosen.learning_rate, warmup=chosen.warmup)


def _averages(ema: bool) -> tuple[step.After, ...]:
    return (step.average,) if ema else ()


def start(
    config: Config,
    plan: Plan,
    network: Network,
    trained: Any = None,
    *,
    ema: bool,
    teacher: Any = None,
) -> State:
    """The state before the first step, with `trained` weights where they are given.

    `teacher`: the weights of the whole network, where a pruned one learns from it; a run that goes on has
    them in its checkpoint.
    """
    first = params(network, plan, config.seed) if trained is None else trained
    made = create(first, optimizer(config), horizon=config.train.steps, ema=ema)
    if distils(config):
        shapes = shapes_of(whole(config, plan), window(plan))
        empty = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
        made = made.replace(extra={**made.extra, TEACHER: teacher or empty})
    learned = rule(config)
    if learned is None:
        return made
    return made.replace(
        extra={**made.extra, "tasks": weigh.start(learned, len(config.tasks.learn))}
    )
