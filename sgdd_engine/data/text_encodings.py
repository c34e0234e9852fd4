"""Text encodings: the one that a byte-order mark names, and likely ones of bytes that are not UTF-8."""

import codecs
import re

MARK_BYTES = 4  # of the longest byte-order mark

# The mark of UTF-32-LE begins with that of UTF-16-LE, so it comes first.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)

_CHINESE = "的一是不了在有人我他这這中大来來上国國个個到说說们們为為子和你地出道也时時年得就那要下以，。"


def _alphabet(letters: str, share: float = 0.9) -> tuple[re.Pattern[str], float]:
    """Letters of a script that is not mixed with Latin letters inside a word."""
    return re.compile(f"(?<![A-Za-z])[{letters}](?![A-Za-z])"), share


def _accents(letters: str) -> tuple[re.Pattern[str], float]:
    """Accented Latin letters, which stand beside plain ones."""
    both = letters + letters.upper() + "’“”–—…"
    return re.compile(f"(?<=[A-Za-z]) ?[{both}]+|[{both}]+(?=[A-Za-z])"), 0.9


# For each encoding a pattern of frequent characters and their usual share of the non-ASCII characters of prose: the
# Chinese ones above make about a quarter of a text, kana about half of a Japanese one. Cyrillic and Greek capitals
# are left out, because KOI8-R and windows-1251 exchange the cases of each other's letters. Order breaks ties.
_TYPICAL = {
    "windows-1252": _accents("àâãäåæçèéêëìíîïñòóôõöøùúûüß"),
    "windows-1250": _accents("áäąćčďéęěíłńňóôöřśšťúůüýźżž"),
    "windows-1251": _alphabet("а-яё"),
    "windows-1255": _alphabet("א-ת"),
    "koi8-r": _alphabet("а-яё"),
    "windows-1253": _alphabet("α-ωάέήίόύώ"),
    "windows-1256": _alphabet("ا-ي"),
    "shift_jis": _alphabet("ぁ-んァ-ヶー、。", 0.5),
    "euc-jp": _alphabet("ぁ-んァ-ヶー、。", 0.5),
    "euc-kr": _alphabet("가-힣"),
    "gb18030": _alphabet(_CHINESE, 0.25),
    "big5": _alphabet(_CHINESE, 0.25),
}
# Below this share of the usual one an encoding is not named.
_LIKELY = 0.6


def marked_encoding(head: bytes) -> str | None:
    """The codec that the byte-order mark at the beginning of a text names; None without a mark."""
    return next((codec for mark, codec in _MARKS if head.startswith(mark)), None)


def likely_encodings(line: bytes) -> list[tuple[str, str]]:
    """Encodings in which a line that is not UTF-8 reads like prose, the likeliest first, and the line in each.

    At most two; none where no encoding of the table fits.
    """
    found: list[tuple[float, str, str]] = []
    for encoding, (pattern, share) in _TYPICAL.items():
        try:
            text = line.decode(encoding)
        except UnicodeDecodeError:
            continue
        foreign = sum(not character.isascii() for character in text)
        typical = sum(not character.isascii() for part in pattern.findall(text) for character in part)
        if text not in (reading for _, _, reading in found):  # another encoding may have the same letters
            found.append((min(1.0, typical / max(1, foreign) / share), encoding, text))
    found.sort(key=lambda item: -item[0])
    return [(encoding, text) for score, encoding, text in found[:2] if score >= _LIKELY]
