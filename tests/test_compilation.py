"""Compiled programs are kept in a folder and read again."""

import os
import tempfile

import jax
import jax.numpy as jnp
import pytest
from jax.experimental.compilation_cache import compilation_cache

import pgjax
from pgjax.core import compilation

# What is read from the folder, and what is not there. The oldest JAX cannot forget a listener.
READS = {"cache_hits": 0, "cache_misses": 0}


def count(event, **_):
    name = event.rpartition("/")[2]
    if name in READS:
        READS[name] += 1


jax.monitoring.register_event_listener(count)


@pytest.fixture
def reads():
    """Counts from the test's beginning."""
    READS.update(dict.fromkeys(READS, 0))
    yield READS
    compilation_cache.reset_cache()
    jax.config.update("jax_compilation_cache_dir", None)


def compute(x):
    jax.clear_caches()
    return float(jax.jit(lambda x: jnp.tanh(3 * x) + 1)(x))


def test_a_program_is_written_once_and_read_again_though_others_were_compiled_before(
    tmp_path, reads
):
    expected = compute(0.5)
    folder = tmp_path / "new" / "folder"
    assert pgjax.cache_compilation(folder) == folder
    assert compute(0.5) == expected
    assert reads == {"cache_hits": 0, "cache_misses": 1}
    assert compute(0.5) == expected
    assert compute(0.25) != expected  # another number, the same program
    assert reads == {"cache_hits": 2, "cache_misses": 1}
    # Called again it goes on with the folder that JAX has.
    assert pgjax.cache_compilation() == folder


@pytest.mark.parametrize("content", [b"", b"not a program"], ids=["empty", "damaged"])
def test_a_damaged_program_is_compiled_anew(tmp_path, reads, content):
    pgjax.cache_compilation(tmp_path)
    expected = compute(0.5)
    (entry,) = tmp_path.glob("*-cache")
    entry.write_bytes(content)
    with pytest.warns(UserWarning, match="persistent compilation cache"):
        assert compute(0.5) == expected
    assert reads["cache_hits"] == 0


def test_other_numbers_of_a_config_are_no_other_program(tmp_path, reads):
    pgjax.cache_compilation(tmp_path)
    config = pgjax.Config("Catch-bsuite", network=pgjax.MLP(()), sampler=pgjax.Episodes(2))
    state = pgjax.init(jax.random.key(0), config)
    before = reads["cache_misses"]
    jax.clear_caches()
    other = config.replace(**{"optimizer.learning_rate": 0.5, "num_updates": 7})
    pgjax.init(jax.random.key(1), other)
    assert reads["cache_misses"] == before
    assert state.params


def test_a_folder_that_cannot_be_written_is_refused(tmp_path, monkeypatch):
    file = tmp_path / "file"
    file.write_text("")
    for folder in (file, "/proc/nothing"):
        with pytest.raises(ValueError, match=r"cannot be kept in /.*: not a folder of this user"):
            pgjax.cache_compilation(folder)
    monkeypatch.setattr(compilation, "cache_folder", lambda: None)
    with pytest.raises(ValueError, match=r"no folder for compiled programs .*; give one"):
        pgjax.cache_compilation()
    assert jax.config.jax_compilation_cache_dir is None


def test_a_cache_folder_that_others_could_have_written_is_not_used(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/nothing")
    folder = compilation.cache_folder()
    assert folder == tmp_path / f"pgjax-{os.getuid()}"
    folder.chmod(0o777)
    assert compilation.cache_folder() is None
    folder.rmdir()
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    folder.symlink_to(tmp_path / "elsewhere")
    assert compilation.cache_folder() is None
