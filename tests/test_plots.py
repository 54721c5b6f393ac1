"""Content of the figures. None of them uses pyplot, which would keep them alive."""

import ast
import itertools
import pathlib
import re

import jax.numpy as jnp
import matplotlib.colors
import numpy as np
import pytest
from matplotlib._pylab_helpers import Gcf
from PIL import Image

from eventsnn import plots
from eventsnn.plots import style

T, N = 12, 5


@pytest.fixture(autouse=True)
def nothing_left_behind():
    yield
    assert Gcf.get_num_fig_managers() == 0


@pytest.fixture
def spikes():
    return np.random.default_rng(0).random((T, N)) < 0.4


def refuses(argument, got):
    return pytest.raises(ValueError, match=f"(?s){argument}.* must .*got .*{re.escape(got)}")


def colours_of(bars):
    return [matplotlib.colors.to_hex(bar.get_facecolor()) for bar in bars]


def texts(axes):
    return [text.get_text() for text in axes.texts]


def drawn(figure):
    figure.draw_without_rendering()
    return figure


def test_no_module_imports_pyplot():
    folder = pathlib.Path(plots.__file__).parent
    for path in folder.glob("*.py"):
        nodes = [n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.ImportFrom)]
        assert not any("pyplot" in f"{n.module} {[a.name for a in n.names]}" for n in nodes)


# ------------------------------------------------------------------ trains


def test_raster_draws_each_spike_at_its_step_and_neuron(spikes):
    (axes,) = drawn(plots.spike_raster(jnp.asarray(spikes), title="one sample")).axes
    (lines,) = axes.collections
    middles = np.array([segment.mean(axis=0) for segment in lines.get_segments()])
    np.testing.assert_allclose(middles, np.argwhere(spikes), atol=1e-12)
    assert axes.get_xlim() == (-0.5, T - 0.5) and axes.get_xlabel() == "time step"
    assert axes.get_ylabel() == "neuron" and axes.get_title(loc="left") == "one sample"


def test_raster_of_layers_of_any_size(spikes):
    hidden = np.random.default_rng(1).random((T, 1000)) < 0.1
    figure = drawn(plots.spike_raster({"hidden": hidden, "output": spikes}, target=2))
    above, below = figure.axes
    assert (above.get_ylabel(), below.get_ylabel()) == ("hidden", "output")
    assert len(above.collections[0].get_segments()) == hidden.sum()
    heights = [np.ptp(s[:, 1]) for s in above.collections[0].get_segments()]
    pixels = np.min(heights) / 1000 * above.get_window_extent().height
    assert pixels > 1.5  # visible, for few rows and for a thousand
    assert texts(below) == ["target"] and below.patches[0].get_y() == 1.5


def test_raster_of_signed_and_of_no_spikes():
    train = np.zeros((T, 3))
    train[2, 1], train[5, 0] = 1, -1
    (axes,) = plots.spike_raster(train).axes
    on, off = (matplotlib.colors.to_hex(c) for c in axes.collections[0].get_colors())
    assert (on, off) == (plots.INK, plots.TARGET)
    (axes,) = drawn(plots.spike_raster(np.zeros((T, 3)))).axes
    assert axes.get_ylim() == (-0.6, 2.6)


def test_raster_of_events_in_chosen_rows():
    """Neurons 1 and 4 (an output) and channel 7 of a network of 6 neurons, and nothing else."""
    times, sources = [1.0, 2.0, 3.0, 4.0, np.inf], [7, 0, 4, 1, -1]
    figure = plots.raster(times, sources, n_neurons=6, outputs=(4, 5), t_max=9.0, shown=(1, 4, 7))
    (axes,) = drawn(figure).axes
    found = {
        lines.get_label(): [tuple(segment.mean(axis=0)) for segment in lines.get_segments()]
        for lines in axes.collections
    }
    assert found == {"input": [(1.0, -1.0)], "output": [(3.0, 1.0)], "neuron": [(4.0, 0.0)]}


def test_outputs_of_a_raster_have_names():
    """The rows of the two outputs are named, and that of the correct class is emphasised."""
    options = {"n_neurons": 12, "outputs": (10, 11), "labels": ("yin", "yang"), "correct": 1}
    (axes,) = drawn(plots.raster([1.0, 2.0], [11, 12], t_max=9.0, **options)).axes
    ticks = dict(zip(axes.get_yticks().tolist(), axes.get_yticklabels(), strict=True))
    assert {row: text.get_text() for row, text in ticks.items()} == {
        **{row: str(row) for row in (0, 2, 4, 6, 8)},
        **{10: "yin", 11: "yang"},
    }
    weights = [ticks[row].get_fontweight() for row in (0, 10, 11)]
    assert weights == ["normal", "normal", "bold"]
    shown = plots.raster([1.0], [11], t_max=9.0, shown=(3, 11), **options)
    assert [text.get_text() for text in drawn(shown).axes[0].get_yticklabels()] == ["yang"]


def test_parameters_without_negative_values_have_colours_from_zero():
    for low, name, least in ((0.0, "Reds", 0.0), (-1.0, "RdBu_r", -2.0)):
        values = {"w": np.array([[low, 1.0], [2.0, 0.5]])}
        image = plots.weights(values, values).axes[0].images[0]
        assert image.get_cmap().name == name
        np.testing.assert_allclose(image.get_clim(), (least, 2.0), atol=0.02)


def test_membrane_traces(spikes):
    membranes = np.random.default_rng(2).normal(size=(T, N))
    figure = drawn(plots.membrane_traces(membranes, spikes, threshold=[1, 1, 1, 1, 7.0]))
    assert [axes.get_ylabel() for axes in figure.axes] == ["0", "1", "2", "3", "4"]
    for axes, trace, fired in zip(figure.axes, membranes.T, spikes.T, strict=True):
        _, line, marks = axes.lines
        np.testing.assert_array_equal(line.get_ydata(), trace)
        np.testing.assert_array_equal(marks.get_xdata(), np.flatnonzero(fired))
        assert axes.get_ylim() == figure.axes[0].get_ylim() and axes.get_ylim()[1] > 7
    assert figure.axes[4].lines[0].get_ydata()[0] == 7.0


def test_counts_of_trains_and_of_counts(spikes):
    counts = spikes.sum(0)
    for given in (spikes, counts):
        (axes,) = drawn(plots.spike_counts(given, target=3)).axes
        assert [bar.get_height() for bar in axes.patches] == list(counts)
        assert texts(axes) == [str(c) for c in counts]
        expected = [plots.TARGET if i == 3 else plots.MODEL for i in range(N)]
        assert colours_of(axes.patches) == expected
    (axes,) = drawn(plots.spike_counts(counts, labels=["airplane", *"bcde"])).axes
    assert [t.get_text() for t in axes.get_xticklabels()] == ["airplane", *"bcde"]
    assert axes.get_legend() is None and {t.get_rotation() for t in axes.get_xticklabels()} == {40}


def test_target_trace():
    x, target, output = np.arange(T), np.linspace(0, 1, T), np.linspace(0, 2, T)
    above, below = drawn(plots.target_trace(x, target, output, title="line")).axes
    np.testing.assert_array_equal(above.lines[0].get_ydata(), target)
    np.testing.assert_array_equal(above.lines[1].get_ydata(), output)
    np.testing.assert_array_equal(below.lines[1].get_ydata(), output - target)
    assert above.get_ylabel() == "membrane" and below.get_xlabel() == "time step"


def test_trains_refuse(spikes):
    with refuses("spikes", "(12, 5, 1)"):
        plots.spike_raster(spikes[..., None])
    with refuses("spikes", "a (12, 5), b (11, 5)"):
        plots.spike_raster({"a": spikes, "b": spikes[1:]})
    with refuses("target", "5"):
        plots.spike_raster(spikes, target=5)
    with refuses("membranes and spikes", "(12, 4)"):
        plots.membrane_traces(np.zeros((T, N)), spikes[:, 1:])
    with refuses("membranes", "31"):
        plots.membrane_traces(np.zeros((T, 31)))
    with refuses("labels", "2"):
        plots.spike_counts(spikes, labels=["a", "b"])
    with refuses("times and target and output", "(11,)"):
        plots.target_trace(np.arange(T), np.zeros(T), np.zeros(T - 1))


# ------------------------------------------------------------------ training


def test_curves():
    train = np.random.default_rng(3).random(400) + np.linspace(3, 0, 400)
    at = [0, 200, 400]
    figure = plots.curves({"train": train, "test": [3, 2, 1]}, x={"test": at}, log=True)
    (axes,) = drawn(figure).axes
    raw, mean, test = axes.lines
    np.testing.assert_array_equal(raw.get_ydata(), train)
    np.testing.assert_array_equal(raw.get_xdata(), np.arange(1, 401))
    np.testing.assert_allclose(mean.get_ydata()[0], train[:10].mean())
    np.testing.assert_allclose(mean.get_ydata()[-1], train[-10:].mean())
    assert len(mean.get_xdata()) == 391 and mean.get_xdata()[0] == 5
    np.testing.assert_array_equal(test.get_xdata(), at)
    legend = [text.get_text() for text in axes.get_legend().get_texts()]
    assert legend == ["train (mean of 10)", "test"] and axes.get_yscale() == "log"


def test_curves_of_epochs_have_whole_ticks():
    (axes,) = drawn(plots.curves({"accuracy": [0.9, 0.95, 0.97]}, x_label="epoch")).axes
    assert np.all(axes.get_xticks() == np.round(axes.get_xticks()))
    assert axes.get_xlabel() == "epoch"


def test_confusion():
    matrix = np.array([[8, 2, 0], [1, 9, 0], [0, 0, 0]])
    axes, bar = drawn(plots.confusion(matrix, labels=["a", "b", "c"])).axes
    shares = axes.images[0].get_array()
    np.testing.assert_allclose(shares, [[0.8, 0.2, 0], [0.1, 0.9, 0], [0, 0, 0]])
    assert texts(axes) == [str(v) for v in matrix.ravel()]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted", "target")
    assert bar.get_ylabel() == "fraction of the target class"
    axes, _ = drawn(plots.confusion(np.eye(40))).axes
    assert texts(axes) == [] and len(axes.get_xticks()) == 20


def test_weights():
    draw = np.random.default_rng(4).normal
    shapes = {"w": (7, 9), "b": (7,), "kernel": (4, 2, 3, 3), "beta": ()}
    before = {name: draw(size=shape) for name, shape in shapes.items()}
    after = {name: 2 * value for name, value in before.items()}
    figure = drawn(plots.weights(before, after))
    grid = np.array(figure.axes[:12]).reshape(4, 3)
    assert [axes.get_ylabel() for axes in grid[:, 0]] == list(shapes)
    assert [axes.get_title(loc="left") for axes in grid[0]] == ["before", "after", "values"]
    for row, name in ((grid[0], "w"), (grid[2], "kernel")):
        left, right = row[0].images[0], row[1].images[0]
        np.testing.assert_array_equal(left.get_array().ravel(), before[name].ravel())
        np.testing.assert_array_equal(right.get_array().ravel(), after[name].ravel())
        assert left.get_clim() == right.get_clim() and sum(left.get_clim()) == 0
    tops = [segment[1, 1] for segment in grid[1, 1].collections[0].get_segments()]
    np.testing.assert_array_equal(tops, after["b"])
    assert grid[1, 0].get_ylim() == grid[1, 1].get_ylim()
    filled = sum(bar.get_height() for bar in grid[0, 2].patches[:-1])
    assert filled == 63  # all initial weights are in the histogram


def test_weights_after_training_diverged():
    drawn(plots.weights({"w": np.ones((3, 4))}, {"w": np.full((3, 4), np.nan)}))
    drawn(plots.weights({"w": np.zeros((3, 4))}, {"w": np.zeros((3, 4))}))


def test_training_refuses():
    for bad in ((3,), (2, 3)):
        with refuses("matrix", str(bad)):
            plots.confusion(np.ones(bad))
    with refuses("labels", "2"):
        plots.confusion(np.eye(3), labels=["a", "b"])
    with refuses("named", "{}"):
        plots.curves({})
    with refuses("curve 'a'", "(2, 2)"):
        plots.curves({"a": np.ones((2, 2))})
    with refuses("x of the curve 'a'", "3"):
        plots.curves({"a": [1, 2]}, x={"a": [1, 2, 3]})
    with refuses("before and after", "['a'] and ['b']"):
        plots.weights({"a": np.ones(2)}, {"b": np.ones(2)})
    with refuses("before", "(3,)"):
        plots.weights({"a": np.ones(2)}, {"a": np.ones(3)})


# ------------------------------------------------------------------ frames and animations


@pytest.fixture
def images():
    return np.random.default_rng(5).random((T, 6, 8))


def shown(path):
    """Size and frames of a GIF."""
    with Image.open(path) as gif:
        assert gif.format == "GIF"
        out = []
        for i in range(gif.n_frames):
            gif.seek(i)
            out.append(np.asarray(gif.convert("RGB"), int))
        return out


def test_frames(images):
    figure = drawn(plots.frames(images[:4], ["a", "b", "c", "d"]))
    assert [axes.get_title() for axes in figure.axes] == ["a", "b", "c", "d"]
    for axes, image in zip(figure.axes, images, strict=False):
        np.testing.assert_array_equal(axes.images[0].get_array(), image)
        assert axes.images[0].get_clim() == (0, images[:4].max())
    figure = drawn(plots.frames(images.reshape(3, 4, 6, 8) - 0.5, row_titles=["x", "y", "z"]))
    assert len(figure.axes) == 12 and figure.axes[4].get_ylabel() == "y"
    low, high = figure.axes[0].images[0].get_clim()
    assert low == -high  # zero is in the middle of the colour map


def test_gif_of_images_and_spikes(images, spikes, tmp_path):
    animation = plots.animation(images, spikes=spikes, title="sample")
    plots.save_gif(animation, tmp_path / "both.gif", fps=20)
    pictures = shown(tmp_path / "both.gif")
    assert len(pictures) == T
    assert all(np.any(a != b) for a, b in itertools.pairwise(pictures))
    # The right half, except for the moving line, contains more and more ink.
    half = pictures[0].shape[1] // 2
    ink = [np.sum(np.abs(p[:, half:] - [34, 48, 60]).sum(-1) < 40) for p in pictures]
    assert ink[-1] > ink[T // 2] > ink[0]


def test_gif_of_images_that_do_not_change(spikes, tmp_path):
    """Each step is a frame, even if nothing changes."""
    animation = plots.animation(np.ones((6, 8)), spikes=np.zeros_like(spikes))
    plots.save_gif(animation, tmp_path / "still.gif")
    assert len(shown(tmp_path / "still.gif")) == T


def test_gif_of_counts(spikes, tmp_path):
    animation = plots.count_animation(spikes, target=1)
    plots.save_gif(animation, tmp_path / "counts.gif")
    pictures = shown(tmp_path / "counts.gif")
    assert len(pictures) == T
    bars = [np.sum(np.abs(p - [23, 101, 156]).sum(-1) < 30) for p in pictures]
    rest = np.delete(spikes, 1, axis=1).sum(1).cumsum()
    np.testing.assert_allclose(bars / bars[-1], rest / rest[-1], atol=0.03)


def test_animations_refuse(images, spikes):
    with refuses("images", "(6, 8)"):
        plots.animation(images[0])
    with refuses("images", "None"):
        plots.animation()
    with refuses("images", "11"):
        plots.animation(images[1:], spikes=spikes)
    with refuses("spikes", "(12,)"):
        plots.count_animation(spikes[:, 0])
    with refuses("images", "(8,)"):
        plots.frames(images[0, 0])
    with refuses("titles", "1"):
        plots.frames(images, ["only one"])


# ------------------------------------------------------------------ how errors fall


def test_convergence_of_one_network():
    dts = np.array([0.05, 0.2, 0.1, 0.025])  # in any order
    (axes,) = drawn(plots.convergence(dts, 0.3 * dts**2, order=2, title="second order")).axes
    reference, measured = axes.lines
    np.testing.assert_array_equal(measured.get_xdata(), np.sort(dts))
    np.testing.assert_array_equal(measured.get_ydata(), 0.3 * np.sort(dts) ** 2)
    np.testing.assert_allclose(reference.get_ydata(), measured.get_ydata(), rtol=1e-12)
    legend = [text.get_text() for text in axes.get_legend().get_texts()]
    assert legend == ["measured: slope 2.00", "slope 2"]
    assert axes.get_xscale() == axes.get_yscale() == "log"
    assert [t.get_text() for t in axes.get_xticklabels()] == ["0.025", "0.05", "0.1", "0.2"]
    assert axes.get_title(loc="left") == "second order" and axes.get_xlabel() == "step (ms)"


def test_convergence_of_several_networks():
    dts = np.geomspace(1e-3, 1, 10)
    errors = np.array([[1.0], [5.0], [0.4]]) * np.sqrt(dts)
    figure = plots.convergence(dts, jnp.asarray(errors), x_label="step", y_label="error")
    (axes,) = drawn(figure).axes
    reference, measured = axes.lines
    np.testing.assert_allclose(measured.get_ydata(), np.sqrt(dts))
    # Through the middle of the errors, with the expected slope.
    lines = np.log([reference.get_ydata(), measured.get_ydata()])
    np.testing.assert_allclose(lines[0].mean(), lines[1].mean())
    np.testing.assert_allclose(np.diff(lines[0]), np.diff(np.log(dts)))
    (band,) = axes.collections
    corners = band.get_paths()[0].vertices
    np.testing.assert_allclose(corners[:, 1].max(), errors.max())
    np.testing.assert_allclose(corners[:, 1].min(), errors.min())
    legend = [text.get_text() for text in axes.get_legend().get_texts()]
    assert legend == ["median of 3 networks: slope 0.50", "slope 1", "smallest to largest"]


def test_convergence_refuses():
    with refuses("dts", "(2, 1)"):
        plots.convergence([[1.0], [2.0]], [1.0, 2.0])
    for dts in ([0.1], [0.1, 0.1]):
        with refuses("dts", str(dts)):
            plots.convergence(dts, dts)
    with refuses("errors", "(3,)"):
        plots.convergence([0.1, 0.2], [1.0, 2.0, 3.0])
    for dts, errors, name, got in (
        ([0.0, 0.1], [1, 2], "dts", "0"),
        ([0.1, 0.2], [1, 0], "errors", "0"),
        ([0.1, 0.2], [np.inf, 1], "errors", "inf"),
        ([0.1, 0.2], [[1, 2], [1, np.nan]], "errors", "nan"),
    ):
        with refuses(name, got):
            plots.convergence(dts, errors)


# ------------------------------------------------------------------ pictures of events


def test_pictures_of_events():
    above, below = drawn(plots.prediction([1, 2, 3], [3, 2, 1], [3, np.inf, 2])).axes
    assert above.get_ylabel() == "first output spike (ms)" and below.get_ylabel() == "error (ms)"
    np.testing.assert_array_equal(below.lines[1].get_ydata(), [0, np.nan, 1])
    times, sources = np.array([1.0, 2.0, 4.0, np.inf]), np.array([3, 0, 1, -1])
    figure = plots.raster(times, sources, n_neurons=3, outputs=(1,), t_max=5.0, target=3.0)
    (axes,) = drawn(figure).axes
    by_kind = {c.get_label(): c.get_segments() for c in axes.collections}
    assert {name: len(lines) for name, lines in by_kind.items()} == dict(
        input=1, neuron=1, output=1
    )
    phases = plots.phase([-1e9, 0.0, 1e9])
    np.testing.assert_allclose(phases, [0, 0.45, 1], atol=3e-3)
    traces = np.linspace(0, 1, 8).reshape(2, 4)
    (axes,) = drawn(plots.membranes(np.arange(4.0), traces, outputs=(1,), in_times=[1.0])).axes
    np.testing.assert_allclose(axes.lines[2].get_ydata(), 1 + 0.9 * traces[1])


def test_activity():
    """Two layers. In layer a, neuron 1 is dead, and neuron 0 fires in two of three samples."""
    counts = {"a": np.array([[2, 0], [1, 0], [0, 0]]), "b": np.zeros((3, 1), int)}
    first = {"a": np.array([[3.0, np.inf], [5.0, np.inf], [np.inf, np.inf]])}
    first["b"] = np.full((3, 1), np.inf)
    figure = drawn(plots.activity(counts, first, title="before training"))
    assert figure.get_suptitle() == "before training"
    spikes, times, active, silent, no_times, dead = figure.axes
    assert [axes.get_title(loc="left") for axes in (spikes, silent)] == [
        "a, 2 neurons",
        "b, 1 neuron",
    ]
    np.testing.assert_allclose([bar.get_height() for bar in spikes.patches], [4 / 6, 1 / 6, 1 / 6])
    assert colours_of(spikes.patches) == [plots.TARGET, plots.MODEL, plots.MODEL]
    heights = [bar.get_height() for bar in times.patches]
    np.testing.assert_allclose((heights[0], heights[-1], sum(heights)), (1 / 6, 1 / 6, 2 / 6))
    assert texts(spikes) == ["silent"] and texts(active) == [" dead"] == texts(dead)
    assert texts(no_times) == ["no spikes"]
    path = active.collections[0].get_paths()[0].vertices
    assert path[:, 1].max() == pytest.approx(2 / 3)


def test_histories():
    (axes,) = drawn(plots.loss_curve(np.linspace(2, 1, 200))).axes
    assert axes.get_yscale() == "log" and len(axes.lines) == 2
    figure = plots.parameter_history(np.arange(3), np.ones((3, 4)), np.zeros((3, 2)))
    assert [axes.get_ylabel() for axes in drawn(figure).axes] == ["weight (all 4)", "bias (all 2)"]


# ------------------------------------------------------------------ colours

# Colours as seen with each kind of colour blindness, in linear RGB. Machado, Oliveira & Fernandes,
# IEEE Transactions on Visualization and Computer Graphics 15:1291, 2009, for a severity of 1.
COLOUR_BLIND = {
    "none": np.eye(3),
    "protanopia": np.array(
        [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ]
    ),
    "deuteranopia": np.array(
        [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ]
    ),
    "tritanopia": np.array(
        [
            [1.255528, -0.076749, -0.178779],
            [-0.078411, 0.930809, 0.147602],
            [0.004733, 0.691367, 0.303900],
        ]
    ),
}
XYZ = np.array(
    [
        [0.4124564, 0.3575761, 0.1804375],
        [0.2126729, 0.7151522, 0.0721750],
        [0.0193339, 0.1191920, 0.9503041],
    ]
)


def lab(colour, seen):
    """CIE L*a*b* coordinates of a colour (white point D65) as seen through a matrix."""
    rgb = np.array(matplotlib.colors.to_rgb(colour))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    x = XYZ @ np.clip(seen @ linear, 0, 1) / [0.95047, 1.0, 1.08883]
    f = np.where(x > 0.008856, np.cbrt(x), 7.787 * x + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("kind", COLOUR_BLIND)
def test_colours_differ_for_colour_blind_readers(kind):
    """A difference of 2.3 is just noticeable."""
    for a, b in itertools.combinations(style.PALETTE, 2):
        apart = np.linalg.norm(lab(a, COLOUR_BLIND[kind]) - lab(b, COLOUR_BLIND[kind]))
        assert apart > 15, (a, b, apart)
