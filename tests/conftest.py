"""What holds for every test: no silent broadcasting between ranks, and no window for pictures."""

import os
import tempfile
from importlib.metadata import version

os.environ.setdefault("MPLBACKEND", "Agg")
# Programs run for milliseconds here and are compiled for seconds: with these, a third as long.
# jaxlib 0.11 no longer knows the second, and ends a process that gives it.
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_backend_optimization_level=0"
    + " --xla_cpu_use_fusion_emitters=false"
    * version("jaxlib").startswith(("0.7.", "0.8.", "0.9.", "0.10.")),
)
# Programs that commands compile are not kept where the user's are.
os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="pgjax-tests-")

import jax
import pytest
import shape_checks
from jax.experimental.compilation_cache import compilation_cache

shape_checks.install()

# For the tests of several devices, virtual where the machine has fewer cores; all others use one.
jax.config.update("jax_num_cpu_devices", 8)
jax.devices()  # before a command that a test runs says how many
# Reference values are float32's: an accelerator multiplies matrices in fewer bits unless told.
if jax.default_backend() != "cpu":
    jax.config.update("jax_default_matmul_precision", "highest")

jax.config.update("jax_numpy_rank_promotion", "raise")

# Whole runs, processes of their own, several devices, and doctests of the files of these names:
# `-m "not slow"` leaves them out.
_SLOW = """
    all_environments benchmarks checking cli contributing crashes curves distributed
    docs_code evaluation folders fuzz gymnasium host learning monte_carlo nan notebooks observations
    package parallel presets readme recurrent rendering resume runs suites suites_cli sweeps
    training typed_keys
"""


def pytest_collection_modifyitems(items):
    slow = [item for item in items if item.path.stem.removeprefix("test_") in _SLOW.split()]
    for item in slow:
        item.add_marker("slow")
    # They go first, so that neither process is left alone with one of them at the end.
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
    # gymnax's Swimmer subtracts a matrix from a vector; every other environment is strict itself.
    allowed = "Swimmer" in request.node.name
    with jax.numpy_rank_promotion("allow" if allowed else "raise"):
        yield


@pytest.fixture(autouse=True)
def _no_compilation_cache_left_on():
    # A command turns it on for its process; here that would be for all tests that follow.
    yield
    if jax.config.jax_compilation_cache_dir is not None:
        jax.config.update("jax_compilation_cache_dir", None)
        compilation_cache.reset_cache()


@pytest.fixture(autouse=True, scope="module")
def _programs_are_forgotten():
    # Hundreds of compiled programs in one process come near Linux's limit of memory mappings.
    yield
    jax.clear_caches()
