"""What a run would do and cost, from config and metadata alone."""
