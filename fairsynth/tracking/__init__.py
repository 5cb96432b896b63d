"""Losses and trials for TensorBoard, MLflow and Weights & Biases, from what is committed. No run reads any of it."""
