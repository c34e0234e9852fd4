"""`sgdd audit`: defences and attackers are what they say, items are found by their rules, and one audit end to end."""

import csv
import json
import re

import numpy as np
import pytest
from test_cli import call
from test_page import Page
from test_vectors_read import write_parquet

from sgdd_engine.audit.config import AuditConfig
from sgdd_engine.audit.defences import (
    Defence,
    GaussianPrior,
    OwnVectors,
    bits,
    build_defences,
    first,
    noise,
    pca,
    rotation,
    usual_strengths,
)
from sgdd_engine.audit.exposure import ITEMS, Recovery, item_rules, names, numbers, recovery, written_words
from sgdd_engine.audit.report import Attack, DefenceFigures, Leak
from sgdd_engine.audit.retrieval import (
    RetrievalQuality,
    chance_among,
    neighbours,
    ranking_gain,
    retrieval_quality,
)
from sgdd_engine.audit.verdicts import choice_verdict, defence_verdict
from sgdd_engine.errors import ConfigError, DataError, VectorSourceError
from sgdd_engine.evaluation.bootstrap import Interval
from sgdd_engine.generation import SGDD
from sgdd_engine.mini import CHECKPOINT, SENTENCES
from sgdd_engine.text.tokenizer import TextTokenizer

TEXTS = SENTENCES.read_text(encoding="utf-8").splitlines()
DIM = 24
HOSTILE = "She said <script>alert(1)</script> \u202eto him."


def some_vectors(count, seed=0):
    """Vectors of length 1 whose coordinates hang together and have a mean, as those of encoders have."""
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(99).standard_normal((DIM, DIM)) * np.linspace(1.5, 0.1, DIM)[:, None]
    rows = rng.standard_normal((count, DIM)) @ mixing + 1.0
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


VECTORS, OWN = some_vectors(60), OwnVectors(some_vectors(400, seed=1))


def stored(defence: Defence, e=VECTORS):
    return defence.protect(e, np.random.default_rng(5))


def attackers(defence: Defence):
    return {attacker.name: attacker for attacker in defence.attackers(OWN)}


def squared_error(defence: Defence, attacker: str) -> float:
    return float(np.square(attackers(defence)[attacker].estimate(stored(defence)) - VECTORS).mean())


# --- defences and attackers -----------------------------------------------------------------------------


def test_a_rotation_changes_no_neighbour_and_is_undone_by_known_pairs():
    secret = rotation(DIM, seed=3)
    rotated = stored(secret)
    quality = retrieval_quality(VECTORS, rotated[:20], rotated, seed=0)
    assert (quality.recall.mean, quality.ndcg.mean) == pytest.approx((1, 1), abs=1e-12)
    assert np.linalg.norm(rotated, axis=1) == pytest.approx(np.ones(60))
    known = attackers(secret)
    assert list(known) == ["as_stored", "pairs-100", "pairs-300"]
    found = known["pairs-300"].estimate(rotated)
    assert (found * VECTORS).sum(axis=1).min() > 0.999
    assert abs((known["as_stored"].estimate(rotated) * VECTORS).sum(axis=1).mean()) < 0.5
    assert not np.allclose(stored(rotation(DIM, seed=4)), rotated)


def test_no_noise_is_no_defence():
    none = noise(0, DIM)
    assert np.array_equal(stored(none), VECTORS)
    assert attackers(none)["denoise"].estimate(VECTORS) == pytest.approx(VECTORS, abs=1e-9)
    quality = retrieval_quality(VECTORS, VECTORS, stored(none), seed=0)
    assert (quality.recall.mean, quality.ndcg.mean) == pytest.approx((1, 1), abs=1e-12)


def test_noise_is_as_long_as_it_says_and_an_attacker_who_takes_it_away_is_closer():
    for strength in (0.5, 1.0, 2.0):
        noisy = noise(strength, DIM)
        lengths = np.linalg.norm(stored(noisy, np.tile(VECTORS, (50, 1))) - np.tile(VECTORS, (50, 1)), axis=1)
        assert np.square(lengths).mean() == pytest.approx(strength**2, rel=0.02)
        assert squared_error(noisy, "denoise") < 0.8 * squared_error(noisy, "as_stored")


@pytest.mark.parametrize("count", [2, 4, 8])
def test_rounding_changes_no_number_by_more_than_half_a_step(count):
    error = np.abs(stored(bits(count, DIM)) - VECTORS)
    steps = np.abs(VECTORS).max(axis=1) / (2 ** (count - 1) - 1)
    assert (error <= steps[:, None] / 2 + 1e-12).all()
    assert error.max() > 0
    assert len(np.unique(stored(bits(count, DIM), VECTORS[:1]))) <= 2**count


def test_one_bit_keeps_the_sign_and_hides_less_from_who_knows_the_encoder():
    signs = bits(1, DIM)
    assert (np.sign(stored(signs)) == np.where(VECTORS >= 0, 1, -1)).all()
    assert len(np.unique(np.abs(stored(signs, VECTORS[:1])))) == 1
    assert squared_error(signs, "denoise") < squared_error(signs, "as_stored")


def test_what_was_left_out_is_filled_in_better_than_with_zeros():
    for fewer, share in ((first(8, DIM), 0.8), (pca(8, DIM, OWN.vectors), 1.0)):
        assert stored(fewer).shape == (60, 8)
        assert squared_error(fewer, "fill") < share * squared_error(fewer, "as_stored")
    all_of_them = first(DIM, DIM)
    for attacker in ("fill", "as_stored"):
        assert squared_error(all_of_them, attacker) < 1e-12
    # No 8 directions keep more of the vectors' squares.
    kept = [np.square(stored(one, OWN.vectors)).sum() for one in (pca(8, DIM, OWN.vectors), first(8, DIM))]
    assert kept[0] > kept[1]


def test_the_covariance_is_shrunk_as_far_as_it_is_uncertain():
    wide = GaussianPrior.fit(np.random.default_rng(0).standard_normal((40, DIM)))
    many = GaussianPrior.fit(some_vectors(5000))
    sample = np.cov(some_vectors(5000).T, bias=True)
    assert many.covariance == pytest.approx(sample, abs=0.01 * np.abs(sample).max())
    # Of 40 draws from a standard normal the sample covariance has eigenvalues from nearly 0 to 3.
    assert np.linalg.eigvalsh(wide.covariance) == pytest.approx(np.ones(DIM), abs=0.6)


def test_defences_are_named_by_kind_and_strength():
    found = build_defences(["noise:0.5", "bits", "pca", "rotation", "bits:8"], VECTORS[:6], seed=0)
    assert [one.name for one in found] == [
        "noise:0.5",
        "bits:8",
        "bits:4",
        "bits:1",
        "pca:6",
        "pca:3",
        "rotation",
    ]
    assert len(build_defences(list(usual_strengths(384)), some_vectors(30), seed=0)) > 10
    for name, words in (
        ("blur", "`blur` is not a defence; there are noise, bits, first, pca, rotation"),
        ("rotation:3", "is not a defence"),
        ("noise:loud", "`loud` in `noise:loud` is not a number"),
        ("bits:0", "from 1 to 16"),
        ("bits:2.5", "from 1 to 16"),
        ("first:25", "from 1 to 24"),
        ("noise:-1", "between 0 and 100"),
        ("noise:nan", "between 0 and 100"),
        ("first:nan", "from 1 to 24"),
        ("pca:20", "6 vectors are too few"),
    ):
        with pytest.raises(ConfigError, match=re.escape(words)):
            build_defences([name], VECTORS[:6], seed=0)


# --- retrieval ------------------------------------------------------------------------------------------


def test_neighbours_are_the_nearest_others():
    rows = np.array([[1.0, 0.0], [1.0, 0.1], [1.0, 1.0], [-1.0, 0.0]])
    assert neighbours(rows, rows, 3).tolist() == [[1, 2, 3], [0, 2, 3], [1, 0, 3], [2, 1, 0]]
    assert neighbours(3 * rows[:2], rows, 1).tolist() == [[1], [0]]


def test_ndcg_is_one_for_the_same_order_and_falls_with_it():
    wanted = np.array([[4, 7, 9]])
    gains = [
        float(ranking_gain(wanted, np.array([found]))[0])
        for found in ([4, 7, 9], [7, 4, 9], [9, 7, 4], [1, 2, 4], [1, 2, 3])
    ]
    assert gains[0] == 1
    assert gains == sorted(gains, reverse=True)
    assert gains[-1] == 0
    # By hand: (2 + 3 / log2(3) + 1 / 2) / (3 + 2 / log2(3) + 1 / 2).
    assert gains[1] == pytest.approx((2 + 3 / np.log2(3) + 0.5) / (3 + 2 / np.log2(3) + 0.5))


# --- names, numbers, rare words -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Then Anna met Mr. Barry and J. Smith's aunt in Paris.", ["anna", "barry", "smith", "paris"]),
        ('Anna laughed. Tom did not. "Why," said Anne, "Come!"', ["anne"]),
        ("I think I'm late, and I’ve told Doctor Who.", ["doctor", "who"]),
        ("CHAPTER TWO THE STORM", []),
        ("", []),
        ("They met Anna and saw Anna again.", ["anna"]),
    ],
)
def test_names_are_capitalised_words_that_begin_no_sentence(text, found):
    assert names(text) == found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("It was 1,234.50 pounds on 3/4/1890 at 10:30.", ["1,234.50", "3/4/1890", "10:30"]),
        ("Twenty-five men and one woman of the 21st, aged forty.", ["21st", "twenty", "five", "forty"]),
        ("One of them was alone.", []),
    ],
)
def test_numbers_have_digits_or_are_number_words(text, found):
    assert numbers(text) == found


def test_rare_words_have_no_piece_of_their_own():
    rules = item_rules(TextTokenizer.load(CHECKPOINT))
    assert rules["rare_words"]("The gorgeously bespectacled man opened the door of the Ottoman.") == [
        "gorgeously",
        "bespectacled",
    ]


def test_items_are_found_whatever_their_place_case_and_possessive():
    assert {"anna", "barry", "10:30", "house"} <= written_words("At 10:30 BARRY's house was Anna’s.")
    found = recovery(
        [["anna", "tom"], [], ["12"], ["paris"]], ["Tom", "anna", "12!", "x"], ["", "", "", "in Paris"], 0
    )
    assert (found.items, found.texts) == (4, 3)
    assert (found.own.mean, found.shuffled.mean, found.gain.mean) == (0.5, 0.25, 0.25)
    assert recovery([[], []], ["a", "b"], ["b", "a"], 0).own is None


def leak(f1, other, *, names=(0.0, 0.0), width=0.01, calls=8) -> Leak:
    """Figures of one attack on 40 texts; `names`: the shares written from the own and from another row's vector."""

    def near(mean):
        return Interval(mean, mean - width, mean + width)

    figures = {"token_f1": near(f1)}
    nothing = Recovery(0, 0, None, None, None)
    items = dict.fromkeys(ITEMS, nothing) | {
        "names": Recovery(50, 40, near(names[0]), near(names[1]), near(names[0] - names[1]))
    }
    return Leak(calls, calls, figures, {"token_f1": near(other)}, {"token_f1": near(f1 - other)}, items, [])


def defended(name, recall, **attacks) -> DefenceFigures:
    found = [Attack(label, label, Interval(0.5), [figures]) for label, figures in attacks.items()]
    return DefenceFigures(name, name, "", RetrievalQuality(Interval(recall), Interval(recall)), found)


def test_a_defence_is_judged_by_the_attacker_who_is_furthest_above_the_control():
    # The estimates of one attacker bring common words, whichever row they are of.
    found = defended("noise:1", 0.9, blunt=leak(0.20, 0.195), sharp=leak(0.19, 0.13))
    assert found.strongest.name == "sharp"
    verdict = defence_verdict(found, 40, 1000)
    assert verdict.ok is False
    assert "no wording" not in verdict.sentence
    nothing = defence_verdict(defended("noise:1", 0.9, blunt=leak(0.20, 0.195)), 40, 1000)
    assert nothing.ok is None
    assert "no wording is given away to these attackers" in nothing.sentence


def test_names_that_one_attacker_alone_writes_are_given_away():
    found = defended("noise:1", 0.9, blunt=leak(0.2, 0.198), other=leak(0.2, 0.199, names=(0.3, 0.0)))
    assert found.strongest.name == "blunt"
    verdict = defence_verdict(found, 40, 1000)
    assert verdict.ok is False
    assert "The attacker “other” writes 30 % (29 to 31 %) of the names." in verdict.sentence


def test_of_two_defences_the_one_that_leaves_less_above_the_control_is_named():
    low = defended("noise:1", 0.95, one=leak(0.25, 0.24))
    high = defended("noise:2", 0.95, one=leak(0.22, 0.10))
    assert "Of these “noise:1” leaves the least wording" in choice_verdict([low, high], 40, 1000).sentence


def test_neighbours_among_few_vectors_are_found_by_chance():
    random = np.random.default_rng(0)
    for count in (8, 11, 40):
        rows, others = random.standard_normal((2, count, DIM))
        recall = retrieval_quality(rows, others, others, seed=0).recall.mean
        assert recall == pytest.approx(chance_among(count), abs=0.1)
    assert chance_among(11) == 1
    found = defended("noise:1", 0.95, one=leak(0.25, 0.24))
    assert "unrelated ones would find 26 %" in defence_verdict(found, 40, 40).sentence
    assert "unrelated" not in defence_verdict(found, 40, 1000).sentence
    choice = choice_verdict([found], 40, 40)
    assert "cannot be told among 40 vectors" in choice.sentence


# --- the command ----------------------------------------------------------------------------------------

QUICK = ("--checkpoint", "mini", "--device", "cpu", "--calls", "1,8", "--defence-calls", 1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A file of texts, one of them markup."""
    folder = tmp_path_factory.mktemp("audit")
    (folder / "texts.txt").write_text("\n".join([HOSTILE, *TEXTS[:57]]), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def audited(folder):
    """One audit: what it printed, and its page."""
    page = folder / "audit.html"
    texts = folder / "few.txt"
    # Without the other rows no attacker can learn; so the attacker has a file.
    texts.write_text("\n".join([HOSTILE, *TEXTS[:5]]), encoding="utf-8")
    out, err = call(
        *("audit", texts, "--attacker-texts", folder / "texts.txt", *QUICK),
        *("--defences", "noise:1,rotation", "--report", page, "--json"),
    )
    return json.loads(out), err, page.read_text(encoding="utf-8")


@pytest.mark.offline_encoder
def test_an_audit_end_to_end(audited):
    found, err, _ = audited
    assert (found["texts"], found["own_texts"], found["documents"]) == (6, 52, 58)
    one, last = found["leaks"]
    assert [one["calls"], last["calls"]] == [1, 8]
    assert one["spent"] == 1 < last["spent"] <= 8
    assert last["own"]["cosine"]["mean"] >= one["own"]["cosine"]["mean"] > 0.6
    for leak in (one, last):
        assert leak["shuffled"]["token_f1"]["mean"] < 0.6 * leak["own"]["token_f1"]["mean"]
        assert leak["gain"]["token_f1"]["low"] > 0
    noisy, secret = found["defences"]
    assert [attack["name"] for attack in noisy["attacks"]] == ["as_stored", "denoise"]
    assert [attack["name"] for attack in secret["attacks"]] == [
        "as_stored"
    ]  # 52 texts are fewer than 100 pairs
    assert secret["retrieval"]["recall"]["mean"] == 1 > noisy["retrieval"]["recall"]["mean"]
    as_stored, denoised = (attack["cosine"]["mean"] for attack in noisy["attacks"])
    assert denoised > as_stored == pytest.approx(0.5**0.5, abs=0.05)
    assert secret["attacks"][0]["leaks"][0]["own"]["token_f1"]["mean"] < one["own"]["token_f1"]["mean"]
    assert sorted(row["row"] for row in found["rows"]) == list(range(6))
    scores = [row["token_f1"] for row in found["rows"]]
    assert scores == sorted(scores, reverse=True)
    assert [len(attack["texts"]) for attack in noisy["attacks"]] == [6, 6]
    assert "Report:" in err
    # Held against plain vectors that are searched for with as many calls as the defended ones, of which there is one.
    assert found["undefended"]["calls"] == 1
    assert found["undefended"]["own"] == one["own"]


@pytest.mark.offline_encoder
def test_few_texts_allow_no_conclusion(audited):
    for verdict in audited[0]["verdicts"]:
        assert verdict["ok"] is not True
    by_name = {verdict["name"]: verdict["sentence"] for verdict in audited[0]["verdicts"]}
    assert "cannot be told from 6 texts" in by_name["wording"]
    assert "6 texts are too few" in by_name["noise:1"]
    assert "lower bounds" in by_name["lower_bound"]


@pytest.mark.offline_encoder
def test_the_page_holds_every_text_and_obeys_none(audited):
    found, _, page = audited
    shown = Page(page)
    scripts = [attributes for tag, attributes in shown.elements if tag == "script"]
    assert len(scripts) == 1
    assert "<script>alert" not in page
    assert "\u202e" not in page
    # Words that came back are marked, which parts the text.
    assert "Shesaid<script>alert(1)</script>" in shown.text.replace(" ", "")
    for row in found["rows"]:
        for word in re.findall(r"[a-z]{4,}", row["text"]):
            assert word in shown.text
    links = {attributes["href"][1:] for tag, attributes in shown.elements if tag == "a"}
    ids = {attributes.get("id") for _, attributes in shown.elements}
    assert links <= ids
    assert {"controls", "list", "words", "group", "order", "count"} <= ids
    assert "2310.06816" in shown.text
    assert not re.search(r"(src|href)=\"(http|/)", page)


@pytest.mark.offline_encoder
def test_the_rows_of_a_store_are_audited_with_their_vectors(tmp_path):
    texts = [*TEXTS[:5], "", TEXTS[0], " ".join(["word"] * 60)]
    vectors = SGDD.from_pretrained("mini", "cpu").encode([text or "none" for text in texts]).numpy()
    store = write_parquet(tmp_path / "rows.parquet", vectors, texts, [f"r{number}" for number in range(8)])
    out, err = call(
        *("audit", "--vectors", store, "--ids", "key", "--checkpoint", "mini", "--device", "cpu"),
        *("--calls", 1, "--defences", "none", "--limit", 5, "--report", tmp_path / "page.html"),
    )
    page = Page((tmp_path / "page.html").read_text(encoding="utf-8"))
    assert "Under defences" not in page.text
    assert "rows.parquet" in page.text
    assert str(tmp_path) not in page.text
    for reason in ("no text", "a text that another row has", "more than the model's 32 tokens"):
        assert f"1 row of 8 with {reason}" in err
    assert "writes 5 texts again" in out
    assert "row r" in out
    np.save(tmp_path / "bare.npy", vectors)
    with pytest.raises(VectorSourceError, match="holds no texts"):
        call("audit", "--vectors", tmp_path / "bare.npy", "--checkpoint", "mini", "--device", "cpu")


@pytest.mark.offline_encoder
def test_wrong_inputs_get_one_sentence(folder, tmp_path):
    texts = folder / "texts.txt"
    one = tmp_path / "one.txt"
    one.write_text(f"{TEXTS[0]}\n", encoding="utf-8")
    table = tmp_path / "table.csv"
    with table.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("id", "body"), *enumerate(TEXTS[:4])])
    found, _ = call(
        *(
            "audit",
            table,
            "--column",
            "body",
            "--calls",
            1,
            "--defences",
            "none",
            "--checkpoint",
            "mini",
            "--json",
        )
    )
    audited = {row["source"] for row in json.loads(found)["rows"]}
    assert audited
    assert audited <= set(TEXTS[:4])
    for arguments, error, words in (
        ((), ConfigError, "none was named"),
        ((texts, "--vectors", "x.npy"), ConfigError, "both were named"),
        ((texts, "--calls", "8,1"), ConfigError, "numbers from 1 on that rise"),
        ((texts, "--calls", "0,4"), ConfigError, "numbers from 1 on that rise"),
        ((texts, "--calls", "many"), ConfigError, "whole numbers that rise"),
        ((texts, "--calls", ""), ConfigError, "whole numbers that rise"),
        ((texts, "--limit", 1), ConfigError, "at least 2"),
        ((texts, "--seed", -1), ConfigError, "between 0 and"),
        ((texts, "--defences", "blur"), ConfigError, "`blur` is not a defence"),
        ((one,), DataError, "at least 2"),
        ((texts, "--ids", "key", "--assume-same"), ConfigError, "rows of a store only: --ids, --assume-same"),
        ((table, "--column", "other"), DataError, "has no column `other`"),
        (
            (texts, "--attacker-texts", "own.txt", "--defences", "none"),
            ConfigError,
            "Without a defence no attacker",
        ),
    ):
        with pytest.raises(error, match=re.escape(words)):
            call("audit", *arguments, "--checkpoint", "mini", "--device", "cpu")
    with pytest.raises(ConfigError) as caught:
        call("audit", texts, "--text-column", "body", "--checkpoint", "mini")
    assert "The column of the texts in a table is --column." in caught.value.hint
    with pytest.raises(ConfigError, match="own_texts is -1"):
        AuditConfig(own_texts=-1)
