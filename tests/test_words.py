"""Words in many scripts: against the default word boundaries of Unicode, and by hand."""

import re

import pytest
import regex
from hypothesis import given, settings
from hypothesis import strategies as st

from sgdd_engine.text import words as words_module
from sgdd_engine.text.words import count_words, longest_word, spacing, words

# Letters with marks of scripts with spaces, and scripts without, Katakana left out (see `words`).
SPACED = [
    "it",
    "Ärger",
    "ta\u0323o",
    "o\u0305",
    "हिन्दी",
    "हिन्दू",
    "தமிழ்",
    "বাংলা",
    "ไทย",
    "한국어",
    "שָׁלוֹם",
    "سَلام",
    "می‌خواهم",
    "ʼn",
]
UNSPACED = ["中文", "ひらがな", "ภาษาไทย", "ລາວ", "ខ្មែរ", "မြန်မာ", "𠀀"]
UNICODE_BOUNDARY = regex.compile(r"(?w)\b")


@settings(deadline=None, max_examples=200)
@given(st.lists(st.sampled_from([*SPACED, *UNSPACED, " ", "7", "_"]), max_size=12).map("".join))
def test_words_without_punctuation_lie_between_the_word_boundaries_of_unicode(text):
    assert words(text) == [piece for piece in UNICODE_BOUNDARY.split(text) if piece.strip()]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("हिन्दी में लिखो।", ["हिन्दी", "में", "लिखो", "।"]),
        ("我喜欢苹果，2024年的iPhone！", [*"我喜欢苹果，", "2024", "年", "的", "iPhone", "！"]),
        ("スーパーで買う。", list("スーパーで買う。")),
        ("ดีมาก ครับ", ["ดี", "ม", "า", "ก", "ค", "รั", "บ"]),
        ("ស្រី ၂၅", ["ស្", "រី", "၂၅"]),
        ('צה"ל (ש״ס)', ['צה"ל', "(", "ש״ס", ")"]),
        ("می‌خواهم", ["می‌خواهم"]),
        ("col·lecció", ["col·lecció"]),
        # Marks that Han and kana take as well do not part a word.
        ("ta\u0323o", ["ta\u0323o"]),
        ("👩‍👩‍👧❤️!", ["👩‍👩‍👧", "❤️", "!"]),
        ("2½ at 3.5, p.m.", ["2½", "at", "3", ".", "5", ",", "p", ".", "m", "."]),
        ("  ", []),
    ],
)
def test_words_by_hand(text, expected):
    assert words(text) == expected


@settings(deadline=None, max_examples=200)
@given(st.text(st.characters(codec="latin-1", exclude_categories=["Cc", "Cf"]), max_size=40))
def test_words_of_western_text_are_those_of_earlier_versions(text):
    # U+00B7 joins words in Catalan; the earlier pattern knew it as a mark.
    text = text.replace("·", "")
    assert words(text) == re.findall(r"\w+(?:['’]\w+)*|[^\w\s]", text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("He said -- well-known , yes .", 7),
        ("Ärger — überall", 3),
        ("हिन्दी में लिखो।", 3),
        ("你好，世界。", 4),
        ("我用iPhone 手机。", 5),
        ("これは本です", 6),
        ("ดีมาก ครับ", 7),
        ("", 0),
    ],
)
def test_letters_of_scripts_without_spaces_count_as_words(text, expected):
    assert count_words(text) == expected


def test_text_that_is_counted_quickly_has_no_letters_of_scripts_without_spaces():
    quick = "".join(map(chr, [*range(0x0E00), *range(0x2000, 0x2E80)]))
    assert spacing(quick) == "spaced"
    assert not any(words_module._LETTER.match(character) for character in quick)


def test_no_run_of_letters_without_spaces_is_a_long_word():
    assert longest_word("我们" * 200) == longest_word("ไทย" * 200) == 0
    assert longest_word(f"看 {'x' * 150}。") == 151
    assert longest_word("a lang-es Wort") == 7


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Plain text.", "spaced"),
        ("हिन्दी में लिखो।", "spaced"),
        ("한국어 문장입니다.", "spaced"),
        ("He called it 道 all his life.", "spaced"),
        ("他喜欢用iPhone。", "han"),
        ("これは日本語です。", "unspaced"),
        ("ภาษาไทย", "unspaced"),
        ("…—", "spaced"),
    ],
)
def test_spacing_is_that_of_most_words(text, expected):
    assert spacing(text) == expected
