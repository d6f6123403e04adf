"""Change the core in every small way, one at a time, and see whether a test notices.

Exits with 0 when each mutant is killed or excused in `exceptions.toml`, and each excuse there is needed; else with 1.
All modules together take hours on two cores, one takes minutes. mutmut is in the extra `mutation`.
"""

from __future__ import annotations

import argparse
import os
import sys
import time

from tests.mutation.excused import Judged, judge, load
from tests.mutation.run import modules, mutate, workshop


def main() -> int:
    """Run mutmut on the modules that were asked for, and hold what survives beside the exceptions."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument("modules", nargs="*", metavar="MODULE", help="as in resilience.core.MODULE (default: all)")
    parser.add_argument("--children", type=int, default=os.cpu_count() or 1, help="at once (default: one per core)")
    options = parser.parse_args()
    known = modules()
    for name in options.modules:
        if name not in known:
            parser.error(f"no module {name!r}; there are: {', '.join(known)}")
    chosen = options.modules or known
    began = time.monotonic()

    def tell(line: str) -> None:
        sys.stderr.write(f"  {time.monotonic() - began:6.0f} s  {line}\n")
        sys.stderr.flush()

    try:
        with workshop() as copy:
            judged = judge(mutate(copy, chosen, options.children, tell), load(), chosen)
    except RuntimeError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(as_text(judged))
    return 0 if judged.clean else 1


def as_text(judged: Judged) -> str:
    """The table, what is left, and what is excused in vain."""
    sums = [sum(column) for column in zip(*judged.table.values(), strict=True)]
    rows = [("module", "mutants", "killed", "excused", "left"), *((name, *row) for name, row in judged.table.items())]
    rows.append(("together", *sums))
    lines = [f"{name:12}" + "".join(f"{number:>9}" for number in numbers) for name, *numbers in rows]
    for mutant in judged.left:
        lines += [
            "",
            f"survives (exit code {mutant.code}): {mutant.function}",
            f"  - {mutant.was}",
            f"  + {mutant.becomes}",
        ]
    for excuse, why in judged.stale:
        lines += ["", f"excused, but {why}: {excuse.function}", f"  - {excuse.was}", f"  + {excuse.becomes}"]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    raise SystemExit(main())
