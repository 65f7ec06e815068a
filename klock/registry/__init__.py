"""The registry: a locked environment as a standard OCI image, and what an OCI registry keeps for a team.

TargetLock --made--> MadeImage (config, manifest, blobs) --push--> a registry
                                                         --layout--> a folder or an archive
           <--pull-- the store: the base's archives, and layers whose digests are the locked ones

Nothing that comes from a registry is trusted: a blob has the digest that it was asked for by, and a layer is taken only
if the files in it are the locked ones.
"""

from __future__ import annotations
