"""The stages, a package each: a step that runs it, what it leaves, and its science as plain callables without Ray."""
