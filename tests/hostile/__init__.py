"""Hostile inputs: each is given to the real command, which must refuse or pass it within bounds and touch nothing else."""
