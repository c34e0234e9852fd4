"""The map from another encoder's vectors: ridge regression against plain algebra, its file, `sgdd align`, `--map`."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_cli import call, next_commands
from test_vectors_read import checked, write_parquet

from sgdd_engine.data.builtin import builtin_sentences
from sgdd_engine.diffusion.config import SamplingConfig
from sgdd_engine.errors import ConfigError, EncoderError, GenerationError, SgddError, VectorSourceError
from sgdd_engine.evaluation.alignment import align
from sgdd_engine.evaluation.alignment_figures import CONDITIONS, CurvePoint, Scores, verdicts_on
from sgdd_engine.evaluation.bootstrap import Interval
from sgdd_engine.generation import SGDD
from sgdd_engine.text.reference import EncoderReference
from sgdd_engine.vectors import LinearMap, OpenSource, VectorBatch, load_map, open_vectors
from sgdd_engine.vectors.linear_map import FOLDS, PENALTIES, PairStatistics, RidgeRegression

REFERENCE = EncoderReference("minilm", None, "mean", True, 5, 1, 8, "00")


def pairs(count=400, d1=7, d2=5, noise=0.0, seed=0):
    """x of unequal variances and with a mean far from zero, and an affine function of it with noise."""
    random = np.random.default_rng(seed)
    x = random.normal(size=(count, d1)) * np.geomspace(1, 0.01, d1) + 10
    y = (x - 10) @ random.normal(size=(d1, d2)) + 3 + noise * random.normal(size=(count, d2))
    return x, y


def regression(x, y, sizes=(64,)) -> RidgeRegression:
    """A regression whose pairs came in batches of these sizes, in turn."""
    made, start, turn = RidgeRegression(), 0, 0
    while start < len(x):
        stop = start + sizes[turn % len(sizes)]
        made.add(x[start:stop], y[start:stop], np.arange(len(x))[start:stop])
        start, turn = stop, turn + 1
    return made


# --- ridge regression -----------------------------------------------------------------------------------


def test_a_linear_relation_is_recovered_with_the_smallest_penalty():
    x, y = pairs()
    fitted = regression(x, y).fit()
    assert fitted.penalty == PENALTIES[0]
    np.testing.assert_allclose(fitted(x), y, atol=1e-4)
    solution, *_ = np.linalg.lstsq(np.c_[x, np.ones(len(x))], y)
    np.testing.assert_allclose(fitted.weight, solution[:-1], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(("count", "d1"), [(400, 7), (30, 60)])
def test_it_is_the_ridge_regression_of_all_pairs_at_once(count, d1):
    x, y = pairs(count, d1, noise=0.3)
    fitted = regression(x, y).fit()
    dx, dy = x - x.mean(axis=0), y - y.mean(axis=0)
    penalty = fitted.penalty * dx.var(axis=0).mean()
    # Ridge regression as ordinary least squares, with √(Nλ) I as further rows of x and zeros of y.
    rows = np.r_[dx, np.sqrt(count * penalty) * np.eye(d1)]
    expected, *_ = np.linalg.lstsq(rows, np.r_[dy, np.zeros((d1, y.shape[1]))])
    np.testing.assert_allclose(fitted.weight, expected, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(fitted(x[:3]), y.mean(axis=0) + dx[:3] @ expected, rtol=1e-6)


def test_the_errors_of_cross_validation_are_those_of_maps_fitted_without_each_fold():
    x, y = pairs(90, 6, noise=0.5)
    fitted = regression(x, y, (1, 17)).fit()
    fold = np.arange(len(x)) % FOLDS
    scale = x.var(axis=0).mean()
    for place in (0, 12, 20, len(PENALTIES) - 1):
        total = 0.0
        for number in range(FOLDS):
            inside, outside = fold != number, fold == number
            dx, dy = x[inside] - x[inside].mean(axis=0), y[inside] - y[inside].mean(axis=0)
            ridge = dx.T @ dx + inside.sum() * PENALTIES[place] * scale * np.eye(6)
            found = (x[outside] - x[inside].mean(axis=0)) @ np.linalg.solve(ridge, dx.T @ dy)
            total += np.square(y[outside] - y[inside].mean(axis=0) - found).sum()
        expected = total / np.square(y - y.mean(axis=0)).sum()
        assert fitted.unexplained[place] == pytest.approx(expected, rel=1e-6)
    assert fitted.penalty == PENALTIES[int(np.argmin(fitted.unexplained))]


def test_noise_takes_a_large_penalty_and_a_map_to_the_mean():
    x, _ = pairs(200, 40)
    y = np.random.default_rng(5).normal(size=(200, 3))
    fitted = regression(x, y).fit()
    assert fitted.penalty >= 10
    assert np.abs(fitted(x) - y.mean(axis=0)).max() < 0.2
    assert min(fitted.unexplained) > 0.9


@settings(max_examples=15, deadline=None)
@given(sizes=st.lists(st.integers(1, 90), min_size=1, max_size=4), order=st.randoms(use_true_random=False))
def test_neither_batches_nor_their_order_matter(sizes, order):
    x, y = pairs(120, noise=0.2)
    whole = regression(x, y, (120,)).fit()
    rows = list(range(120))
    order.shuffle(rows)
    made = RidgeRegression()
    while rows:
        some, rows = rows[: sizes[0]], rows[sizes[0] :]
        sizes = [*sizes[1:], sizes[0]]
        made.add(x[some], y[some], some)
    fitted = made.fit()
    assert fitted.penalty == whole.penalty
    np.testing.assert_allclose(fitted.weight, whole.weight, rtol=1e-7, atol=1e-9)


def test_statistics_do_not_cancel_far_from_zero():
    x, y = pairs(300)
    parts = [PairStatistics.of(x[rows] + 1e6, y[rows]) for rows in np.array_split(np.arange(300), 7)]
    whole = sum(parts[1:], parts[0])
    np.testing.assert_allclose(whole.xx / 300, np.cov(x.T, bias=True), rtol=1e-4, atol=1e-7)


def test_what_cannot_be_learned_from_is_refused():
    x, y = pairs(20)
    with pytest.raises(VectorSourceError, match="All vectors are equal"):
        regression(np.full_like(x, 0.3), y).fit()
    with pytest.raises(VectorSourceError, match="All vectors are equal"):
        regression(x, np.full_like(y, 0.3)).fit()
    with pytest.raises(VectorSourceError, match="two folds"):
        RidgeRegression().fit()


# --- the map and its file -------------------------------------------------------------------------------


def small_map(**changes) -> LinearMap:
    x, y = pairs()
    fitted = regression(x, y).fit()
    arrays = (array.astype(np.float32) for array in (fitted.weight, fitted.mean_x, fitted.mean_y))
    whole = LinearMap(*arrays, REFERENCE, False, fitted.penalty, 400, {"cosine": 0.5, "mean_cosine": 0.1})
    return replace(whole, **changes)


def test_a_saved_map_is_the_same_map(tmp_path):
    made, x = small_map(), pairs(seed=3)[0]
    made.save(tmp_path / "m.safetensors")
    read = load_map(tmp_path / "m.safetensors")
    np.testing.assert_array_equal(read(x), made(x))
    assert (read.encoder, read.unit_inputs, read.penalty) == (made.encoder, made.unit_inputs, made.penalty)
    assert (read.pairs, read.figures, read.input_dim) == (400, made.figures, 7)


def test_what_it_gives_has_the_length_that_the_encoders_give():
    x, y = pairs(noise=0.0)
    np.testing.assert_allclose(
        small_map()(x), y / np.linalg.norm(y, axis=1, keepdims=True), rtol=1e-3, atol=1e-4
    )
    plain = small_map(encoder=replace(REFERENCE, normalize=False))
    np.testing.assert_allclose(plain(x), y, rtol=1e-3, atol=1e-3)
    scaled = small_map(unit_inputs=True)
    np.testing.assert_allclose(scaled(x), scaled(x * 10), rtol=1e-6)
    with pytest.raises(VectorSourceError, match=r"shape \[2, 6\]; the map reads \[N, 7\]"):
        small_map()(x[:2, :6])


def test_files_that_are_no_map_or_damaged_are_refused(tmp_path):
    from safetensors.numpy import load_file, save_file

    path = tmp_path / "m.safetensors"
    with pytest.raises(VectorSourceError, match="There is no map"):
        load_map(path)
    path.write_bytes(b"no")
    with pytest.raises(VectorSourceError, match="cannot be read"):
        load_map(path)
    save_file({"weight": np.eye(3, dtype=np.float32)}, path)
    with pytest.raises(VectorSourceError, match="is not a map of `sgdd align`"):
        load_map(path)
    small_map().save(path)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(VectorSourceError, match="is damaged"):
        load_map(path)
    path.write_bytes(content[:-7])
    with pytest.raises(VectorSourceError, match="cannot be read"):
        load_map(path)
    small_map().save(path)
    save_file(load_file(path), path, {"format": "sgdd linear map", "format_version": "2", "sgdd": "9.0"})
    with pytest.raises(VectorSourceError, match=r"from sgdd 9.0, in a format"):
        load_map(path)
    with pytest.raises(VectorSourceError, match="cannot be written"):
        small_map().save(tmp_path / "gone" / "m.safetensors")


# --- the command ----------------------------------------------------------------------------------------

TEXTS = list(dict.fromkeys(builtin_sentences(500, seed=3)))
MINI = ("--checkpoint", "mini", "--device", "cpu", "--steps", 2)


@pytest.fixture(scope="module")
def model() -> SGDD:
    return SGDD.from_pretrained("mini", "cpu")


@pytest.fixture(scope="module")
def vectors(model) -> np.ndarray:
    return model.encode(TEXTS).numpy()


@pytest.fixture(scope="module")
def rotated(vectors) -> np.ndarray:
    rotation, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(384, 384)))
    return (vectors @ rotation).astype(np.float32)


@pytest.fixture(scope="module")
def aligned(rotated, tmp_path_factory):
    """The Parquet file of rotated vectors, their map, and what `sgdd align --json` said."""
    folder = tmp_path_factory.mktemp("aligned")
    # Rows that are no pairs, and one text twice.
    more = [None, np.zeros(384), rotated[0] * np.nan, rotated[1], rotated[2]]
    texts = [*TEXTS, "a", "b", "c", None, TEXTS[2].upper()]
    source = write_parquet(folder / "rows.parquet", [*rotated, *more], texts)
    path = folder / "map.safetensors"
    out, err = call("align", source, *MINI, "--texts", 4, "--out", path, "--json")
    return source, path, json.loads(out), err


@pytest.mark.offline_encoder
def test_rotated_vectors_are_mapped_back(aligned, model, vectors, rotated):
    source, path, said, err = aligned
    linear_map = load_map(path)
    assert (linear_map(rotated) * vectors).sum(axis=1).min() > 0.99
    assert said["pairs"] + said["held_out"] == len(TEXTS)
    assert said["held_out"] == len(TEXTS) // 5
    assert said["left_out"] == {
        "no vector": 1,
        "zeros only, NaN or infinite numbers": 2,
        "no text": 1,
        "a text that another row has": 1,
    }
    found = said["conditions"]
    assert set(found) == set(CONDITIONS)
    assert found["mapped"]["cosine"]["mean"] > 0.99
    assert found["mapped"]["rank_1"] > 0.99
    assert found["mapped"]["token_f1"]["mean"] == pytest.approx(found["true"]["token_f1"]["mean"], abs=0.1)
    assert found["true"]["cosine"]["mean"] == pytest.approx(1)
    assert abs(found["shuffled"]["cosine"]["mean"] - found["mean"]["cosine"]["mean"]) < 0.05
    assert found["mean"]["rank_1"] <= 1 / said["held_out"]  # one text is the nearest to it
    assert found["mean"]["cosine"]["mean"] < 0.6
    assert [point["pairs"] for point in said["curve"]] == [100, 300, said["pairs"]]
    cosines = [point["figures"]["cosine"]["mean"] for point in said["curve"]]
    assert cosines == sorted(cosines)
    assert said["verdicts"][0].startswith("As good as the model's own vectors: texts written")
    assert linear_map.figures["cosine"] == found["mapped"]["cosine"]["mean"]
    assert linear_map.unit_inputs
    assert not linear_map.encoder.differences(model.encoder_reference)
    assert f"sgdd read {source} --map {path} --limit 10 --checkpoint mini" in err


@pytest.mark.slow
@pytest.mark.offline_encoder
def test_mapped_vectors_are_written_like_the_models_own(aligned, vectors, rotated, tmp_path):
    path = aligned[1]
    source = write_parquet(tmp_path / "rows.parquet", rotated[:40], TEXTS[:40])
    np.save(tmp_path / "own.npy", vectors[:6])
    np.save(tmp_path / "tenfold.npy", rotated[:6] * 10)
    expected, _ = call("read", tmp_path / "own.npy", *MINI)
    found, err = call("read", source, *MINI, "--map", path, "--limit", 6)
    assert found == expected
    assert "Warning" not in err
    found, err = call("read", tmp_path / "tenfold.npy", *MINI, "--map", path)
    assert found == expected
    assert "as the map reads them; such vectors are scaled to it" in err


@pytest.mark.offline_encoder
def test_vectors_of_a_third_encoder_are_told(aligned, model, vectors, rotated, tmp_path):
    linear_map = load_map(aligned[1])
    path = write_parquet(tmp_path / "v.parquet", vectors[:40], TEXTS[:40])
    with pytest.raises(VectorSourceError, match="those of another encoder than the map's, or other texts'"):
        checked(model, path, linear_map=linear_map)
    np.save(tmp_path / "v.npy", vectors[:40])
    with pytest.raises(
        VectorSourceError, match=r"that are mapped far from .* another encoder than the map's"
    ):
        checked(model, tmp_path / "v.npy", linear_map=linear_map)
    assert len(checked(model, tmp_path / "v.npy", linear_map=linear_map, assume_same=True)[0]) == 40
    # Two of three rows with the text of another: closer than the mean vector, and less than the map was.
    mixed = [TEXTS[i] if i % 3 == 0 else TEXTS[(i + 9) % 40] for i in range(40)]
    path = write_parquet(tmp_path / "v.parquet", rotated[:40], mixed)
    (said,) = checked(model, path, linear_map=linear_map)[1]
    assert "when the map was made these were 1.00 and" in said


@pytest.mark.slow
@pytest.mark.offline_encoder
def test_tables_and_words_for_people(rotated, tmp_path):
    source = write_parquet(tmp_path / "rows.parquet", [*rotated[:60], None], [*TEXTS[:60], "none"])
    out, err = call("align", source, *MINI, "--texts", 2, "--out", tmp_path / "m.safetensors", COLUMNS="120")
    for words in (
        "Vectors of 384 numbers to those of `minilm`: 48 pairs, penalty ",
        "judged on 12 others, 2 of them written",
        "Left out: 1 row with no vector",
        *CONDITIONS.values(),
        "from mapped ",
        "written from mapped vectors",
    ):
        assert words in out, words
    assert "encoding: 60 texts, by `minilm`." in err
    (read,) = next_commands(err)
    assert read == ["read", str(source), "--map", str(tmp_path / "m.safetensors"), "--limit", "10", *MINI[:4]]
    assert len(call(*read, *MINI[4:])[0].splitlines()) == 10
    assert load_map(tmp_path / "m.safetensors").pairs == 48
    with pytest.raises(SgddError, match="is a folder"):
        call("align", source, *MINI, "--out", tmp_path)
    # A source with a password is not repeated.
    (tmp_path / "anna:geheim@").mkdir()
    source.rename(tmp_path / "anna:geheim@" / source.name)
    with_password = f"{tmp_path}//anna:geheim@/{source.name}"
    _, err = call("align", with_password, *MINI, "--texts", 2, "--out", tmp_path / "again.safetensors")
    assert next_commands(err)[0][:2] == ["read", "SOURCE"]
    assert "geheim" not in err.rpartition("Next:")[2]


@pytest.mark.offline_encoder
def test_maps_and_widths_that_do_not_fit_are_refused(aligned, model, rotated, tmp_path):
    source, path, *_ = aligned
    linear_map = load_map(path)
    other = replace(linear_map.encoder, weights_sha256="0" * 64, name="their encoder")
    replace(linear_map, encoder=other).save(tmp_path / "other.safetensors")
    with pytest.raises(
        EncoderError,
        match="made for the encoder `their encoder`, not for this model's, `minilm`: its weights",
    ):
        call("read", source, *MINI, "--map", tmp_path / "other.safetensors")
    np.save(tmp_path / "v.npy", rotated[:9, :200])
    with pytest.raises(VectorSourceError, match="vectors of 200 numbers; the map reads 384"):
        call("read", tmp_path / "v.npy", *MINI, "--map", path)
    with pytest.raises(VectorSourceError, match="this model reads 384") as caught:
        call("read", tmp_path / "v.npy", *MINI)
    assert "sgdd align" in (caught.value.hint or "")
    with pytest.raises(GenerationError) as raised:
        model.generate(rotated[:2, :200])
    assert "sgdd align" in (raised.value.hint or "")


def source_of(vectors, texts, rows) -> OpenSource:
    """A source that gives these rows in this order, three at a time."""
    batches = [
        VectorBatch([str(i) for i in some], vectors[some], [texts[i] for i in some])
        for some in (rows[start : start + 3] for start in range(0, len(rows), 3))
    ]
    return OpenSource("Rows", len(rows), (), iter(batches))


@pytest.mark.slow
def test_the_order_of_rows_does_not_matter_and_equal_texts_are_on_one_side(tiny_sgdd, tiny_pairs):
    x, texts = tiny_pairs
    rows = np.arange(len(texts)).tolist()
    first = align(tiny_sgdd, source_of(x, texts, rows), texts=3)
    again = align(tiny_sgdd, source_of(x, texts, rows[::-1]), texts=3)
    assert first.to_dict() == again.to_dict()
    np.testing.assert_array_equal(first.linear_map.weight, again.linear_map.weight)
    # Every text twice: the second ones change nothing.
    twice = align(tiny_sgdd, source_of(x, texts, rows + rows), texts=3)
    assert twice.left_out == {"a text that another row has": len(texts)}
    np.testing.assert_array_equal(first.linear_map.weight, twice.linear_map.weight)
    other = align(tiny_sgdd, source_of(x, texts, rows), texts=3, seed=1)
    assert not np.array_equal(first.linear_map.weight, other.linear_map.weight)


def test_no_more_pairs_than_asked_for(tiny_sgdd, tiny_pairs):
    x, texts = tiny_pairs
    found = align(tiny_sgdd, source_of(x, texts, list(range(len(texts)))), texts=2, pairs=40)
    assert (found.linear_map.pairs, found.held_out) == (40, 10)


@pytest.mark.slow
@pytest.mark.offline_encoder
def test_random_vectors_come_with_a_plain_word(model):
    x = np.random.default_rng(0).normal(size=(100, 12)).astype(np.float32)
    found = align(
        model, source_of(x, TEXTS, list(range(100))), texts=20, seed=1, sampling=SamplingConfig(steps=2)
    )
    assert found.verdicts[0].startswith("The map does not help: the written texts are no closer")
    assert not found.linear_map.unit_inputs
    assert found.conditions["mapped"].rank_1 < 0.3


def test_a_model_that_writes_nothing_is_not_the_fault_of_the_map(tiny_sgdd, tiny_pairs):
    x, texts = tiny_pairs
    found = align(tiny_sgdd, source_of(x, texts, list(range(len(texts)))), texts=9)
    assert found.verdicts[0].startswith("The model cannot write these texts, so only the cosine")


@pytest.fixture(scope="module")
def tiny_sgdd(tiny_encoder, sentences) -> SGDD:
    from tiny_sgdd import build

    return build(tiny_encoder, sentences)


@pytest.fixture(scope="module")
def tiny_pairs(tiny_sgdd, sentences):
    texts = list(dict.fromkeys(sentences))[:80]
    return tiny_sgdd.encode(texts).numpy()[:, ::-1].copy(), texts


@pytest.mark.parametrize("wrong", [{"pairs": 39}, {"texts": 0}, {"seed": -1}])
def test_numbers_out_of_range_are_refused(tiny_sgdd, tiny_pairs, wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        align(tiny_sgdd, source_of(*tiny_pairs, [0]), **wrong)


def test_bad_pairs_are_one_sentence(tiny_sgdd, tiny_pairs, tmp_path):
    x, texts = tiny_pairs
    np.save(tmp_path / "v.npy", x)
    with pytest.raises(VectorSourceError, match=r"has no texts, and a map is learned from") as caught:
        align(tiny_sgdd, open_vectors(str(tmp_path / "v.npy")))
    assert "--text-column" in (caught.value.hint or "")
    with pytest.raises(
        VectorSourceError, match="Rows has 9 pairs of a vector and a text; a map needs at least"
    ):
        align(tiny_sgdd, source_of(x, texts, list(range(9))))
    with pytest.raises(VectorSourceError, match="Rows has 0 pairs"):
        align(tiny_sgdd, source_of(x, [""] * len(texts), list(range(9))))
    with pytest.raises(VectorSourceError, match="All vectors are equal"):
        align(tiny_sgdd, source_of(np.ones_like(x), texts, list(range(80))))
    lines = [json.dumps({"text": t, "embedding": v.tolist()}) for t, v in zip(texts, x, strict=True)]
    lines[60] = json.dumps({"text": "short", "embedding": [1.0]})
    (tmp_path / "v.jsonl").write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(VectorSourceError, match="mixes widths"):
        align(tiny_sgdd, open_vectors(str(tmp_path / "v.jsonl")))


@pytest.mark.parametrize(
    ("mapped", "true", "says"),
    [
        (
            0.48,
            0.5,
            "As good as the model's own vectors: texts written from mapped vectors have a token F1 and ",
        ),
        (
            0.4,
            0.5,
            "The texts keep the meaning, not the wording: texts written from mapped vectors have a token F1 and ",
        ),
        (0.15, 0.5, "The texts keep little more than the topic: "),
        (0.1, 0.5, "The map does not help"),
        (0.1, 0.1, "The model cannot write these texts"),
    ],
)
def test_the_figures_choose_the_words(mapped, true, says):
    def scores(f1):
        values = f1 + np.array([-0.02, 0.02] * 10)
        return Scores(values, values > 0, values, values, [""] * 20)

    def point(pairs, cosine):
        return CurvePoint(pairs, 0.1, replace(scores(0.1).figures(0), cosine=Interval(cosine)))

    found = {"mapped": scores(mapped), "mean": scores(0.05), "shuffled": scores(0.1), "true": scores(true)}
    first, second = verdicts_on(found, [point(100, 0.6), point(300, 0.7)], 0)
    assert first.startswith(says)
    assert "from a map of shuffled pairs 0.10 and 0.10, from the model's own" in first
    assert ("the map keeps 75% and 75% of the difference" in first) == (mapped == 0.4)
    assert second.startswith("More pairs would help: the held-out cosine is 0.600 with 100 pairs and 0.700")
    assert "hardly help" in verdicts_on(found, [point(100, 0.6), point(300, 0.605)], 0)[1]
    assert len(verdicts_on(found, [point(100, 0.6)], 0)) == 1
