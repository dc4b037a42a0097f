"""What is done on a host beside minding a run: one errand a module, one process each, standard library only.

An errand is started as `python <worker folder> VERB`, speaks frames (`contract.bulk`) over standard input and output,
and ends when its input ends.
"""
