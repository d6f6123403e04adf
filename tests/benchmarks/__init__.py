"""Speed, memory and scaling, as ratios within one run, so that the figures hold on any machine.

One command prints the table: `python -m tests.benchmarks`. See `docs/performance.md` for how to read it.
"""
