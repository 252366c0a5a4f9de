"""How fast the typed functions are, against what else one could have used, on one server in one run.

Not a test: nothing here fails because a machine is slow. `python -m benchmarks --help` says how to run it, and docs/performance.md what
came out.
"""
