"""The picture by which a team invites: its name, its doctor, what it offers, and the code."""

import datetime
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from care.periods import LOCAL

_WIDTH, _HEIGHT = 750, 1200
_CODE = 420
_MARGIN = 60
_GREEN, _DARK, _GREY = (22, 120, 94), (30, 30, 30), (120, 120, 120)
_MOST_PACKAGES = 5
_SMALLEST = 26


@dataclass(frozen=True, slots=True, kw_only=True)
class Poster:
    """What is shown: `code` is the image that is scanned, `packages` the titles offered."""

    team: str
    doctor: str
    packages: Sequence[str]
    expires: datetime.datetime
    code: bytes


def drawn(poster: Poster, font: Path) -> bytes:
    """Return the PNG; words that are too long for their line are cut."""
    picture = Image.new("RGB", (_WIDTH, _HEIGHT), "white")
    draw = ImageDraw.Draw(picture)
    draw.rectangle((0, 0, _WIDTH, 200), fill=_GREEN)
    y = _line(draw, font, "家庭医生签约", 56, 66, "white")
    y = _line(draw, font, poster.team, 44, 240, _DARK)
    y = _line(draw, font, f"签约医生：{poster.doctor}", 34, y, _DARK) if poster.doctor else y
    shown = list(poster.packages[:_MOST_PACKAGES])
    if len(poster.packages) > _MOST_PACKAGES:
        shown[-1] = f"{shown[-1]} 等 {len(poster.packages)} 项"
    for title in shown:
        y = _line(draw, font, f"· {title}", 30, y, _GREY)
    with Image.open(io.BytesIO(poster.code)) as image:
        code = image.convert("RGB").resize((_CODE, _CODE))
    picture.paste(code, ((_WIDTH - _CODE) // 2, _HEIGHT - _CODE - 140))
    until = poster.expires.astimezone(LOCAL).strftime("%Y-%m-%d %H:%M")
    _line(draw, font, f"扫码签约，{until} 前有效", 30, _HEIGHT - 110, _GREY)
    made = io.BytesIO()
    picture.save(made, "PNG", optimize=True)
    return made.getvalue()


def _line(
    draw: ImageDraw.ImageDraw,
    font: Path,
    words: str,
    size: int,
    y: int,
    colour: str | tuple[int, int, int],
) -> int:
    """Write a centred line, smaller where it is long; return where the next one begins."""
    words = " ".join(words.split())
    face = ImageFont.truetype(str(font), size)
    while draw.textlength(words, font=face) > _WIDTH - 2 * _MARGIN and face.size > _SMALLEST:
        face = ImageFont.truetype(str(font), face.size - 2)
    while words and draw.textlength(words, font=face) > _WIDTH - 2 * _MARGIN:
        words = words[:-2] + "…" if words.endswith("…") else words[:-1] + "…"
    draw.text((_WIDTH / 2, y), words, font=face, fill=colour, anchor="ma")
    return y + round(size * 1.6)
