"""The installed distribution: its name on the package index, versions, extras, a clash of names."""

import importlib.metadata
from collections.abc import Iterable

# The index's `pgjax` is another project; the import name stays `pgjax`.
NAME = "pgjax-rl"
# The packages that a result depends on.
_PACKAGES = ("pgjax", "jax", "jaxlib", "flax", "optax", "gymnax", "orbax-checkpoint")


class MissingExtra(ImportError):
    """An optional project that is not installed; the message has the command that installs it."""


def version(package: str) -> str:
    """The installed version of a package, or "not installed".

    >>> version("no-such-package")
    'not installed'
    """
    try:
        return importlib.metadata.version(NAME if package == "pgjax" else package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def versions(packages: Iterable[str] = _PACKAGES) -> dict[str, str]:
    """The installed versions of packages; by default, of those that a result depends on."""
    return {package: version(package) for package in packages}


def missing(feature: str, extra: str, error: ImportError) -> str:
    """The message for a feature, in the plural, whose extra is not installed.

    >>> missing("Events", "tensorboard", ImportError("No module named 'tensorboardX'"))
    "Events need the extra: pip install 'pgjax-rl[tensorboard]' (No module named 'tensorboardX')"
    """
    return f"{feature} need the extra: {install(extra)} ({error})"


def install(extra: str) -> str:
    """The command that installs an extra.

    >>> install("brax")
    "pip install 'pgjax-rl[brax]'"
    """
    return f"pip install '{NAME}[{extra}]'"


def conflict() -> str | None:
    """The message if a distribution named `pgjax` is installed beside this one; else None.

    It is another project or a former name of this one; both write to the folder `pgjax`.
    """
    try:
        installed = importlib.metadata.version("pgjax")
    except importlib.metadata.PackageNotFoundError:
        return None
    return (
        f"the distribution 'pgjax' {installed} is installed, which is another project or a former "
        f"name of this one, and writes to the same folder: pip uninstall pgjax {NAME}, "
        f"then install {NAME} again"
    )
