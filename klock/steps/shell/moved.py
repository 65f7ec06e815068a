"""Which answers of a shell step its servers no longer give."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from klock.findings import Code, Finding
from klock.lockfile.model import LockedRequest, ShellLock
from klock.recorder.permanent_urls import is_permanent
from klock.steps.at import StepAt
from klock.steps.shell.answers import can_be_asked_again
from klock.steps.still_given import Given, Other, others_now

if TYPE_CHECKING:
    from klock.asking import Asker
    from klock.steps.context import Context

__all__ = ["moved_answers"]


def moved_answers(at: StepAt[ShellLock], context: Context, asker: Asker) -> Iterator[Finding]:
    """A finding for each answer that should have stayed, and one for all that tell of a moment, such as indexes."""
    requests = {given: request for request in at.step.requests if (given := _given(request)) is not None}
    passing: list[Other] = []
    for other in others_now(list(requests), asker, named=context.named_servers(at.lock)):
        if not isinstance(other, Other):
            asker.note(f"{at.name}: {other.message}")
        elif is_permanent(requests[other.given]) or other.is_gone:
            yield Finding(
                code=Code.GONE if other.is_gone else Code.MOVED_ANSWER,
                message=f"{other.given.url} {other.words}",
                expected=other.given.sha256,
            )
        else:
            passing.append(other)
    if passing:
        more = f" (and {len(passing) - 1} more)" if len(passing) > 1 else ""
        yield Finding(
            code=Code.MOVED_ANSWER,
            message=f"{passing[0].given.url} {passing[0].words}{more}",
            expected=passing[0].given.sha256,
        )


def _given(request: LockedRequest) -> Given | None:
    """What can be asked without a credential and without a body; of an encoded body only status and length."""
    plain = request.method in ("GET", "HEAD") and request.turn is None and request.git_protocol is None
    if not plain or not can_be_asked_again(request):
        return None
    is_encoded = any(header.lower().startswith("content-encoding:") for header in request.headers)
    return Given(
        url=request.url,
        status=request.status,
        size=request.size,
        sha256=None if is_encoded else request.sha256,
        accept=request.accept,
    )
