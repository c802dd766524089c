"""From the section `phantom` of a config to a folder of prostate phantoms."""

import hashlib
import json
from pathlib import Path

from medjax.data.phantom import facts, make_phantoms
from medjax.modes.defaults import Config
from medjax.modes.folders import user_cache
from medjax.progress import counter


def folder(config: Config) -> Path:
    """Where the phantoms of the config are kept for this user."""
    own = config.phantom
    wanted = facts(config.seed, (own.train, own.validation, own.test), own.missing)
    named = hashlib.sha256(json.dumps(wanted, sort_keys=True).encode()).hexdigest()[:16]
    return user_cache("phantoms", named, "prostate")


def make(config: Config) -> Path:
    """Makes the phantoms of the config where they are not yet; the folder."""
    own, root = config.phantom, folder(config)
    with counter("making phantoms") as show:
        return make_phantoms(
            root,
            seed=config.seed,
            cases=(own.train, own.validation, own.test),
            missing=own.missing,
            progress=show,
        )
