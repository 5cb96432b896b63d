"""Chaos: whole runs under strikes and crash points, compared with undisturbed ones. docs/never-loses-work.md tells how."""
