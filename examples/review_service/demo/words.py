"""What the figures mean, for somebody who has never heard of a circuit breaker."""

from __future__ import annotations

from examples.review_service.demo.figures import GOOD, Run
from examples.review_service.demo.load import Outcome
from examples.review_service.demo.script import PATIENCE, RATE, Scene, Trouble, scene_of

OPENING = (
    "A service shows reviews. For each page it asks an authentication provider who is reading, and a database for the "
    f"review. Below, {RATE} people a second ask for pages, read lists and write reviews; whoever has no answer after "
    f"{PATIENCE:.0f} second has gone away. First the provider stops answering, then it answers with errors, later "
    "somebody locks the database. It is played twice, with the same code, the same load and the same troubles: without "
    "policies, and with those of policies.py. One mark is one request:"
)


def closing(bare: Run, kept: Run) -> str:
    """What changed, in words."""
    hangs, fails, locked = (scene_of(trouble) for trouble in (Trouble.HANGS, Trouble.FAILS, Trouble.LOCKED))
    asked = [run.calls_during(hangs) + run.calls_during(fails) for run in (bare, kept)]
    paragraphs = [
        "What changed?",
        f"""While the provider hung: without policies, {_good(bare, hangs)}. Each page waited for a call that did not
        end, until every thread of the service was waiting; from then on nobody was served, not even those whose pages
        need no provider. With policies, {_good(kept, hangs)}. A timeout gave each call 0.3 s. After five such calls in
        a row a circuit breaker stopped making them, as a fuse does. A fallback built the page from what our own
        database knows about the reader.""",
        f"""While the provider answered nothing but errors: without policies, {_good(bare, fails)}, and each of the
        others cost the provider a call while it was trying to get up. With policies, {_good(kept, fails)}: the
        breaker was open already, and let one call through every second to see whether the provider was back. Over
        both troubles it was asked {asked[1]} times instead of {asked[0]}.""",
        f"""While the database was locked: nobody could be helped, so the question is what that costs. Without policies
        {_late(bare, locked)} of {len(bare.during(locked))} people waited in vain, and the work for them was done when
        they had gone. With policies it was {_late(kept, locked)}: a short retry, then the breaker said so at once,
        "come back in a second". An honest no keeps the threads free for the moment when the lock is gone.""",
        """Nothing else differs. The policies are one page, examples/review_service/policies.py, and the rest of the
        service does not know whether they are there.""",
    ]
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs) + "\n"


def _good(run: Run, scene: Scene) -> str:
    during = run.during(scene)
    return f"{sum(each.outcome in GOOD for each in during)} of {len(during)} requests were answered in time"


def _late(run: Run, scene: Scene) -> int:
    return sum(each.outcome is Outcome.LATE for each in run.during(scene))
