"""`jit` for tests that run for longer than they compile.

conftest.py turns XLA's optimizations off, since most programs here run for milliseconds. So, two
hundred updates of Catch for ten seeds take 100 s; at level 1 they take 24, compiling included.
"""

import functools

import jax

jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 1})
