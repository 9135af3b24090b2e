"""Environments of other projects, by ids `suite/name`: one file a suite, one line in `table`."""
