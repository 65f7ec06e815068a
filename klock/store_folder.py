"""Where the store is. Imported in every start of klock, so it imports nothing else."""

import os

__all__ = ["store_folder"]


def store_folder() -> str:
    """The absolute path of the store: `$KLOCK_CACHE_DIR`, or `klock` in the XDG cache folder."""
    configured = os.environ.get("KLOCK_CACHE_DIR")
    if configured:
        return os.path.join(os.getcwd(), configured)
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return os.path.join(os.getcwd(), cache, "klock")
