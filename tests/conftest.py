"""Settings of all tests: no silent broadcasting between ranks, no windows, fast compilation."""

import os
import tempfile
from importlib.metadata import version

os.environ.setdefault("MPLBACKEND", "Agg")
# Programs run for milliseconds here and compile for seconds: these flags save two thirds of that.
# jaxlib 0.11 no longer knows the second flag, and ends a process that has it.
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_backend_optimization_level=0"
    + " --xla_cpu_use_fusion_emitters=false"
    * version("jaxlib").startswith(("0.7.", "0.8.", "0.9.", "0.10.")),
)
# Commands keep compiled programs here, not in the user's cache.
os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="pgjax-tests-")

import jax
import pytest
import shape_checks
from jax.experimental.compilation_cache import compilation_cache

shape_checks.install()

# For tests of several devices, which are virtual where the machine has fewer cores.
jax.config.update("jax_num_cpu_devices", 8)
jax.devices()  # before a command in a test sets another number
# Reference values are float32's: by default an accelerator multiplies matrices in fewer bits.
if jax.default_backend() != "cpu":
    jax.config.update("jax_default_matmul_precision", "highest")

jax.config.update("jax_numpy_rank_promotion", "raise")

# Files with entire runs, processes of their own or several devices, and doctests of modules with
# these names: `-m "not slow"` leaves them out.
_SLOW = """
    all_environments benchmarks checking cli contributing crashes curves distributed
    docs_code evaluation folders fuzz gymnasium host learning monte_carlo nan notebooks observations
    package parallel presets readme recurrent rendering resume runs suites suites_cli sweeps
    training typed_keys
"""


def _is_slow(stem):
    return stem in _SLOW.split() or stem.startswith("suite_")


def pytest_collection_modifyitems(items):
    stems = [item.path.stem.removeprefix("test_") for item in items]
    slow = [item for item, stem in zip(items, stems, strict=True) if _is_slow(stem)]
    for item in slow:
        item.add_marker("slow")
    # Slow tests first: else one of the two processes would wait for the other at the end.
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)
    for item in items:
        for marker in item.iter_markers("devices"):
            number, reason = (
                marker.args[0],
                f"{jax.device_count()} of {marker.args[0]} devices here",
            )
            item.add_marker(pytest.mark.skipif(jax.device_count() < number, reason=reason))


@pytest.fixture
def float64():
    """Double precision; a function, since `jax.enable_x64` came after the oldest JAX."""
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", False)


@pytest.fixture(autouse=True)
def _rank_promotion_inside_gymnax(request):
    # gymnax's Swimmer subtracts a matrix from a vector; all other environments keep to the rule.
    allowed = "Swimmer" in request.node.name
    with jax.numpy_rank_promotion("allow" if allowed else "raise"):
        yield


@pytest.fixture(autouse=True)
def _no_compilation_cache_left_on():
    # A command turns the cache on for its process, which here has all the tests that follow.
    yield
    if jax.config.jax_compilation_cache_dir is not None:
        jax.config.update("jax_compilation_cache_dir", None)
        compilation_cache.reset_cache()


@pytest.fixture(autouse=True, scope="module")
def _programs_are_forgotten():
    # Hundreds of compiled programs in one process come near Linux's limit of memory mappings.
    yield
    jax.clear_caches()
