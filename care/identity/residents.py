"""A row of a residents' sheet becomes a Patient, or the reasons why not, in words for a clerk."""

import datetime
import functools
import re
import unicodedata
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from care.identity.matching import ARCHIVE_SYSTEM, HEALTH_CARD_SYSTEM, names_of
from care.identity.sheets import Formula, Row, Sheet, require_a_heading, text_of, write_sheet
from conformance.cphc import BASE
from conformance.cphc.code_systems import code_systems
from conformance.identity_numbers import (
    ID_CARD_SYSTEM,
    NotAnIdCard,
    id_card_from_15_digits,
    read_id_card,
)

Resource = dict[str, Any]

NAME, NUMBER, SEX, BORN = "姓名", "证件号码", "性别", "出生日期"
PHONE, ETHNICITY, ADDRESS, REGION = "联系电话", "民族", "现住址", "区划代码"
ARCHIVE, HEALTH_CARD, GROUPS = "健康档案号", "健康卡号", "重点人群"
GUARDIAN, GUARDIAN_NUMBER, RELATION = "监护人姓名", "监护人证件号码", "与监护人关系"
ORGANISATION = "管理机构"
# Heading, gloss, whether it must be filled in.
COLUMNS: tuple[tuple[str, str, bool], ...] = (
    (NAME, "name", True),
    (NUMBER, "ID card, as text", True),
    (SEX, "sex, follows from the card", False),
    (BORN, "birth date, follows from the card", False),
    (PHONE, "telephone", False),
    (ETHNICITY, "ethnicity, name or code of GB/T 3304", False),
    (ADDRESS, "address", False),
    (REGION, "GB/T 2260 code of the address", False),
    (ARCHIVE, "archive number, 17 digits", False),
    (HEALTH_CARD, "health card", False),
    (GROUPS, "key populations, separated by 、", False),
    (GUARDIAN, "guardian's name", False),
    (GUARDIAN_NUMBER, "guardian's ID card", False),
    (RELATION, "relationship of the guardian, GB/T 4761", False),
    (ORGANISATION, "id of the managing Organization", False),
)
_EXTENSION = f"{BASE}/StructureDefinition/cphc-"
# What cannot be seen, or belongs to a formula or a page: no name has it, and a list shows it wrong.
_NO_NAME = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u00ad\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff<>=+@|{}\[\]\\]"
)
_PHONE = re.compile(r"\+?[0-9][0-9 \-]{5,19}")
_ID = re.compile(r"[A-Za-z0-9\-.]{1,64}")
_SEXES = {"男": "male", "1": "male", "女": "female", "2": "female"}
_DATES = ("%Y-%m-%d", "%Y/%m/%d", "%Y%m%d", "%Y.%m.%d", "%Y年%m月%d日")


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """A row as read: the Patient without an id, its ID card, its guardian, or what is wrong."""

    row: Row
    number: str = ""
    patient: Resource | None = None
    guardian: Resource | None = None
    reasons: tuple[str, ...] = ()


def template() -> bytes:
    """Return an empty sheet with the headings; a star marks what must be filled in."""
    headings = [f"{name}{'*' if must else ''} ({gloss})" for name, gloss, must in COLUMNS]
    return write_sheet(headings, [], title="居民")


def read_rows(
    sheet: Sheet, *, today: datetime.date, test_regions: Container[str] = ()
) -> list[Read]:
    """Read every row; one whose ID card an earlier row has is refused."""
    require_a_heading(sheet, [name for name, _, _ in COLUMNS])
    seen: dict[str, int] = {}
    found = []
    unknown = [one for one in sheet.headings if one and one not in {name for name, _, _ in COLUMNS}]
    missing = [name for name, _, must in COLUMNS if must and name not in sheet.headings]
    for row in sheet.rows:
        read = _Reader(row, today, test_regions).read()
        more = [f"缺少列 {name} (column missing)" for name in missing]
        more += [f"未知列 {name} (unknown column)" for name in unknown if text_of(row.cells[name])]
        first = seen.setdefault(read.number, row.number) if read.number else row.number
        if first != row.number:
            more.append(f"证件号码与第 {first} 行重复 (same ID card as row {first})")
        if more:
            read = Read(row=row, number=read.number, reasons=(*more, *read.reasons))
        found.append(read)
    return found


def united(stored: Resource, incoming: Resource) -> tuple[Resource, tuple[str, ...]]:
    """Return the stored Patient with what a row adds, and what speaks against it being the same.

    Numbers and key populations are joined; the mobile telephone, the home address and the
    organisation are replaced; name, sex and birth date are never changed by an import.
    """
    reasons = []
    if stored.get("deceasedBoolean") or "deceasedDateTime" in stored:
        reasons.append("档案显示该居民已死亡 (the record says that this resident has died)")
    if names_of(stored) and not names_of(stored) & names_of(incoming):
        reasons.append("该证件号码已登记在另一姓名下 (this ID card is known under another name)")
    result = dict(stored)
    known = {(one.get("system"), one.get("value")) for one in stored.get("identifier", ())}
    added = [one for one in incoming["identifier"] if (one["system"], one["value"]) not in known]
    if added:
        result["identifier"] = [*stored.get("identifier", ()), *added]
    for name, stands_for in (("telecom", _is_mobile), ("address", _is_home)):
        if name in incoming:
            kept = [one for one in stored.get(name, ()) if not stands_for(one)]
            result[name] = [*incoming[name], *kept]
    if "managingOrganization" in incoming:
        result["managingOrganization"] = incoming["managingOrganization"]
    for name in ("gender", "birthDate", "name"):
        result.setdefault(name, incoming[name])
    extensions = [*stored.get("extension", ())]
    urls = {one["url"] for one in extensions}
    extensions += [
        one
        for one in incoming.get("extension", ())
        if one not in extensions
        and (one["url"] not in urls or one["url"].endswith("key-population"))
    ]
    if extensions:
        result["extension"] = extensions
    return result, tuple(reasons)


def _is_mobile(telecom: Resource) -> bool:
    return telecom.get("system") == "phone" and telecom.get("use") in (None, "mobile")


def _is_home(address: Resource) -> bool:
    return address.get("use") in (None, "home")


def answer_sheet(sheet: Sheet, results: Mapping[int, tuple[str, Sequence[str]]]) -> bytes:
    """Return the sheet as it came with a result and reasons for each row; refused ones are red."""
    headings = [*(one or "" for one in sheet.headings), "结果 (result)", "原因 (reasons)"]
    rows = []
    for row in sheet.rows:
        result, reasons = results.get(row.number, ("", ()))
        cells = [text_of(row.cells.get(name)) for name in sheet.headings]
        rows.append(([*cells, result, "；".join(reasons)], bool(reasons)))
    return write_sheet(headings, rows, title="居民")


class _Reader:
    """Reads one row and collects all that is wrong with it."""

    def __init__(self, row: Row, today: datetime.date, test_regions: Container[str]) -> None:
        self._row = row
        self._today = today
        self._regions = test_regions
        self._reasons: list[str] = []

    def read(self) -> Read:
        for name, cell in self._row.cells.items():
            if isinstance(cell, Formula):
                self._wrong(name, "含公式，请粘贴为数值", "holds a formula; paste it as a value")
        name = self._name(NAME)
        if not name or len(name) > 50:
            self._wrong(NAME, "必填，不超过 50 字", "must be filled in, 50 characters at most")
        number, card = self._card(NUMBER)
        if not number and not self._reasons:
            self._wrong(NUMBER, "必填", "must be filled in")
        patient: Resource = {
            "resourceType": "Patient",
            "active": True,
            "extension": self._extensions(),
            "identifier": [
                {"use": "official", "system": ID_CARD_SYSTEM, "value": number},
                *self._more_numbers(),
            ],
            "name": [{"use": "official", "text": name}],
            "gender": self._sex(card.gender if card else None),
            "birthDate": self._born(card.birth_on if card else None),
            **self._contact(),
        }
        guardian = self._guardian()
        if self._reasons:
            return Read(row=self._row, number=number, reasons=tuple(self._reasons))
        return Read(row=self._row, number=number, patient=patient, guardian=guardian)

    def _text(self, name: str) -> str:
        return text_of(self._row.cells.get(name))

    def _name(self, column: str) -> str:
        name = self._text(column)
        if name and (_NO_NAME.search(name) or not any(one.isalpha() for one in name)):
            self._wrong(
                column,
                "含不可见或不能用于姓名的字符，请重新录入",
                "holds characters that cannot be seen or are of no name: type it anew",
            )
        return name

    def _digits(self, column: str) -> str:
        """Return a number as typed; digits of full width are those of half width."""
        return unicodedata.normalize("NFKC", self._text(column)).strip()

    def _wrong(self, name: str, zh: str, en: str) -> None:
        self._reasons.append(f"{name}：{zh} ({en})")

    def _card(self, name: str) -> tuple[str, Any]:
        value = self._row.cells.get(name)
        if isinstance(value, int | float):
            # Excel keeps 15 digits of a number; the others are lost for good.
            self._wrong(name, "须以文本格式存放", "stored as a number: format the column as text")
            return "", None
        number = self._digits(name).upper().replace(" ", "")
        if not number:
            return "", None
        if len(number) == 15 and number.isascii() and number.isdigit():
            number = id_card_from_15_digits(number)
        try:
            card = read_id_card(number, today=self._today, test_regions=self._regions)
        except NotAnIdCard as failure:
            self._wrong(name, "身份证号不合规则", str(failure))
            return number, None
        return number, card

    def _sex(self, of_card: str | None) -> str:
        text = self._text(SEX)
        sex = _SEXES.get(text.removesuffix("性"))
        if text and sex is None:
            self._wrong(SEX, "请写男或女", "write 男 or 女")
        if sex and of_card and sex != of_card:
            self._wrong(SEX, "与身份证号不符", "contradicts the ID card")
        return of_card or sex or "unknown"

    def _born(self, of_card: datetime.date | None) -> str:
        text = self._digits(BORN)
        if not text:
            return of_card.isoformat() if of_card else ""
        born = _date(text)
        if born is None:
            self._wrong(BORN, "请写成 YYYY-MM-DD", "write YYYY-MM-DD")
        elif of_card and born != of_card:
            self._wrong(BORN, "与身份证号不符", "contradicts the ID card")
        return born.isoformat() if born else ""

    def _more_numbers(self) -> Iterable[Resource]:
        archive, health = self._digits(ARCHIVE), self._text(HEALTH_CARD)
        if archive:
            if not re.fullmatch(r"[0-9]{17}", archive):
                self._wrong(ARCHIVE, "应为 17 位数字", "must have 17 digits")
            yield {"system": ARCHIVE_SYSTEM, "value": archive}
        if health:
            yield {"system": HEALTH_CARD_SYSTEM, "value": health}

    def _contact(self) -> Resource:
        found: Resource = {}
        phone, address, region = self._digits(PHONE), self._text(ADDRESS), self._digits(REGION)
        if phone:
            if not _PHONE.fullmatch(phone):
                self._wrong(PHONE, "不是电话号码", "is no telephone number")
            found["telecom"] = [{"system": "phone", "value": phone, "use": "mobile"}]
        if region and not re.fullmatch(r"[0-9]{6}", region):
            self._wrong(REGION, "应为 6 位数字", "must have 6 digits")
        if address or region:
            where: Resource = {"use": "home", "country": "CN"}
            if address:
                where["text"] = address
            if region:
                where["extension"] = [{"url": f"{_EXTENSION}region-code", "valueCode": region}]
            found["address"] = [where]
        organisation = self._text(ORGANISATION).removeprefix("Organization/")
        if organisation:
            if not _ID.fullmatch(organisation):
                self._wrong(ORGANISATION, "不是机构标识", "is no id of an Organization")
            found["managingOrganization"] = {"reference": f"Organization/{organisation}"}
        return found

    def _extensions(self) -> list[Resource]:
        # The number was checked, the person was not seen.
        found = [{"url": f"{_EXTENSION}verification-level", "valueCode": "1"}]
        ethnicity = self._text(ETHNICITY)
        if ethnicity:
            code = _codes("cphc-gbt-3304").get(ethnicity.removesuffix("族"))
            if code is None:
                self._wrong(ETHNICITY, "不在 GB/T 3304 中", "is not in GB/T 3304")
            else:
                found.append(_coded("ethnic-group", "cphc-gbt-3304", *code))
        for group in filter(None, re.split(r"[、,，;；]", self._text(GROUPS))):
            code = _codes("cphc-key-population").get(group.strip())
            if code is None:
                self._wrong(GROUPS, f"未知人群 {group[:20]}", "an unknown key population")
            else:
                found.append(_coded("key-population", "cphc-key-population", *code))
        return found

    def _guardian(self) -> Resource | None:
        name, relation = self._name(GUARDIAN), self._text(RELATION)
        number, _ = self._card(GUARDIAN_NUMBER)
        if not (name or number or relation):
            return None
        code = _codes("cphc-gbt-4761").get(relation) if relation else None
        if not name or code is None:
            self._wrong(
                GUARDIAN,
                "须同时填写姓名和 GB/T 4761 关系",
                "give the name and a relationship of GB/T 4761",
            )
            return None
        system = f"{BASE}/CodeSystem/cphc-gbt-4761"
        coding = {"system": system, "code": code[0], "display": code[1]}
        guardian: Resource = {
            "resourceType": "RelatedPerson",
            "active": True,
            "relationship": [{"coding": [coding]}],
            "name": [{"text": name}],
        }
        if number:
            guardian["identifier"] = [{"system": ID_CARD_SYSTEM, "value": number}]
        return guardian


def _coded(extension: str, system: str, code: str, display: str) -> Resource:
    coding = {"system": f"{BASE}/CodeSystem/{system}", "code": code, "display": display}
    return {"url": f"{_EXTENSION}{extension}", "valueCodeableConcept": {"coding": [coding]}}


@functools.cache
def _codes(id_: str) -> Mapping[str, tuple[str, str]]:
    """Return (code, display) by code, by display, and by display without what is in brackets."""
    found: dict[str, tuple[str, str]] = {}
    system = next(one for one in code_systems() if one["id"] == id_)
    for concept in _concepts(system.get("concept", ())):
        pair = (concept["code"], concept["display"])
        plain = re.split(r"[（(]", concept["display"], maxsplit=1)[0]
        for key in (concept["code"], concept["display"], plain, plain.removesuffix("族")):
            found.setdefault(key, pair)
        found.setdefault(plain.removesuffix("患者"), pair)
    return found


def _concepts(concepts: Iterable[Mapping[str, Any]]) -> Iterable[Mapping[str, Any]]:
    for one in concepts:
        yield one
        yield from _concepts(one.get("concept", ()))


def _date(text: str) -> datetime.date | None:
    for form in _DATES:
        try:
            return datetime.datetime.strptime(text, form).date()  # noqa: DTZ007  a day has no zone
        except ValueError:
            continue
    return None
