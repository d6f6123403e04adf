"""Print the table of speed and memory, beside other libraries."""

from __future__ import annotations

import argparse
import platform
import sys
from pathlib import Path

from tests.benchmarks import calls, footprint, memory, peers, remote
from tests.benchmarks.measure import MAX_SPREAD
from tests.benchmarks.plot import draw
from tests.benchmarks.table import Measured, as_json, as_text, complaints


def main() -> int:
    """Measure the rows that were asked for, one line of progress each on stderr, and print the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--rounds", type=int, default=40, help="samples of each pair (default 40)")
    parser.add_argument("--only", default="", help="only rows whose name contains this text")
    parser.add_argument("--json", type=Path, help="write the figures to this file as well")
    parser.add_argument("--markdown", type=Path, help="write the table to this file as well")
    parser.add_argument("--plot", type=Path, help="draw the ratios to this file; needs matplotlib, the extra 'plot'")
    parser.add_argument("--list", action="store_true", help="print the names of the rows and stop")
    options = parser.parse_args()
    rows = [row for row in [*calls.ROWS, *footprint.ROWS, *memory.ROWS, *remote.ROWS] if options.only in row.what]
    if options.list:
        print("\n".join(row.what for row in rows))
        return 0
    if not rows:
        parser.error(f"no row contains {options.only!r}; --list prints them all")
    measured: list[Measured] = []
    for row in rows:
        print(f"  {row.what} ...", file=sys.stderr, flush=True)
        measured.append(Measured(row, row.measure(options.rounds), row.wrong() if row.wrong else {}))
    table = as_text(measured)
    python = f"{platform.python_implementation()} {platform.python_version()}"
    note = (
        f"{python}, {options.rounds} rounds of each pair. Medians ± half the distance between the quartiles;\n"
        f"what spreads by more than {MAX_SPREAD:.0%} is called noisy and not shown."
    )
    marked = complaints(measured)
    if missing := peers.absent():
        marked.append(f"Not installed, so not measured: {', '.join(missing)}.")
    report = "\n\n".join([table, *marked, note]) + "\n"
    print(report, end="")
    if options.markdown:
        options.markdown.write_text(report)
    if options.json:
        options.json.write_text(as_json(measured))
    if options.plot:
        draw(measured, options.plot)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
