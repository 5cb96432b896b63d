"""What starting a local Ray, its workers and its jobs takes."""
