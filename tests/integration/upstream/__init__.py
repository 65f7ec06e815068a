"""An Internet for the tests: real servers with names, certificates and a name server, in a network of their own.

    with upstream_world(folder) as upstream:
        account.run(["curl", "-k", "https://files.upstream.test/bytes/a/10"], cwd=folder, enter=upstream.enter)
        upstream.requests()         # ["GET https://files.upstream.test:443/bytes/a/10"]

It holds a server for every habit of HTTP (`answers`), a signed Debian archive, a package index, an npm registry and a
git host. `clients` makes a base image with the programs that talk to them, `projects` locks images there and replays
them where no network is.
"""

from __future__ import annotations

from tests.integration.upstream.clients import clients_layout
from tests.integration.upstream.names import ADDRESS, ZONE
from tests.integration.upstream.projects import Case, Laboratory, Project, Step
from tests.integration.upstream.world import World, upstream_world

__all__ = [
    "ADDRESS",
    "ZONE",
    "Case",
    "Laboratory",
    "Project",
    "Step",
    "World",
    "clients_layout",
    "upstream_world",
]
