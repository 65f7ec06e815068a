"""GPUs and other devices of the machine: which there are, what a lockfile needs of them, and how commands see them.

They are facts of a machine and never of an environment: no layer, no fingerprint and no lockfile holds any of it.
"""
