"""Flask behind limits: one for every address, one for a dear view, and none for a health check."""

from __future__ import annotations

from flask import Flask

from resilience import Priority, Throttle
from resilience.integrations.flask import Resilience

app = Flask(__name__)
limits = Resilience(app, throttle=Throttle("100/s burst 1000", name="example.flask"))


@app.get("/report")
@limits.limit("5/minute")
@limits.priority(Priority.SHEDDABLE)
def report() -> str:
    """A page that costs us something."""
    return "a report"


@app.get("/healthz")
@limits.exempt
def healthz() -> str:
    """Whether we are alive, as often as anybody likes."""
    return "alive"


def main() -> None:
    """Ask seven times and say what came."""
    client = app.test_client()
    for _ in range(7):
        answer = client.get("/report")
        print(answer.status_code, answer.headers["RateLimit"], answer.headers.get("Retry-After", ""))


if __name__ == "__main__":
    main()
