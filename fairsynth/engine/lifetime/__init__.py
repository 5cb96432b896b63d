"""How Ray starts, is watched and ends."""
