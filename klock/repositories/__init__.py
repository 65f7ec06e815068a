"""Git repositories that files are taken from: what an address means, which commit it leads to, the files of a commit.

address    the text of a Dockerfile as an address: repository, name, folder
remote     what the server of a repository says and has
checkout   the files of a commit, as `git checkout` lays them out
archive    those files as one archive, the same bytes wherever and whenever it is made

No git runs: no hook, no filter, no configuration and no credential helper of this machine has a part in it.
"""

from __future__ import annotations

from klock.repositories.address import GitAddress, git_address

__all__ = ["GitAddress", "git_address"]
