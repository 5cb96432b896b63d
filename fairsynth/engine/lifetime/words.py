"""What Ray's own errors mean, in plain words."""

from __future__ import annotations

# By the names of Ray's exceptions, which may have been raised in another process.
_MEANING = {
    "OutOfMemoryError": "a machine's memory ran out, and Ray ended a worker there; have fewer side by side with "
    "--resources.workers, or use a machine with more memory",
    "ActorDiedError": "a worker's process ended",
    "RayActorError": "a worker's process ended",
    "WorkerCrashedError": "a worker's process ended",
    "ActorUnavailableError": "a worker does not answer",
    "ActorUnschedulableError": "no machine of the cluster can hold a worker of this size",
    "TaskUnschedulableError": "no machine of the cluster can hold a worker of this size",
    "NodeDiedError": "a machine of the cluster was lost",
    "LocalRayletDiedError": "Ray's process on this machine (raylet) has ended",
    "OwnerDiedError": "the process that asked for the work has ended",
    "ObjectLostError": "a result was lost with the machine that held it",
    "ObjectStoreFullError": "Ray's shared memory is full",
    "OutOfDiskError": "the disk that Ray's temporary folder is on is full; free some space, or set RAY_TMPDIR",
    "GetTimeoutError": "Ray gave no answer in time",
    "RaySystemError": "Ray itself failed",
    "RpcError": "Ray's head did not answer",
    "RuntimeEnvSetupError": "the environment of the workers could not be set up",
    "AuthenticationError": "the cluster refused the token",
}
_TRACE = "most recent call last"
_MOST = 400


def in_plain_words(error_type: str, message: str) -> str:
    """What an error of a worker or of Ray means, and what it said itself: its last line, where that is a trace."""
    if _TRACE in message:
        lines = [line.strip() for line in message.splitlines() if line.strip(" ^~")]
        message = lines[-1] if lines else message
        error_type = error_type if error_type in _MEANING else ""
    text = " ".join(message.split())[-_MOST:]
    meaning = _MEANING.get(error_type)
    if meaning:
        return f"{meaning} ({error_type}: {text})"
    return f"{error_type}: {text}" if error_type else text


def is_rays(error: BaseException) -> bool:
    """Whether an error is Ray's own: none of a library's or of ours."""
    return type(error).__module__.split(".")[0] == "ray"
