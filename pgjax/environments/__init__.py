"""One interface over gymnax, other projects' environments and one's own."""

from pgjax.core.moved import former_module

__getattr__ = former_module("pgjax.environments", "pgjax.environments.interface")
