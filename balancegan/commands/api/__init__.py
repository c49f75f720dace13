"""The Python functions: one per command, with its options as keyword arguments.

Paths may be `str` or `Path`. Nothing is printed to stdout; progress goes to stderr, unless `progress=False`. Mistakes
and failures raise `BalanceGANError` or one of its sub-classes. `BALANCEGAN_<OPTION>` environment variables, which set
commands' options, are ignored here.
"""
