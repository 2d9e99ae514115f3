"""A synthetic district: institutions, family-doctor teams and residents, from a seed.

Nobody here exists: ID-card numbers carry the reserved region 999001, telephones begin with 100.
"""

import datetime
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from care.qualification import FAMILY_DOCTOR, INSURANCE_CODE, ROLES, STATE, registration_id
from conformance.identity_numbers import (
    ID_CARD_SYSTEM,
    TEST_REGION,
    check_character_of_id_card,
)

HEALTH_CARD_SYSTEM = "urn:oid:2.16.156.10011.1.19"
INSTITUTION_SYSTEM = "urn:oid:2.16.156.10011.1.5"
STAFF_SYSTEM = "urn:oid:2.16.156.10011.1.7"
RESIDENTS_PER_TEAM = 250
RESIDENTS_PER_STATION = 2_000

_SURNAMES = "王李张刘陈杨赵黄周吴徐孙胡朱高林何郭马罗梁宋郑谢韩唐冯于董萧程曹袁邓许傅沈曾彭吕"
_GIVEN_FEMALE = [
    "秀英",
    "桂兰",
    "淑珍",
    "玉兰",
    "雪梅",
    "晓燕",
    "海燕",
    "丽娟",
    "静怡",
    "梓涵",
    "欣怡",
    "雨桐",
    "思琪",
    "嘉怡",
    "诗涵",
    "若曦",
]
_GIVEN_MALE = [
    "建国",
    "建军",
    "志强",
    "国华",
    "文斌",
    "海涛",
    "浩然",
    "子轩",
    "宇航",
    "俊杰",
    "伟",
    "磊",
    "鹏",
    "明轩",
    "博文",
    "天佑",
]
_STREETS = ["和平路", "解放街", "桥南巷", "滨河路", "育才街", "丰收路", "杏林巷", "长乐街"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """A synthetic resident before it becomes a Patient or a message."""

    number: int
    surname: str
    given: str
    gender: str
    birth_on: datetime.date
    id_card: str
    health_card: str
    phone: str
    address: str

    @property
    def name(self) -> str:
        """Family name first, as it is written."""
        return self.surname + self.given


def people(seed: int, count: int) -> Iterator[Person]:
    """Yield the same `count` persons for the same seed."""
    chance = random.Random(seed)  # noqa: S311
    taken: set[str] = set()
    for number in range(1, count + 1):
        gender = chance.choice(("female", "male"))
        birth_on = datetime.date(2026, 1, 1) - datetime.timedelta(days=chance.randrange(90 * 365))
        serial = (number * 2 + (gender == "male")) % 1000  # odd for male
        while (first17 := f"{TEST_REGION}{birth_on:%Y%m%d}{serial:03d}") in taken:
            birth_on -= datetime.timedelta(days=1)
        taken.add(first17)
        street = chance.choice(_STREETS)
        yield Person(
            number=number,
            surname=chance.choice(_SURNAMES),
            given=chance.choice(_GIVEN_FEMALE if gender == "female" else _GIVEN_MALE),
            gender=gender,
            birth_on=birth_on,
            id_card=first17 + check_character_of_id_card(first17),
            health_card=f"{TEST_REGION}HC{seed:07d}{number:06d}",
            phone=f"100{number:08d}",
            address=f"测试省测试市测试区{street}{chance.randrange(1, 200)}号",
        )


def patient_of(person: Person, organisation: str) -> dict[str, Any]:
    """Return the person as a Patient resource, managed by the named Organization."""
    return {
        "resourceType": "Patient",
        "id": f"resident-{person.number}",
        "identifier": [
            {"use": "official", "system": ID_CARD_SYSTEM, "value": person.id_card},
            {"use": "usual", "system": HEALTH_CARD_SYSTEM, "value": person.health_card},
        ],
        "active": True,
        "name": [
            {"use": "official", "text": person.name, "family": person.surname,
             "given": [person.given]},
        ],
        "telecom": [{"system": "phone", "value": person.phone, "use": "mobile"}],
        "gender": person.gender,
        "birthDate": person.birth_on.isoformat(),
        "address": [{"use": "home", "text": person.address, "country": "CN"}],
        "managingOrganization": {"reference": f"Organization/{organisation}"},
    }  # fmt: skip


def district(seed: int, count: int) -> Iterator[dict[str, Any]]:
    """Yield institutions, doctors and teams, then `count` residents; references come first."""
    yield _organisation("district-authority", "测试区卫生健康局", "govt", None)
    yield _organisation("centre-1", "测试区第一社区卫生服务中心", "prov", "district-authority")
    stations = max(1, -(-count // RESIDENTS_PER_STATION))
    for station in range(1, stations + 1):
        name = "桥南社区卫生服务站" + (f"{station}" if station > 1 else "")
        yield _organisation(f"station-{station}", name, "prov", "centre-1")
    yield _organisation("hospital-1", "测试区人民医院", "prov", "district-authority")
    teams = max(1, -(-count // RESIDENTS_PER_TEAM))
    for team, leader in enumerate(people(seed + 1, teams), start=1):
        yield _practitioner(team, leader)
        yield _registration(team)
        yield _care_team(team)
    for person in people(seed, count):
        yield patient_of(person, f"station-{(person.number - 1) // RESIDENTS_PER_STATION + 1}")


def _organisation(key: str, name: str, kind: str, parent: str | None) -> dict[str, Any]:
    kinds = "http://terminology.hl7.org/CodeSystem/organization-type"
    organisation: dict[str, Any] = {
        "resourceType": "Organization",
        "id": key,
        "identifier": [{"system": INSTITUTION_SYSTEM, "value": f"{TEST_REGION}-{key}"}],
        "active": True,
        "type": [{"coding": [{"system": kinds, "code": kind}]}],
        "name": name,
    }
    if parent:
        organisation["partOf"] = {"reference": f"Organization/{parent}"}
    return organisation


def _practitioner(number: int, person: Person) -> dict[str, Any]:
    return {
        "resourceType": "Practitioner",
        "id": f"doctor-{number}",
        "identifier": [{"system": STAFF_SYSTEM, "value": f"{TEST_REGION}D{number:06d}"}],
        "active": True,
        "name": [{"text": person.name, "family": person.surname, "given": [person.given]}],
        "gender": person.gender,
        "qualification": [{"code": {"text": "全科医师 (general practitioner)"}}],
    }


def _registration(number: int) -> dict[str, Any]:
    """Return the doctor's reviewed registration, without which nobody signs contracts."""
    return {
        "resourceType": "PractitionerRole",
        "id": registration_id(f"Practitioner/doctor-{number}"),
        "identifier": [{"system": INSURANCE_CODE, "value": f"D{TEST_REGION}{number:06d}"}],
        "extension": [{"url": STATE, "valueCode": "approved"}],
        "active": True,
        "practitioner": {"reference": f"Practitioner/doctor-{number}"},
        "organization": {"reference": "Organization/centre-1"},
        "code": [{"coding": [_role(FAMILY_DOCTOR)]}],
    }


def _role(code: str) -> dict[str, str]:
    return {"system": ROLES, "code": code}


def _care_team(number: int) -> dict[str, Any]:
    return {
        "resourceType": "CareTeam",
        "id": f"team-{number}",
        "status": "active",
        "name": f"桥南家庭医生团队{number}",
        "participant": [
            {
                "role": [{"coding": [_role("leader")], "text": "团队长 (team leader)"}],
                "member": {"reference": f"Practitioner/doctor-{number}"},
                "onBehalfOf": {"reference": "Organization/centre-1"},
            }
        ],
        "managingOrganization": [{"reference": "Organization/centre-1"}],
    }
