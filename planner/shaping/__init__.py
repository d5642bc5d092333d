"""Make another trace of a trace: cut it, change its pace or rate, repeat, merge or synthesise it.

Every function is pure, takes its seed, and notes itself in the header's transforms.
"""
