"""Pure decisions: what each policy decides, without a clock, a lock, a thread or a random number of its own.

Time comes in as `now` (seconds, monotonic) and chance as `u` (in [0, 1)). So the same code runs under a lock in a
service, inside a simulator at a million virtual calls a second, and beside its twin in a store's own language in a
parity test.
"""
