import json
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from sgdd_engine.errors import DataError, EncoderError
from sgdd_engine.text import unigram
from sgdd_engine.text.tokenizer import TextTokenizer, readable, train_unigram

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def trained(sentences):
    return train_unigram(iter(sentences), 1500)


def byte_level(sentences, **specials: str):
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, initial_alphabet=alphabet, special_tokens=list(specials.values()), show_progress=False
    )
    tokenizer.train_from_iterator(sentences, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **specials)


@pytest.mark.parametrize("kind", ["tiny_encoder", "tiny_xlmr"])
def test_an_encoders_vocabulary_writes_text_back(kind, request, sentences):
    tokenizer = TextTokenizer.from_encoder(request.getfixturevalue(kind))
    ids = tokenizer.encode_batch(sentences)
    texts = tokenizer.decode_batch(ids)
    assert texts == [s.lower() for s in sentences] if tokenizer.lowercase else texts == sentences
    assert tokenizer.encode_batch(texts) == ids
    specials = {tokenizer.mask_id, tokenizer.bos_id, tokenizer.eos_id, tokenizer.pad_id}
    assert specials.isdisjoint(index for row in ids for index in row)
    assert max(index for row in ids for index in row) < tokenizer.vocab_size
    assert tokenizer.vocabulary().size == tokenizer.vocab_size
    assert tokenizer.kind == "encoder"


def test_special_ids_are_the_encoders_own(tiny_encoder, tiny_xlmr):
    bert = TextTokenizer.from_encoder(tiny_encoder)
    names = [bert.piece(i) for i in (bert.mask_id, bert.bos_id, bert.eos_id, bert.pad_id, bert.unk_id)]
    assert names == ["[MASK]", "[CLS]", "[SEP]", "[PAD]", "[UNK]"]
    assert bert.lowercase
    xlmr = TextTokenizer.from_encoder(tiny_xlmr)
    names = [xlmr.piece(i) for i in (xlmr.mask_id, xlmr.bos_id, xlmr.eos_id, xlmr.pad_id, xlmr.unk_id)]
    assert names == ["<mask>", "<s>", "</s>", "<pad>", "<unk>"]
    assert not xlmr.lowercase


@pytest.mark.parametrize("kind", ["tiny_encoder", "tiny_xlmr"])
def test_text_that_spells_special_pieces_puts_no_anchor_on_the_canvas(kind, request, trained):
    own = TextTokenizer.from_encoder(request.getfixturevalue(kind))
    for tokenizer in (own, trained):
        rows = tokenizer.encode_batch(["a letter <mask> </s><s> [MASK] [SEP] <pad>", "a letter"])
        assert {tokenizer.mask_id, tokenizer.bos_id, tokenizer.eos_id}.isdisjoint(rows[0])
        assert len(rows[1]) < len(rows[0])


def test_special_pieces_leave_no_trace_in_text(tiny_encoder, tiny_xlmr, trained, sentences):
    for tokenizer in (
        TextTokenizer.from_encoder(tiny_encoder),
        TextTokenizer.from_encoder(tiny_xlmr),
        trained,
    ):
        row = tokenizer.encode_batch(sentences[:1])[0]
        framed = [tokenizer.bos_id, *row, tokenizer.mask_id, tokenizer.eos_id, tokenizer.pad_id]
        assert tokenizer.decode_batch([framed]) == tokenizer.decode_batch([row])
        assert tokenizer.decode_batch([[], [tokenizer.mask_id]]) == ["", ""]


def test_a_byte_level_vocabulary_without_special_pieces_gets_them_at_the_end(sentences):
    bare = byte_level(sentences)
    tokenizer = TextTokenizer.from_fast(bare)
    size = len(bare)
    assert [tokenizer.mask_id, tokenizer.bos_id, tokenizer.eos_id] == [size, size + 1, size + 2]
    assert tokenizer.vocab_size == size + 3
    texts = [*sentences[:20], 'Zoë said "oh" — 🙂']
    assert tokenizer.decode_batch(tokenizer.encode_batch(texts)) == texts
    assert len(bare) == size
    roberta = byte_level(sentences, bos_token="<s>", eos_token="</s>", pad_token="<pad>", mask_token="<mask>")
    assert TextTokenizer.from_fast(roberta).vocab_size == len(roberta)


def test_a_vocabulary_that_cannot_write_is_refused():
    from transformers import PreTrainedTokenizerFast

    words = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({"a": 0}, unk_token="a")))
    with pytest.raises(EncoderError, match="WordLevel"):
        TextTokenizer.from_fast(words)


@pytest.mark.parametrize(
    "text",
    [
        "it's here, now.",
        "don't go; we'll wait, o'clock or not!",
        'she said, "come in," and left.',
        "'come in,' she said. 'now.'",
        "a well-known man (old, tired) paid $3.50 at 10:30.",
        "i do not know 1,000 people.",
        "in 1999, 20 of them went--so what?",
        "wait... what?!",
        "the boys' house.",
    ],
)
def test_wordpiece_words_become_readable_text(text):
    from tokenizers.pre_tokenizers import BertPreTokenizer

    assert readable([word for word, _ in BertPreTokenizer().pre_tokenize_str(text)]) == text


def test_readable_text_never_changes_letters():
    assert (
        readable(["it", "do", "not", "'", "s", "n", "'", "t", ".", ",", "!"]).replace(" ", "")
        == "itdonot'sn't.,!"
    )


def test_a_trained_vocabulary_gives_text_back_unchanged(trained, sentences):
    texts = [
        *sentences,
        'Zoë asked: "Isn\'t it 3.50?" — no… <0x41> 🙂',
        "日本語 x ' y'",
        "",
    ]
    assert trained.decode_batch(trained.encode_batch(texts)) == texts
    assert not trained.lowercase
    assert trained.kind == "unigram"
    assert (trained.bos_id, trained.pad_id, trained.eos_id, trained.unk_id) == (0, 1, 2, 3)
    assert trained.mask_id == trained.vocab_size - 1


def test_common_words_become_one_piece_and_punctuation_stays_apart(trained, sentences):
    pieces = {trained.piece(index) for index in range(trained.vocab_size)}
    assert {"▁the", "▁found", "▁didn't", "▁garden", "."} <= pieces
    assert not any(piece.endswith(".") and len(piece) > 1 for piece in pieces)
    words = sum(len(sentence.split()) for sentence in sentences)
    assert sum(map(len, trained.encode_batch(sentences))) < 1.3 * words


def test_the_size_of_a_trained_vocabulary_is_kept(sentences):
    for size in (64, 68):
        tokenizer = train_unigram(iter(sentences), size)
        assert tokenizer.vocab_size == size
    tiny = train_unigram(iter(["a b a b"]), 4000)
    assert tiny.decode_batch(tiny.encode_batch(["b a c"])) == ["b a c"]
    with pytest.raises(DataError, match="no text"):
        train_unigram(iter(["", " "]), 300)


def test_the_same_text_in_any_order_gives_the_same_vocabulary(sentences, tmp_path):
    expected = train_unigram(iter(sentences), 70).fingerprint()
    assert train_unigram(reversed(sentences), 70).fingerprint() == expected
    (tmp_path / "text").write_text("\n".join(sentences), encoding="utf-8")
    code = (
        "import sys, pathlib; from sgdd_engine.text.tokenizer import train_unigram;"
        "lines = pathlib.Path(sys.argv[1]).read_text(encoding='utf-8').split('\\n');"
        "print(train_unigram(iter(lines), 70).fingerprint())"
    )
    # Another process has other hash seeds.
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "text")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == expected


def test_words_are_learnt_by_how_often_they_stand_in_the_text(sentences):
    # The same words with the same counts, in other sentences.
    words = [word for sentence in sentences for word in sentence.split()]
    lines = (" ".join(words[start : start + 5]) for start in range(0, len(words), 5))
    expected = train_unigram(iter(sentences), 300)
    assert train_unigram(lines, 300).fingerprint() == expected.fingerprint()
    assert train_unigram(sentences + sentences[:100] * 3, 300).fingerprint() != expected.fingerprint()


def test_a_vocabulary_of_more_words_than_fit_in_memory_forgets_the_rarest(sentences, monkeypatch):
    monkeypatch.setattr(unigram, "_MOST_WORDS", 200)
    rare = (f"{sentence} once{index}" for index, sentence in enumerate(sentences * 5))
    counts = unigram._count_words(rare)
    assert len(counts) <= 200
    assert {"the", "found", "painted"} <= counts.keys()


def test_training_is_silent_and_leaves_no_file(sentences, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    # A tab, a character that the trainer reserves, a line beyond its usual limit.
    train_unigram(iter([*sentences, "a\tb", "⁇ ▅ ▁", "a sentence " * 1000]), 1500)
    with pytest.raises(DataError, match="too little text to train a vocabulary of 64 pieces"):
        train_unigram(iter(["▅"]), 64)
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")


def test_saved_and_loaded_it_is_the_same(trained, tiny_encoder, sentences, tmp_path):
    for name, tokenizer in (("a", trained), ("b", TextTokenizer.from_encoder(tiny_encoder))):
        paths = tokenizer.save(tmp_path / name)
        assert [path.name for path in paths] == ["tokenizer.json", "tokenizer_meta.json"]
        loaded = TextTokenizer.load(tmp_path / name)
        assert loaded.fingerprint() == tokenizer.fingerprint()
        assert loaded.vocabulary() == tokenizer.vocabulary()
        assert (loaded.kind, loaded.lowercase) == (tokenizer.kind, tokenizer.lowercase)
        text = [*sentences[:9], "[MASK] </s>"]
        assert loaded.encode_batch(text) == tokenizer.encode_batch(text)
        assert loaded.decode_batch(loaded.encode_batch(text)) == tokenizer.decode_batch(
            tokenizer.encode_batch(text)
        )
    assert trained.fingerprint() != loaded.fingerprint()


def test_a_missing_or_damaged_tokenizer_is_a_sentence(trained, tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        TextTokenizer.load(tmp_path / "nowhere")
    trained.save(tmp_path)
    path = tmp_path / "tokenizer.json"
    text = path.read_text(encoding="utf-8")
    path.write_text(text[: len(text) // 2], encoding="utf-8")
    with pytest.raises(DataError, match="cannot be read"):
        TextTokenizer.load(tmp_path)
    path.write_text(text.replace("▁garden", "▁gxrden"), encoding="utf-8")
    with pytest.raises(DataError, match="damaged or was changed"):
        TextTokenizer.load(tmp_path)
    path.write_text(text, encoding="utf-8")
    meta = tmp_path / "tokenizer_meta.json"
    meta.write_text(json.dumps(json.loads(meta.read_text()) | {"version": 99}))
    with pytest.raises(DataError, match="another version"):
        TextTokenizer.load(tmp_path)


# --- texts behind others ----------------------------------------------------------------------------------


@pytest.fixture(params=["unigram", "tiny_encoder", "tiny_xlmr", "byte level"])
def any_vocabulary(request, sentences, trained) -> TextTokenizer:
    if request.param == "unigram":
        return trained
    if request.param == "byte level":
        return TextTokenizer.from_fast(byte_level(sentences, bos_token="<s>", eos_token="</s>"))
    return TextTokenizer.from_encoder(request.getfixturevalue(request.param))


def test_a_sentence_is_cut_at_any_space_and_at_punctuation(any_vocabulary, sentences):
    for sentence in sentences[:40]:
        (whole,) = any_vocabulary.encode_batch([sentence])
        for at in [i for i, character in enumerate(sentence) if character in " ."]:
            (before,) = any_vocabulary.encode_batch([sentence[:at]])
            assert before + any_vocabulary.encode_behind(sentence[at:]) == whole
    assert any_vocabulary.encode_behind("") == []


def test_a_first_piece_neither_adds_a_space_nor_takes_one_away(any_vocabulary, sentences):
    (word,) = any_vocabulary.encode_batch(["a"])
    after_space, directly = (set(any_vocabulary.wrong_starts(before)) for before in (" ", '"'))
    for index in set(range(any_vocabulary.vocab_size)) - after_space:
        (text,) = any_vocabulary.decode_batch([[*word, index]])
        assert text.startswith("a ")
        assert len(text) > 2
    for sentence in sentences[:40]:
        words = sentence.split()
        assert any_vocabulary.encode_batch([sentence])[0][0] not in any_vocabulary.wrong_starts(None)
        assert any_vocabulary.encode_behind(f" {words[1]}")[0] not in after_space
        assert any_vocabulary.encode_behind(".")[0] in after_space
        assert any_vocabulary.encode_behind(".")[0] not in directly
    spaced = any_vocabulary.encode_behind(" garden")[0]
    assert (spaced in directly) == (any_vocabulary.piece(spaced)[:1] in "▁Ġ")
