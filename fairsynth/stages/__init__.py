"""The science of each stage: plain callables on arrays and tables, without Ray."""
