"""What gymnax draws with is imported when it draws, and draws the same."""

import os
import subprocess
import sys

DRAWING = "Pong-misc FourRooms-misc PointRobot-misc MetaMaze-misc Catch-bsuite"
HEAVY = "matplotlib seaborn pandas scipy.stats"
PICTURES = """
import sys, zlib
library, heavy, drawing = sys.argv[1], sys.argv[2].split(), sys.argv[3].split()
with_pgjax = library == "pgjax"
if with_pgjax:
    import pgjax
    pgjax.train, pgjax.ppo("Pong-misc"), pgjax.preset("Pendulum-v1")
import gymnax, jax
if with_pgjax:
    print([name for name in heavy if name in sys.modules])
import matplotlib
matplotlib.use("agg")
for env_id in drawing:
    env, params = gymnax.make(env_id)
    with jax.disable_jit():
        _, state = env.reset(jax.random.key(0), params)
        drawn = env.render(state, params)
    canvas = (drawn[0] if isinstance(drawn, tuple) else drawn.figure).canvas
    canvas.draw()
    print(env_id, zlib.crc32(canvas.buffer_rgba()))
"""
# Every form of an import, of packages that are imported late.
FORMS = """
import json.decoder as decoder
import sys
import matplotlib
import matplotlib.colors as named
import matplotlib.backends.backend_agg
import seaborn as sns
from matplotlib import colors, cbook as book
from matplotlib.colors import to_hex
before = [name for name in ("matplotlib", "seaborn") if name in sys.modules]
"""
USES = """
import sys
from pgjax.core import late_drawing
loader = late_drawing._Loader("forms", sys.argv[1])
import importlib.util, json
forms = importlib.util.module_from_spec(importlib.util.spec_from_loader("forms", loader))
loader.exec_module(forms)
assert forms.before == [], forms.before
assert forms.decoder is json.decoder
assert forms.to_hex((1, 0, 0)) == "#ff0000"
assert forms.named.to_rgb("red") == forms.colors.to_rgb("red") == (1, 0, 0)
assert forms.colors.Normalize(0, 2)(1) == 0.5
assert forms.matplotlib.rcParams["figure.dpi"] > 0
assert forms.matplotlib.backends.backend_agg.FigureCanvasAgg.__name__ == "FigureCanvasAgg"
assert issubclass(forms.book.CallbackRegistry, object)
assert "seaborn" not in sys.modules
assert len(forms.sns.color_palette("cubehelix", 3)) == 3
assert not hasattr(forms.sns, "nothing")
exec(compile("from matplotlib.colors import *", "star", "exec"), vars(forms))
assert forms.hex2color("#ff0000") == (1, 0, 0)
"""


def output(code, *words):
    env = {**os.environ, "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", code, *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_gymnax_draws_the_same_with_libraries_that_are_imported_late():
    heavy, *pictures = output(PICTURES, "pgjax", HEAVY, DRAWING)
    assert heavy == "[]"
    assert [line.split()[0] for line in pictures] == DRAWING.split()
    assert pictures == output(PICTURES, "gymnax", HEAVY, DRAWING)


def test_every_form_of_an_import_gives_the_module(tmp_path):
    (tmp_path / "forms.py").write_text(FORMS)
    output(USES, tmp_path / "forms.py")
