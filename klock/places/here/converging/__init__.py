"""Converging a running container on its lockfile, step by step, in its own root (`klock.places.here`).

The steps that were done here before and are still the locked ones stay. Those after them are taken back, the last one
first, and the locked ones are done; what each changed must be the locked layer. pip and file steps can be taken back;
what apt and shell commands did cannot be told apart from what it has led to, so where one of them would have to go the
container cannot become the locked one: nothing is changed then, unless that is forced.

klock writes down a step before it touches the root. After a kill the next call finishes that step, or takes it
back, before anything else.
"""

from klock.places.here.converging.converge import converge
from klock.places.here.converging.plan import InPlacePlan, plan_in_place

__all__ = ["InPlacePlan", "converge", "plan_in_place"]
