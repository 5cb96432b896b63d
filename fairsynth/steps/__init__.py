"""The pipeline's steps: each finds its inputs, runs a stage on the engine and finishes an artifact."""
