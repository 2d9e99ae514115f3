"""The agreement as PDF: its text, both signatures, and a page to check it by.

The font is embedded (only the glyphs used), so it prints the same everywhere.
"""

import base64
import binascii
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fpdf import FPDF
from fpdf.enums import XPos, YPos
from PIL import Image

_FAMILY = "agreement"
_MOST_PIXELS = 4_000_000
_LINE = 7.0  # mm


@dataclass(frozen=True, slots=True, kw_only=True)
class Signer:
    """One who signed: side and name to print, when, and the image of the signature (bytes)."""

    side: str
    name: str
    when: str
    image: bytes | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sheet:
    """What is printed: the text, its digest, and the rows of the page to check by."""

    number: str
    text: str
    digest: str
    state: str
    signers: Sequence[Signer]
    checks: Sequence[tuple[str, str]]
    watermark: str = ""


class _Paper(FPDF):
    """A4 with number, page and digest at the foot of each page."""

    def __init__(self, sheet: Sheet, font: Path) -> None:
        super().__init__(format="A4")
        self._sheet = sheet
        self.set_margins(22, 20)
        self.set_auto_page_break(True, margin=22)
        self.add_font(_FAMILY, fname=font)
        self.set_title(f"家庭医生签约服务协议 {sheet.number}")
        self.set_lang("zh-CN")

    def header(self) -> None:
        """Write what the paper is while it is not signed."""
        if self._sheet.watermark:
            self.set_font(_FAMILY, size=52)
            self.set_text_color(225)
            with self.rotation(40, x=self.w / 2, y=self.h / 2):
                self.text(45, self.h / 2, self._sheet.watermark)
            self.set_text_color(0)

    def footer(self) -> None:
        """Write number, page and the beginning of the digest."""
        self.set_y(-15)
        self.set_font(_FAMILY, size=8)
        self.set_text_color(110)
        words = (
            f"协议编号 {self._sheet.number}　第 {self.page_no()} 页 / 共 {{nb}} 页　"
            f"SM3 {self._sheet.digest[:16]}…"
        )
        self.cell(0, 8, words, align="C")
        self.set_text_color(0)


def printed(sheet: Sheet, font: Path) -> bytes:
    """Return the PDF of a sheet with a TrueType or OpenType font file that has its characters."""
    paper = _Paper(sheet, font)
    paper.add_page()
    title, _, rest = sheet.text.partition("\n")
    paper.set_font(_FAMILY, size=18)
    paper.cell(0, 12, title, align="C", new_x=XPos.LMARGIN, new_y=YPos.NEXT)
    paper.set_font(_FAMILY, size=10)
    paper.cell(0, 8, f"协议编号：{sheet.number}", align="R", new_x=XPos.LMARGIN, new_y=YPos.NEXT)
    paper.set_font(_FAMILY, size=11)
    for line in rest.strip("\n").split("\n"):
        if line.strip("　 "):
            paper.multi_cell(0, _LINE, line, align="L", new_x=XPos.LMARGIN, new_y=YPos.NEXT)
        else:
            paper.ln(_LINE / 2)
    _signatures(paper, sheet.signers)
    _check_page(paper, sheet)
    return bytes(paper.output())


def image_of(signature: Mapping[str, Any]) -> bytes | None:
    """Return the image in a FHIR Signature as PNG; None where there is none that can be shown."""
    data = signature.get("data")
    if not isinstance(data, str):
        return None
    try:
        raw = base64.b64decode(data, validate=True)
        with Image.open(io.BytesIO(raw)) as image:
            if image.width * image.height > _MOST_PIXELS:
                return None
            made = io.BytesIO()
            image.convert("RGBA").save(made, format="PNG")
            return made.getvalue()
    except (binascii.Error, ValueError, OSError, Image.DecompressionBombError):
        return None


def _signatures(paper: _Paper, signers: Sequence[Signer]) -> None:
    if paper.will_page_break(55):
        paper.add_page()
    paper.ln(_LINE)
    top, width = paper.get_y(), paper.epw / 2
    for number, side in enumerate(("甲方（签字）", "乙方（签字）")):
        left = paper.l_margin + number * width
        signer = next((one for one in signers if one.side == side[:2]), None)
        paper.set_xy(left, top)
        paper.set_font(_FAMILY, size=11)
        paper.cell(width, _LINE, f"{side}：{signer.name if signer else ''}")
        if signer is not None and signer.image is not None:
            paper.image(
                io.BytesIO(signer.image),
                x=left,
                y=top + _LINE + 1,
                w=width - 12,
                h=24,
                keep_aspect_ratio=True,
            )
        paper.set_xy(left, top + _LINE + 27)
        paper.cell(width, _LINE, f"日期：{signer.when if signer else ''}")
    paper.set_xy(paper.l_margin, top + 45)


def _check_page(paper: _Paper, sheet: Sheet) -> None:
    paper.add_page()
    paper.set_font(_FAMILY, size=15)
    paper.cell(0, 12, "核验页 (check page)", new_x=XPos.LMARGIN, new_y=YPos.NEXT)
    paper.set_font(_FAMILY, size=10)
    rows = [
        ("协议编号", sheet.number),
        ("状态", sheet.state),
        ("协议文本 SM3", sheet.digest),
        *sheet.checks,
    ]
    for name, value in rows:
        paper.set_text_color(90)
        paper.cell(0, 6, name, new_x=XPos.LMARGIN, new_y=YPos.NEXT)
        paper.set_text_color(0)
        paper.multi_cell(0, 6, value or "—", new_x=XPos.LMARGIN, new_y=YPos.NEXT)
        paper.ln(1)
    paper.ln(4)
    paper.multi_cell(
        0,
        6,
        "核验方法：从平台取得本协议存档文本（Contract.legal 所指文件），以 UTF-8 编码计算 "
        "SM3（GB/T 32905）摘要，应与上列数值一致；不一致则本件与签署文本不同。",
        new_x=XPos.LMARGIN,
        new_y=YPos.NEXT,
    )
