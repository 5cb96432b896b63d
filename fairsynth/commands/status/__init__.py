"""How far a run is, or how it ended; nothing is disturbed."""
