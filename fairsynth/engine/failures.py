"""How a failure inside a worker reaches the caller with its meaning kept.

Ray Data wraps what a worker raises and loses the original on the way, and it prints the workers'
traces over the one line that people need. So work that fails *returns* its failure, as text.
"""

from __future__ import annotations

import json
import traceback

from fairsynth import errors
from fairsynth.engine.lifetime.words import in_plain_words
from fairsynth.errors import FairsynthError, InfrastructureError
from fairsynth.watching import log


def packed(error: Exception, unit: str = "") -> str:
    """A failure, of a unit for one, as text that passes between processes."""
    trace = "".join(traceback.format_exception(error))
    return json.dumps({"type": type(error).__name__, "message": str(error), "trace": trace, "unit": unit})


def unpacked(stage: str, failure: str) -> FairsynthError:
    """The error to raise for a packed failure: the one that the work raised on purpose, else infrastructure.

    The run's log gets it, with its trace.
    """
    content = json.loads(failure)
    log.failed(stage, content["unit"], f"{content['type']}: {content['message']}", content["trace"])
    known = getattr(errors, content["type"], None)
    if isinstance(known, type) and issubclass(known, FairsynthError):
        return known(content["message"])
    error = _infrastructure(stage, content["type"], content["message"])
    error.__cause__ = RuntimeError(content["trace"])
    return error


def translated(stage: str, error: Exception) -> FairsynthError:
    """What a Ray error (a worker or a node that died) means to the caller. The run's log gets it, with its trace."""
    log.failed(stage, "", str(root_cause(error)) or str(error), "".join(traceback.format_exception(error)))
    cause = root_cause(error)
    if isinstance(cause, FairsynthError):
        return cause
    return _infrastructure(stage, type(cause).__name__, str(cause) or str(error))


def _infrastructure(stage: str, error_type: str, message: str) -> InfrastructureError:
    return InfrastructureError(
        f"stage {stage} failed: {in_plain_words(error_type, message)}; "
        "finished units are kept, the same command goes on; 'fairsynth doctor' with the same options checks the machine"
    )


def root_cause(error: BaseException) -> BaseException:
    """The innermost error of a chain of Ray's wrappers; of several workers' errors, one that was raised on purpose."""
    for one in getattr(error, "worker_failures", {}).values():
        if isinstance(cause := root_cause(one), FairsynthError):
            return cause
    inner = getattr(error, "cause", None) or getattr(error, "_base_exc", None) or error.__cause__
    return root_cause(inner) if isinstance(inner, BaseException) and inner is not error else error
