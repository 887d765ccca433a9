import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import silhouette_score
from sklearn.model_selection import LeaveOneOut, PredefinedSplit, cross_val_predict
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler, normalize

from vtrain.explain.separation import (
    DRAWS,
    LEVEL,
    MEASURES,
    Figure,
    effective_rank,
    folds,
    nearest,
    separation,
    share,
)

N = 80


def blobs(apart: float = 1.0, seed: int = 0, count: int = N) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = np.sort(rng.integers(0, 3, count)) * 2  # numbers with gaps
    return rng.normal(size=(count, 6)) + apart * np.eye(6)[labels], labels


@pytest.fixture(scope="module")
def found() -> dict[str, Figure]:
    return separation(*blobs(2.0))


def test_the_silhouette_is_scikit_learn_s(found: dict[str, Figure]) -> None:
    expected = silhouette_score(*blobs(2.0), metric="cosine")
    assert found["silhouette"].value == pytest.approx(expected)


def test_the_only_image_of_a_class_has_a_silhouette_of_zero() -> None:
    X, y = blobs()
    y[0] = 9
    expected = silhouette_score(X, y, metric="cosine")
    assert separation(X, y)["silhouette"].value == pytest.approx(expected)


def test_neighbours_are_scikit_learn_s_of_all_other_images(found: dict[str, Figure]) -> None:
    X, y = blobs(2.0)
    model = KNeighborsClassifier(20, metric="cosine", algorithm="brute")
    hits = cross_val_predict(model, X, y, cv=LeaveOneOut()) == y
    assert found["knn_accuracy"].value == pytest.approx(hits.mean())


def test_the_probe_is_scikit_learn_s_on_parts_that_it_has_not_seen(
    found: dict[str, Figure],
) -> None:
    X, y = blobs(2.0)
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000, tol=1e-8))
    hits = cross_val_predict(model, X, y, cv=PredefinedSplit(folds(y))) == y
    assert found["linear_probe"].value == pytest.approx(hits.mean(), abs=1.5 / N)
    for part in range(5):  # each has its share of each class
        counts = np.bincount(y[folds(y) == part], minlength=5)
        assert (np.abs(counts - np.bincount(y, minlength=5) / 5) < 1).all()


def test_the_fisher_ratio_is_a_loop_over_classes(found: dict[str, Figure]) -> None:
    X, y = blobs(2.0)
    between = within = 0.0
    for label in np.unique(y):
        mean = X[y == label].mean(0)
        between += (y == label).sum() * ((mean - X.mean(0)) ** 2).sum()
        within += sum(((x - mean) ** 2).sum() for x in X[y == label])
    assert found["fisher_ratio"].value == pytest.approx(between / within)


def test_the_effective_rank_is_that_of_known_variances() -> None:
    rng = np.random.default_rng(0)
    Q = np.linalg.qr(rng.normal(size=(40, 5)))[0]
    Q -= Q.mean(0)
    Q = np.linalg.qr(Q)[0]  # centred, orthonormal columns
    sizes = np.array([1.0, 1.0, 1.0, 1.0, 0.0])
    for wide in (np.eye(5), np.linalg.qr(rng.normal(size=(90, 5)))[0].T):  # more features than N
        value = effective_rank(
            Q * sizes @ wide, np.zeros(40, int), np.ones((1, 40), dtype=int)
        ).value
        assert value == pytest.approx(4)


def test_a_bootstrap_sample_is_the_figure_of_the_images_it_drew(found: dict[str, Figure]) -> None:
    X, y = blobs(2.0)
    rng = np.random.default_rng(0)
    drawn = rng.integers(N, size=N)
    once = np.ones((1, N), dtype=np.int64)
    for name in ("fisher_ratio", "effective_rank"):
        samples = found[name].samples
        assert samples is not None
        assert samples[0] == pytest.approx(MEASURES[name](X[drawn], y[drawn], once).value)


def test_an_image_that_was_drawn_twice_is_not_its_own_neighbour() -> None:
    # Labels know nothing of the features: with copies as neighbours accuracy would be far above.
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(100, 4)), rng.integers(0, 4, 100)
    figure = separation(X, y)["knn_accuracy"]
    assert figure.samples is not None
    assert figure.samples.mean() == pytest.approx(figure.value, abs=0.01)
    drawn = rng.integers(100, size=100)
    leaking = KNeighborsClassifier(1, metric="cosine").fit(normalize(X[drawn]), y[drawn])
    assert leaking.score(normalize(X[drawn]), y[drawn]) == 1  # what it must not be


@pytest.mark.parametrize("name", list(MEASURES))
def test_intervals_hold_the_figure_and_shrink_with_more_images(name: str) -> None:
    widths = []
    for count in (60, 240):
        figure = separation(*blobs(0.7, count=count))[name]
        assert figure.interval is not None
        low, high = figure.interval
        assert low < figure.value < high
        assert figure.samples is not None
        assert len(figure.samples) == DRAWS
        widths.append(high - low)
    assert widths[1] < widths[0]


def test_no_interval_leaves_what_the_figure_can_be() -> None:
    # Labels know nothing of few images with many features: the ratio is small, its spread large.
    rng = np.random.default_rng(5)
    for seed in range(20):
        X, y = rng.normal(size=(24, 3)), np.arange(24) % 2
        figures = separation(X, y, seed)
        for name, least in (("fisher_ratio", 0), ("effective_rank", 1), ("linear_probe", 0)):
            interval = figures[name].interval
            assert interval is not None
            assert interval[0] >= least
        assert figures["linear_probe"].interval[1] <= 1  # type: ignore[index]


@pytest.mark.parametrize("right", [0, 1])
def test_answers_that_are_all_alike_have_the_interval_of_clopper_and_pearson(right: int) -> None:
    answers, weights = np.full(40, bool(right)), np.ones((DRAWS, 40), dtype=np.int64)
    exact = binomtest(40 * right, 40).proportion_ci(LEVEL, method="exact")
    figure = share(answers, weights)
    assert figure.interval == pytest.approx((exact.low, exact.high))
    difference = figure.minus(figure).interval
    assert difference == pytest.approx((-(exact.high - exact.low), exact.high - exact.low))


def test_a_difference_is_paired() -> None:
    X, y = blobs(0.7)
    near = X + np.random.default_rng(3).normal(size=X.shape) * 0.01
    one, other = separation(X, y), separation(near, y)
    for name in ("silhouette", "fisher_ratio", "effective_rank"):
        alone, both = one[name].interval, one[name].minus(other[name]).interval
        assert alone is not None
        assert both is not None
        assert both[1] - both[0] < (alone[1] - alone[0]) / 5


def test_figures_that_scale_leaves_alone_are_left_alone() -> None:
    X, y = blobs()
    one, other = separation(X, y), separation(1000 * X, y)
    for name in MEASURES:
        assert one[name].value == pytest.approx(other[name].value)


def reasons(X: np.ndarray, y: np.ndarray) -> dict[str, str]:
    return {name: one.reason for name, one in separation(X, y).items() if one.value is None}


def test_of_one_image_nothing_can_be_told() -> None:
    found = reasons(np.ones((1, 3)), np.zeros(1, dtype=np.int64))
    assert found.keys() == MEASURES.keys()
    assert set(found.values()) == {"one image: there is nothing to compare it with (1 given)"}


def test_of_constant_features_nothing_can_be_told() -> None:
    found = reasons(np.full((50, 3), 0.1), np.arange(50) % 2)
    assert found.keys() == MEASURES.keys()
    assert "all images have the same features" in found["fisher_ratio"]


def test_of_one_class_only_the_rank_can_be_told() -> None:
    X, y = blobs()
    assert reasons(X, y * 0).keys() == MEASURES.keys() - {"effective_rank"}


def test_fewer_images_than_neighbours_have_no_vote() -> None:
    X, y = blobs(count=20)
    assert reasons(X, y) == {"knn_accuracy": "20 neighbours need 21 images: there are 20"}
    assert nearest(*blobs(count=21), np.ones((1, 21), dtype=np.int64)).value is not None


def test_classes_of_one_image_each_have_no_ratio_and_no_probe() -> None:
    X, _ = blobs(count=30)
    found = reasons(X, np.arange(30))
    assert found.keys() == {"fisher_ratio", "linear_probe"}


def test_a_class_without_spread_in_some_samples_has_no_interval() -> None:
    X = np.array([[0.0, 1], [0, 1], [1, 0], [3, 0]])
    figure = separation(X, np.array([0, 0, 1, 1]))["fisher_ratio"]
    assert figure.value is not None
    assert figure.interval is None
    assert "too few images" in figure.reason


def test_lda_finds_what_the_ratio_says_is_there() -> None:
    near, far = (separation(*blobs(apart))["fisher_ratio"].value for apart in (0.5, 3.0))
    scores = [LinearDiscriminantAnalysis().fit(*blobs(a)).score(*blobs(a)) for a in (0.5, 3.0)]
    assert near < far
    assert scores[0] < scores[1]
