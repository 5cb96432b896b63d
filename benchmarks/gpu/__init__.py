"""Adapters trained at once beside adapters trained alone, on networks in the shapes of base models: what the scripts share."""
