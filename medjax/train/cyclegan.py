"""The CycleGAN paradigm (Zhu 2017): two generators, two discriminators, one loss body, one backward pass."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int, Integer

from medjax.data.augment import Augmentation
from medjax.losses import adversarial
from medjax.train.state import Params
from medjax.train.step import AXIS, Batch, Loss, Pairs

Pool = dict[str, Array]


class Networks(NamedTuple):
    """The modules, and what they see: `source` and `target` are channels of the image.

    classes: how many classes of the label, background among them, both kinds of network get as
    masks beside the image (the lesion guard: with them no lesion need be guessed, and one that is
    missing or invented is seen). 0: none, the networks see the image alone.
    """

    generator: Any
    discriminator: Any
    source: int
    target: int
    classes: int

    def masks(self, label: Integer[Array, "b d h w"]) -> Float[Array, "b d h w k"]:
        """One channel per foreground class; voxels that nobody labelled are in none."""
        wanted = jnp.arange(1, max(self.classes, 1))
        return (label[..., None] == wanted.reshape(1, 1, 1, 1, -1)).astype(jnp.float32)

    def init(self, key: Array, patch: tuple[int, int, int]) -> Params:
        """The weights at the start: g makes target from source, f source from target, d_* judge."""
        seen = jnp.zeros((1, *patch, max(self.classes, 1)))
        of = {"g": self.generator, "f": self.generator}
        of |= {"d_source": self.discriminator, "d_target": self.discriminator}
        keys = jax.random.split(key, len(of))
        return {n: m.init(k, seen)["params"] for (n, m), k in zip(of.items(), keys, strict=True)}

    def translate(
        self, params: Params, image: Float[Array, "b d h w 1"], masks: Float[Array, "b d h w k"]
    ) -> Float[Array, "b d h w 1"]:
        """What a generator makes of an image whose lesions are known."""
        return self.generator.apply({"params": params}, jnp.concatenate([image, masks], axis=-1))


def empty_pool(size: int, patch: tuple[int, int, int], channels: int) -> Pool:
    """A pool of `size` images that have yet to come."""
    return {"images": jnp.zeros((size, *patch, channels)), "count": jnp.int32(0)}


def exchange(
    pool: Pool,
    images: Float[Array, "n d h w c"],
    swaps: Bool[Array, " n"],
    slots: Int[Array, " n"],
) -> tuple[Pool, Float[Array, "n d h w c"]]:
    """Sends images through the pool one after the other (Shrivastava 2017).

    While there is room an image stays in the pool and is passed on as well; then one that `swaps`
    takes the place of the image in its slot, which is passed on instead, and any other passes.
    """
    size = pool["images"].shape[0]

    def one(pool: Pool, drawn: tuple[Array, Array, Array]) -> tuple[Pool, Array]:
        image, swap, slot = drawn
        room = pool["count"] < size
        place = jnp.where(room, jnp.minimum(pool["count"], size - 1), slot)
        old = pool["images"][place]
        stored = pool["images"].at[place].set(jnp.where(room | swap, image, old))
        count = jnp.minimum(pool["count"] + 1, size)
        return {"images": stored, "count": count}, jnp.where(swap & ~room, old, image)

    return lax.scan(one, pool, (images, swaps, slots))


def from_pool(
    pool: Pool, images: Float[Array, "n d h w c"], index: Int[Array, " n"], key: Array
) -> tuple[Pool, Float[Array, "n d h w c"]]:
    """Sends the images of all replicas through the pool and gives this replica its own share back.

    Half of them are swapped. Every replica holds the whole pool and does the same exchange in the
    order of the batch, so that the state stays one and the same on all of them, however many.
    """
    words = jax.vmap(lambda i: jax.random.bits(jax.random.fold_in(key, i), (2,)))(index)
    swaps, slots = words[:, 0] >> 31 == 0, words[:, 1] % pool["images"].shape[0]
    everything = lax.all_gather((images, swaps, slots.astype(jnp.int32)), AXIS, tiled=True)
    pool, passed = exchange(pool, *everything)
    mine = lax.axis_index(AXIS) * images.shape[0]
    return pool, lax.dynamic_slice_in_dim(passed, mine, images.shape[0])


def cyclegan(networks: Networks, augment: Augmentation, *, identity: bool = True) -> Loss:
    """The loss body; rows 0, 2, ... of a batch belong to the source, rows 1, 3, ... to the target.

    params: what `Networks.init` gives; extra: pools `pool_source` and `pool_target`. Pairs:
    `gan_g`, `gan_f`, `cycle_source`, `cycle_target`, with `identity` also `identity_source`,
    `identity_target`; `d_source`, `d_target`. Generators are judged by discriminators that are held
    constant, discriminators see made images that are: one backward pass over the sum gives each
    its own gradient.
    """

    def scores(params: Params, image: Array, masks: Array) -> Array:
        seen = jnp.concatenate([image, masks], axis=-1)
        return networks.discriminator.apply({"params": params}, seen)

    def loss(params, extra: dict, batch: Batch, key: Array, progress: Array) -> tuple[Pairs, dict]:
        augmentation_key, *pool_keys = jax.random.split(key, 3)
        augmented = dict(batch)
        augmented = augment.apply(augment.sample(augmentation_key, augmented), augmented)
        image, masks = augmented["image"], networks.masks(augmented["label"])
        real = {
            "source": image[0::2, ..., networks.source, None],
            "target": image[1::2, ..., networks.target, None],
        }
        mask = {"source": masks[0::2], "target": masks[1::2]}
        index = {"source": augmented["index"][0::2], "target": augmented["index"][1::2]}
        half = image.shape[0] // 2
        pairs: Pairs = {}
        pools = {}
        for start, end, there, back, pool_key in (
            ("source", "target", "g", "f", pool_keys[0]),
            ("target", "source", "f", "g", pool_keys[1]),
        ):
            given, around = real[start], mask[start]
            if identity:  # in one pass with the translation
                given = jnp.concatenate([given, real[end]])
                around = jnp.concatenate([around, mask[end]])
            found = networks.translate(params[there], given, around)
            made, same = found[:half], found[half:]
            returned = networks.translate(params[back], made, mask[start])
            pairs[f"cycle_{start}"] = adversarial.l1(returned, real[start])
            if identity:
                pairs[f"identity_{end}"] = adversarial.l1(same, real[end])
            constant = lax.stop_gradient(params[f"d_{end}"])
            pairs[f"gan_{there}"] = adversarial.generator(scores(constant, made, mask[start]))

            shown = jnp.concatenate([lax.stop_gradient(made), mask[start]], axis=-1)
            pool = f"pool_{end}"
            pools[pool], old = from_pool(extra[pool], shown, index[start], pool_key)
            judged = scores(
                params[f"d_{end}"],
                jnp.concatenate([real[end], old[..., :1]]),
                jnp.concatenate([mask[end], old[..., 1:]]),
            )
            pairs[f"d_{end}"] = adversarial.discriminator(judged[:half], judged[half:])
        return pairs, {**extra, **pools}

    return loss


def weights(*, cycle: float = 10.0, identity: float = 5.0) -> dict[str, float]:
    """The weight of each pair of the loss; an identity of 0 leaves its pairs out."""
    found = {"gan_g": 1.0, "gan_f": 1.0, "d_source": 1.0, "d_target": 1.0}
    found |= {"cycle_source": cycle, "cycle_target": cycle}
    return found | ({"identity_source": identity, "identity_target": identity} if identity else {})
