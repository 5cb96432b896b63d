"""Models from elsewhere: what is refused of a folder, and which commit a hub id stands for."""
