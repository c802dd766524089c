"""Where things are kept that outlive a run."""

import os
from pathlib import Path

from medjax.modes.defaults import Config


def user_cache(*parts: str) -> Path:
    """A folder of this user's cache (XDG_CACHE_HOME, else ~/.cache)."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root, "medjax", *parts)


def case_cache(config: Config) -> Path:
    """Where prepared cases are kept."""
    return Path(config.data.cache) if config.data.cache else user_cache("cases")
