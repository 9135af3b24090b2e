"""Commands in, exit codes out."""

from pgjax.core.moved import former_module

__getattr__ = former_module("pgjax.cli", "pgjax.cli.main")
