"""Text made comparable: case, accents, full-width forms, spaces; Chinese names by sound."""

import re
import unicodedata
from functools import lru_cache

_LONGEST_NAME = 64  # characters; pypinyin takes minutes for some ten thousand
_DOUBLE_MARKS = "\u0f73\u0f75\u0f81"  # of class 0, but of two marks each (UAX #15, table 8)
_SPACES = re.compile(r"\s+")
_HAN = re.compile(r"[\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")

# Surnames whose reading is not the commonest one of the character (百家姓).
_SURNAMES = {
    "单": "shan", "曾": "zeng", "解": "xie", "仇": "qiu", "区": "ou", "查": "zha", "任": "ren",
    "盖": "ge", "朴": "piao", "秘": "bi", "种": "chong", "冼": "xian", "翟": "zhai", "尉": "wei",
    "长孙": "zhangsun", "尉迟": "yuchi", "万俟": "moqi", "澹台": "tantai", "令狐": "linghu",
    "繁": "po", "华": "hua", "洗": "xian", "员": "yun", "黑": "he", "折": "she", "覃": "qin",
    "缪": "miao", "召": "shao", "祭": "zhai", "乐": "yue", "那": "na", "牟": "mu", "逄": "pang",
    "乜": "nie", "葛": "ge", "晟": "cheng", "谌": "chen", "哈": "ha", "郗": "xi", "过": "guo",
}  # fmt: skip


def fold(text: str) -> str:
    """Return text folded for comparison: NFKD, no combining marks, casefolded, single spaces."""
    if text.isascii():
        folded = text.lower()
    else:
        if len(text) > _LONGEST_NAME:
            text = "".join(c for c in text if not _is_mark(c))
        plain = unicodedata.normalize("NFKD", text).casefold()
        plain = unicodedata.normalize("NFKD", plain)
        folded = "".join(c for c in plain if not unicodedata.combining(c))
    if " " in folded or "\n" in folded or "\t" in folded or not folded.isprintable():
        folded = _SPACES.sub(" ", folded).strip()
    return folded


def _is_mark(character: str) -> bool:
    """Say whether a character leaves nothing when folded.

    Normalising sorts each run of such marks, in time that grows with its square.
    """
    is_iota = character == "\u0345"  # becomes a letter
    return (unicodedata.combining(character) > 0 and not is_iota) or character in _DOUBLE_MARKS


def has_han(text: str) -> bool:
    """Say whether any Chinese character is in the text."""
    return not text.isascii() and _HAN.search(text) is not None


def sounds_of(name: str) -> tuple[str, ...]:
    """Return how a Chinese name is typed: full pinyin and initials, `("zhangwei", "zw")`.

    A name whose surname has a reading of its own gives that reading. Text without Chinese
    characters has no sounds; of a text longer than any name the beginning is read.
    """
    beginning = name[:_LONGEST_NAME]
    return _sounds(beginning) if has_han(beginning) else ()


@lru_cache(maxsize=65536)
def _sounds(name: str) -> tuple[str, ...]:
    folded = "".join(unicodedata.normalize("NFKC", name).split())
    syllables = _syllables(folded)
    return tuple(dict.fromkeys(("".join(syllables), "".join(s[:1] for s in syllables))))


def _syllables(name: str) -> list[str]:
    from pypinyin import lazy_pinyin  # loads its dictionary (some 0.2 s); only where needed

    for length in (2, 1):
        reading = _SURNAMES.get(name[:length])
        if reading is not None and len(name) > length:
            first = [reading] if length == 1 else [reading, *[""] * (length - 1)]
            if length == 2:
                single = lazy_pinyin(name[:2])
                first = _split_reading(reading, len(single[1]))
            return [*first, *lazy_pinyin(name[length:], v_to_u=False)]
    return [s.lower() for s in lazy_pinyin(name, v_to_u=False)]


def _split_reading(reading: str, second: int) -> list[str]:
    return [reading[:-second], reading[-second:]] if 0 < second < len(reading) else [reading]
