"""The public schemas that the files of ``deploy/`` are checked against: README.md says where each is from."""
