"""The pages in docs/, and docstrings, say what is there: links, names, commands, code, metrics."""

import dataclasses
import inspect
import re
import shlex
from pathlib import Path

import jax
import pytest

import pgjax
from pgjax.cli import flags, parsers
from pgjax.policies import distributions
from pgjax.training import registry
from pgjax.training.config import Config

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs").rglob("*.md"))
TEXTS = {str(page.relative_to(ROOT)): page.read_text() for page in [ROOT / "README.md", *PAGES]}
every_page = pytest.mark.parametrize("page", TEXTS)


def blocks(page, language):
    return re.findall(rf"```{language}\n(.*?)```", TEXTS[page], re.DOTALL)


def links(page):
    """(text, file, anchor) of each relative link outside of code."""
    prose = re.sub(r"```.*?```", "", TEXTS[page], flags=re.DOTALL)
    for text, target in re.findall(r"\[([^\]]*)\]\((?!\w+:)([^)\s]+)\)", prose):
        file, _, anchor = target.partition("#")
        yield text, ((ROOT / page).parent / file if file else ROOT / page), anchor


def anchors(markdown):
    """Of the headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", markdown, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).lower().replace(" ", "-") for heading in headings}


@every_page
def test_relative_links_lead_somewhere(page):
    for text, file, anchor in links(page):
        assert file.exists(), f"[{text}] -> {file}"
        assert not anchor or anchor in anchors(file.read_text()), f"[{text}] -> #{anchor}"


def test_every_public_name_is_in_the_reference_once():
    pages = sorted((ROOT / "docs/reference").glob("*.md"))
    names = [
        name for page in pages for name in re.findall(r"^::: pgjax\.(\w+)$", page.read_text(), re.M)
    ]
    assert sorted(names) == sorted(pgjax.__all__)


SOURCES = {file.stem: file.read_text() for file in sorted((ROOT / "pgjax").rglob("*.py"))}


@every_page
def test_what_a_link_into_the_code_names_is_there(page):
    for text, file, _ in links(page):
        # The reference says where the docstrings are, for who reads it without the site.
        elsewhere = page.startswith("docs/") and not page.startswith("docs/reference/")
        if elsewhere and (ROOT / "pgjax") in file.resolve().parents:
            pytest.fail(f"[{text}] -> {file}: link to the folder pgjax, with a name for its text")
        if file.resolve() == ROOT / "pgjax":  # docs/hooks.py leads to the name itself
            *module, name = re.fullmatch(r"`(?:([a-z_]+)\.)?([\w.]+)`", text).groups()
            code = SOURCES[module[0]] if module[0] else "\n".join(SOURCES.values())
            for part in () if name in pgjax.__all__ else name.split("."):
                defined = rf"^\s*(def|class) {part}\b|^{part}\b.*="
                assert re.search(defined, code, re.MULTILINE), text


def test_every_page_is_in_the_index():
    """The first page, and the first page of each part."""
    parts = [f"docs/{name}.md" for name in ("README", "algorithms", "reference/README")]
    listed = {file.resolve() for page in parts for _, file, _ in links(page)}
    assert {page for page in PAGES if page.name != "README.md"} <= listed


def commands():
    """Every `pgjax train …` of the pages, in blocks and in the text, without what only stands for
    something."""
    for page, text in TEXTS.items():
        for block in [*blocks(page, "sh"), *re.findall(r"`([^`\n]+)`", text)]:
            for line in block.replace("\\\n", " ").splitlines():
                found = re.match(r"\s*(?:\w+=\S+ )*pgjax train (.*)", re.split(" # | > ", line)[0])
                if found and not re.search(r"\bENV\b|…|my_module|--config", found[1]):
                    yield page, found[1]


@pytest.mark.parametrize(("page", "arguments"), list(commands()))
def test_commands_are_ones_that_the_command_line_takes(page, arguments):
    _, make_config = flags.read(shlex.split(arguments), parsers.train())
    assert isinstance(make_config(), Config)


COMPONENTS = {
    cls
    for field in ("estimator", "objective", "ascent", "critic")
    for cls in registry.COMPONENTS[field].values()
}


@pytest.mark.parametrize("cls", sorted(COMPONENTS, key=str), ids=lambda cls: cls.__name__)
def test_estimators_objectives_ascents_and_critics_have_a_page_and_a_source(cls):
    pages = [page for page in TEXTS if page.startswith("docs/")]
    assert any(f"`{cls.__name__}" in TEXTS[page] for page in pages)
    assert "\nSource" in inspect.getdoc(cls)


OURS = [c for c in distributions.Distribution.__subclasses__() if c.__module__.startswith("pgjax")]


@pytest.mark.parametrize("cls", OURS, ids=lambda cls: cls.__name__)
def test_distributions_have_a_source(cls):
    assert "\nSource: " in inspect.getdoc(cls)


def public_objects():
    """Of `pgjax.__all__`: functions, classes, modules' functions; by name."""
    for name in pgjax.__all__:
        found = getattr(pgjax, name)
        inside = {} if not inspect.ismodule(found) else vars(found)
        yield name, found
        yield from (
            (f"{name}.{inner}", value)
            for inner, value in inside.items()
            if getattr(value, "__module__", "") == found.__name__ and not inner.startswith("_")
        )


def own_members(cls):
    """Public names that pgjax gave a class or its bases, with their values."""
    for base in cls.__mro__:
        if base.__module__.startswith("pgjax"):
            yield from ((n, v) for n, v in vars(base).items() if not n.startswith("_"))


def functions():
    """Every public function and method, by name."""
    for name, found in public_objects():
        if inspect.isclass(found):
            for inner, value in own_members(found):
                function = getattr(value, "__func__", getattr(value, "fget", value))
                if inspect.isfunction(function) and function.__module__.startswith("pgjax"):
                    yield f"{name}.{inner}", function
        elif inspect.isfunction(found):
            yield name, found


FUNCTIONS = dict(functions())


def test_every_public_name_method_and_attribute_is_described():
    missing = [name for name, found in public_objects() if not inspect.getdoc(found)]
    missing += [name for name, function in FUNCTIONS.items() if not function.__doc__]
    for name, cls in public_objects():
        if inspect.isclass(cls):
            docs = " ".join(base.__doc__ or "" for base in cls.__mro__ if base is not object)
            words = set(re.findall(r"\w+", docs + inspect.getmodule(cls).__doc__))
            missing += [f"{name}.{field}" for field in attributes(cls) - words]
    assert not missing


def attributes(cls):
    """Fields and class attributes, but not what Flax adds to its own."""
    fields = {f.name for f in dataclasses.fields(cls)} if dataclasses.is_dataclass(cls) else set()
    fields |= set(getattr(cls, "_fields", ()))
    plain = {n for n, v in own_members(cls) if not (callable(v) or hasattr(v, "__get__"))}
    return {
        n for n in fields | plain if n not in ("parent", "name", "scope") and not n.startswith("_")
    }


SAID = re.compile(r"(float|int32|bool)\[|\[[A-Za-z, …]+\]|units|nats")


def test_array_arguments_have_shapes_or_units():
    silent = [
        name
        for name, function in FUNCTIONS.items()
        if takes_arrays(function) and not SAID.search(function.__doc__)
    ]
    assert not silent


def takes_arrays(function):
    parameters = inspect.signature(function).parameters.values()
    return any("Array" in str(p.annotation) for p in parameters if p.name != "key")


def test_every_metric_is_in_the_glossary():
    names = {field.name for field in dataclasses.fields(pgjax.Metrics)} - {"extra"}
    small = {"sampler.num_envs": 2, "sampler.length": 4, "num_updates": 1}
    for make in (pgjax.ppo, pgjax.natural_policy_gradient):
        config = make("CartPole-v1", network=pgjax.MLP(()), **small)
        metrics = jax.eval_shape(pgjax.train, jax.random.key(0), config).metrics
        names |= set(metrics.extra)
    rows = set(re.findall(r"^\| `(\w+)`", TEXTS["docs/metrics.md"], re.MULTILINE))
    assert {"kl", "clip_fraction", "step_size", "explained_variance", "value_loss"} <= names <= rows
