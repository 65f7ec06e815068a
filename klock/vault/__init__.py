"""The vault: every byte a lockfile names, in a folder, a registry or an object store, for when upstream has moved on.

Lockfile --inputs_of--> Inputs   what replay takes from outside of the project: digest, size, name
         --push-->      Vault    what the store has of them, fetched first where it can be
         <--pull--      Vault    what the store lacks, verified

A vault holds blobs by their SHA-256 and nothing else, so any number of projects and machines may share one.
"""

from __future__ import annotations

from klock.vault.folder import VaultFolder
from klock.vault.inputs import Input, inputs_of, inputs_of_all
from klock.vault.opening import open_vault
from klock.vault.protocol import Vault
from klock.vault.transfer import Transferred, find_faults, pull, push

__all__ = [
    "Input",
    "Transferred",
    "Vault",
    "VaultFolder",
    "find_faults",
    "inputs_of",
    "inputs_of_all",
    "open_vault",
    "pull",
    "push",
]
