"""What a run printed, and what failed."""
