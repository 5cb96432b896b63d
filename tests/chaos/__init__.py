"""Chaos: whole runs under strikes and crash points, compared with undisturbed ones. docs/architecture.md tells how."""
