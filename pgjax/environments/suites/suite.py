"""What a suite must offer: names, and a function that makes an environment of a name."""

import abc
import contextlib
import functools
import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from types import ModuleType
from typing import Any, ClassVar

import jax

from pgjax.core import distribution
from pgjax.core.names import told, unknown
from pgjax.environments.suites import options as suite_options
from pgjax.environments.suites.options import Option


class Suite(abc.ABC):
    """The environments of another project, by the ids `suite/name`; has no state.

    What `make` returns has gymnax's interface (`Adapted` gives it that) or is a
    `pgjax.Environment`, and must get right:

    - `terminated` is what ends an episode for good, a time limit only `truncated`: an estimator
      ends a value at the one, and bootstraps it at the other.
    - The observation of an episode's last step is the one that the action led to, not the first
      one of the next episode.
    - The project's automatic reset is off, or not seen: pgjax resets.
    - Every reset draws a new start from its key, where the project does.
    - The observation's dtype is the project's, its space holds every observation, and an action
      that is legal in the space is legal in the project.

    `pgjax.check_environment` tests these. The project is imported when `names` or `make` is called,
    by `imported`. Neither a name nor an option may say what code to import: ids stand in files that
    come from other people.

    Attributes:
      name: what stands before the slash.
      extra: the extra that installs the project, `brax` of pgjax-rl[brax]; "" of a suite that is
        none of pgjax's own.
      module: what is imported of it, where that is not `name`.
    """

    name: ClassVar[str]
    extra: ClassVar[str] = ""
    module: ClassVar[str] = ""

    @abc.abstractmethod
    def names(self) -> Sequence[str]:
        """Every name that `make` knows; imports the project."""

    @abc.abstractmethod
    def make(self, name: str, *args: Any, **options: Any) -> Any:
        """The environment of a name that is in `names()`.

        A suite's own `make` writes its options out, each with an annotation (int, float, bool, str,
        a Literal of strings, or one of these | None) and a default. They are checked before it is
        called; `limit`, the time limit in steps, is at least 1. Whatever is raised inside of it
        becomes a ValueError of one line.
        """

    def installed(self) -> bool:
        """Whether the project is there; imports nothing."""
        return importlib.util.find_spec(self.module or self.name) is not None

    def options(self) -> dict[str, Option]:
        """The options of `make`, with annotations and defaults."""
        return suite_options.options_of(self.make)

    def unknown(self, name: str) -> str:
        """The message for a name that is not in `names()`; it has the nearest that is."""
        lister = f"`pgjax envs {self.name}`"
        return unknown(f"{self.name} environment {name!r}", name, self.names(), lister)

    def environment(self, name: str, **options: Any) -> Any:
        """`make`, with name and options checked; one object for equal names and options.

        Raises:
          ValueError: an unknown name, option or word (the message names the nearest), a limit below
            1, an environment that cannot be made here.
          TypeError: an option of another type.
          ImportError: the project is not installed; the message has the command that installs it.
        """
        return self._environment(name, options, as_text=False)

    def environment_of_texts(self, name: str, texts: Mapping[str, str]) -> Any:
        """`environment`, with the options as an id has them."""
        return self._environment(name, texts, as_text=True)

    def _environment(self, name: str, options: Mapping[str, Any], as_text: bool) -> Any:
        known = self.names()
        if name not in known:
            raise ValueError(self.unknown(name))
        label = f"{self.name}/{name}"
        values = suite_options.complete(label, options, self.options(), as_text)
        return _made(type(self), name, **values)


@functools.cache
def _made(suite: type[Suite], name: str, **options: Any) -> Any:
    try:
        # As numbers, also while something else is traced.
        with jax.ensure_compile_time_eval():
            return suite().make(name, **options)
    except (KeyboardInterrupt, distribution.MissingExtra, ValueError):
        raise
    except OSError as error:
        reason = f"it loads data when it is made ({error})"
        raise ValueError(f"{suite.name}/{name} cannot be made here: {reason}") from error
    except BaseException as error:  # the other project's code may raise any
        raise ValueError(f"{suite.name}/{name} cannot be made here: {told(error)}") from error


@contextlib.contextmanager
def downloading(what: str, source: str, *errors: type[Exception]) -> Iterator[None]:
    """Says in the message of these errors what a project downloads, and from where.

    Raises:
      OSError: one of these errors was raised inside.
    """
    try:
        yield
    except errors as error:
        text = " ".join(str(error).split())
        raise OSError(f"{what}, from {source}: {type(error).__name__}: {text}") from error


def imported(module: str, extra: str) -> ModuleType:
    """A module of an optional project.

    Raises:
      MissingExtra: it cannot be imported; the message has the command that installs it.
    """
    try:
        # A module's own arrays are numbers, also where its first import is inside a `jax.jit`.
        with jax.ensure_compile_time_eval():
            return importlib.import_module(module)
    except ImportError as error:
        message = distribution.missing(f"{extra} environments", extra, error)
        raise distribution.MissingExtra(message) from error
