"""Reading the files of ``deploy/``, and trying what they would have a machine do."""
