"""What an answer of AWS means, and one operation under a policy.

The method of HTTP says little here: where a service speaks JSON or the query protocol, reading is a POST as well. What
a service knows of its own operations is in its model, and in the code of an error.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from urllib.parse import urlsplit

from resilience._notes import leave_note
from resilience.errors import Rejected
from resilience.http import is_idempotent, not_sent, transient, transient_response
from resilience.integrations._exchange import Exchange, Refused, position, replayable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection
    from typing import Any

__all__ = ["Answer", "OperationExchange"]

# What AWS says to a request that it has not begun to carry out, whatever the status. LimitExceededException is none of
# them: it is said of quotas as often as of rates, and a quota does not grow by waiting.
_THROTTLED = frozenset(
    {
        "BandwidthLimitExceeded",
        "EC2ThrottledException",
        "PriorRequestNotComplete",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "RequestThrottled",
        "RequestThrottledException",
        "SlowDown",
        "ThrottledException",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
        "TransactionInProgressException",
    }
)
_PASSING = frozenset(
    {"InternalError", "InternalFailure", "InternalServerError", "RequestTimeout", "ServiceUnavailable"}
)
_FAILED = 300


class Answer:
    """An answer as policies see it: throttling is a 429 and an inner error a 503, whatever the service's own status.

    Attributes:
        status_code: the status as said above.
        headers: those of the answer.
        http: botocore's own response.
        parsed: what botocore read in it.
        code: the service's error code, "" where there is none.
    """

    __slots__ = ("code", "headers", "http", "parsed", "status_code")

    def __init__(self, http: Any, parsed: Any) -> None:
        self.http = http
        self.parsed = parsed
        self.headers = http.headers
        self.status_code: int = http.status_code
        error = _dict(_dict(parsed).get("Error")) if self.status_code >= _FAILED else {}
        self.code = str(error.get("Code", ""))

    def __repr__(self) -> str:
        return f"{self.http.status_code} {self.code}".rstrip()


class OperationExchange(Exchange):
    """One operation and the attempts at it. Used by one thread.

    Args:
        model: botocore's model of the operation.
        request: the request as botocore wrote it, unsigned.
        names: patterns of the operations that may be repeated.
    """

    __slots__ = ("_names", "_start", "left", "model", "request", "throttled")

    def __init__(self, model: Any, request: dict[str, Any], names: Collection[str]) -> None:
        super().__init__(model.http.get("method", "POST"), {})
        self.model = model
        self.request = request
        self.left: float | None = None
        self.throttled = False
        self._names = names
        body = request.get("body")
        self._start = position(getattr(body, "_raw", body))

    def origin(self) -> str:
        """Scheme, host and port of where it goes."""
        url = urlsplit(str(self.request["url"]))
        return f"{url.scheme}://{url.netloc.rpartition('@')[2]}"

    def bound(self, left: float) -> None:
        """Let no wait of the next attempt last longer than `left` seconds."""
        self.left = left

    def rewind(self) -> bool:
        """Make the body ready to be sent again; False where it is spent for good."""
        body: Any = self.request.get("body")
        raw: Any = getattr(body, "_raw", None)
        if raw is None:
            return isinstance(body, dict) or replayable(body, self._start)
        # botocore's own way of sending a checksum behind a stream; it knows only the way back to the start of it.
        return self._start == 0 and replayable(raw, 0) and _restart(body)

    def judge(self, response: Any) -> Any:
        """After an attempt: the answer, unless it says "not now".

        Raises:
            Refused: it does.
        """
        answer: Answer = response
        status = answer.status_code
        if status < _FAILED:
            return answer
        told = self._modelled(answer.code)
        self.throttled = answer.code in _THROTTLED or status == 429 or told == "throttling"
        if self.throttled:
            answer.status_code = 429
        elif status >= 500 or told or answer.code in _PASSING:
            answer.status_code = 503
        asked = transient_response(answer)
        if asked is False:
            return answer
        self.open = answer
        raise Refused(answer, 0.0 if asked is True else asked)

    def _modelled(self, code: str) -> str:
        """Whether the service's model calls an error one that may be retried: "throttling", "yes" or ""."""
        for shape in self.model.error_shapes if code else ():
            retryable = getattr(shape, "metadata", {}).get("retryable")
            if retryable is not None and code in (shape.name, getattr(shape, "error_code", None)):
                return "throttling" if _dict(retryable).get("throttling") else "yes"
        return ""

    def repeatable(self) -> bool:
        """Whether carrying the operation out twice does what carrying it out once does."""
        model = self.model
        described: Any = getattr(model, "_operation_model", {})
        return (
            is_idempotent(self.method)
            or bool(model.idempotent_members)  # botocore fills the token in, and the request keeps it
            or bool(described.get("idempotent") or described.get("readonly"))
            or any(fnmatchcase(model.name, name) for name in self._names)
        )

    def may_repeat(self, error: Exception) -> bool:
        """Whether the request may be sent again after this error. Where that is a pity, a note on it says why not."""
        if isinstance(error, Rejected):
            return True
        refused = isinstance(error, Refused)
        if not ((refused and self.throttled) or not_sent(error) or self.repeatable()):
            reason = f"{self.model.name} may have been carried out; it has no token, and repeat= does not name it"
        elif not self.rewind():
            reason = "its body is spent and cannot be rewound"
        else:
            return True
        if not refused and transient(error):
            leave_note(error, "resilience: not sent again: ", reason)
        return False


def _dict(value: Any) -> dict[str, Any]:
    found: Any = value
    return found if isinstance(value, dict) else {}


def _restart(body: Any) -> bool:
    try:
        body.seek(0)
    except Exception:  # of botocore's own, and of whatever file is inside
        return False
    return True
