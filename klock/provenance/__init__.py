"""Provenance: what an image is made of and where it came from, for tools and people that do not know lockfiles.

TargetLock --ingredients--> Ingredients --cyclonedx, spdx--> a bill of materials
                                        --statement--> an in-toto Statement with SLSA provenance --sign--> DSSE

All of it follows from the lockfile: equal lockfiles give equal documents.
"""

from __future__ import annotations
