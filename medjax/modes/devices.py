"""Which devices train a run: their mesh, of replicas side by side and of neighbours that share a patch."""

import jax
from jax.sharding import Mesh

from medjax.errors import UserError
from medjax.train.step import data_mesh


def mesh(devices: int, space: int, batch: int, rows: int = 1) -> Mesh:
    """`devices` of them, all accelerators where that is 0, or as many CPU devices as divide the batch.

    `space` neighbours, of one process, share each patch; `rows` neighbouring patches stay in one replica;
    each process has as many devices as the others. Errors: a number that there is not, or that does not fit.
    """
    available, count = jax.device_count(), jax.process_count()
    if batch % rows:
        raise UserError(f"plan.batch: {batch} patches; this paradigm needs a multiple of {rows}")
    least = space * count
    if space < 1 or least > available:
        raise UserError(
            f"train.space: {space} devices for a patch, {count} processes, {available} devices; give 1 up to "
            f"{available // count}"
        )
    if devices > available:
        raise UserError(
            f"train.devices: {devices} of {available}; give at most those, or 0 for all"
        )
    chosen = devices or available // least * least
    if chosen % least:
        raise UserError(
            f"train.devices: {devices} for {count} processes and {space} a patch; give a multiple of "
            f"{least}, or 0 for all"
        )
    if not devices and jax.default_backend() == "cpu":
        fits = [n for n in range(least, chosen + 1, least) if batch % (n // space * rows) == 0]
        chosen = max(fits, default=chosen)
    replicas = chosen // space
    if batch % (replicas * rows):
        raise UserError(
            f"plan.batch: {batch} patches on {replicas} devices; give a multiple of {replicas * rows}, "
            "or set train.devices"
        )
    return data_mesh(chosen, space)
