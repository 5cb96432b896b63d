"""What no record of an output folder needs, shown and removed."""
