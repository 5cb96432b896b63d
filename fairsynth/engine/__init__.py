"""The only place that imports ray: it runs the stages' callables on a cluster."""
