"""The text of an agreement: clauses of a template filled in, and the digest that is signed.

A template is a Contract of status `policy`: `title`, `url`, `version`, one `term` for each clause
with its words in `term.text`; `{resident}`, `{id}`, `{team}`, `{start}`, `{end}`, `{total}` stand
for facts.
The digest is SM3 (GB/T 32905) over the whole text in UTF-8, lines ended by U+000A.
"""

import base64
import datetime
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from cryptography.hazmat.primitives import hashes

from care.contract import content
from care.contract.surroundings import Surroundings
from care.effects import Put, Resource, refuse
from care.names import written
from care.package.content import canonical_of, total_of

NAMES = frozenset({"resident", "id", "team", "start", "end", "total"})
ID_CARD = "urn:oid:2.16.156.10011.1.3"
_WORD = re.compile(r"\{([^{}]*)\}")
_TYPE = "签约协议文本 (text of the agreement)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """The whole text, and the template it was made from (`Contract/id`)."""

    text: str
    template: str

    @property
    def digest(self) -> str:
        """Return the SM3 of the text: 64 small hexadecimal digits."""
        return sm3(self.text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What two sides agree on; `packages` and `edits` by `PlanDefinition/id`."""

    packages: Mapping[str, Decimal]
    start: datetime.date
    end: datetime.date
    edits: Mapping[str, str]


def sm3(text: str) -> str:
    """Return the SM3 digest of a text in UTF-8."""
    digest = hashes.Hash(hashes.SM3())
    digest.update(text.encode())
    return digest.finalize().hex()


def compose(
    template: Resource,
    terms: Terms,
    *,
    resident: Resource,
    team: Resource,
    packages: Mapping[str, Resource],
    items: Mapping[str, Sequence[Resource]],
) -> Agreement:
    """Return the agreement of a resident with a team on packages, from a published template.

    `packages` are PlanDefinitions and `items` their ActivityDefinitions, by `PlanDefinition/id`.
    """
    if template.get("status") != "policy" or not template.get("term"):
        raise refuse(
            "template-not-published",
            "The template is no published set of clauses",
            "协议模板未发布或没有条款",
            "Name a Contract of status policy in `template`.",
            "请在 template 中指定已发布（policy）的协议模板。",
            "Contract.status",
        )
    facts = {
        "resident": name_of(resident),
        "id": masked_id(resident),
        "team": str(team.get("name") or team.get("id", "")),
        "start": _day(terms.start),
        "end": _day(terms.end),
        "total": f"{total_of(terms.packages):.2f}",
    }
    lines = [str(template.get("title", "家庭医生签约服务协议")), ""]
    lines += [f"甲方（居民）：{facts['resident']}　证件号码：{facts['id']}"]
    lines += [f"乙方（签约团队）：{facts['team']}"]
    lines += [f"协议期限：{facts['start']}至{facts['end']}", "", "服务包："]
    for reference, price in terms.packages.items():
        plan = packages[reference]
        title = str(plan.get("title") or reference)
        lines.append(f"　{title}（{canonical_of(plan)}）　{price:.2f} 元")
        lines += [f"　　· {item.get('title') or item.get('id')}" for item in items[reference]]
        if words := terms.edits.get(reference):
            lines.append(f"　　补充约定：{words}")
    lines.append("")
    lines += [_filled(str(clause.get("text", "")), facts) for clause in template["term"]]
    text = "\n".join(lines) + "\n"
    return Agreement(text=text, template=content.reference_to(template))


def archived(
    around: Surroundings, contract: Mapping[str, Any], agreement: Agreement
) -> tuple[dict[str, Any], Put]:
    """Return the contract naming its text, and the DocumentReference that keeps the text."""
    document = {
        "resourceType": "DocumentReference",
        "id": around.new_id(),
        "status": "current",
        "type": {"text": _TYPE},
        "subject": {"reference": content.resident_of(contract)},
        "date": around.now.isoformat(),
        "description": f"SM3 {agreement.digest}",
        "content": [
            {
                "attachment": {
                    "contentType": "text/plain;charset=utf-8",
                    "data": base64.b64encode(agreement.text.encode()).decode(),
                }
            }
        ],
        "context": {"related": [{"reference": content.reference_to(contract)}]},
    }
    changed = {
        **contract,
        "instantiatesCanonical": {"reference": agreement.template},
        "legal": [{"contentReference": {"reference": content.reference_to(document)}}],
    }
    return changed, Put(document, is_new=True)


def text_in(document: Resource) -> str:
    """Return the text that `archived` kept."""
    data = document["content"][0]["attachment"]["data"]
    return base64.b64decode(data).decode()


def name_of(person: Resource) -> str:
    """Return a name to print."""
    for name in person.get("name", ()):
        if text := written(name):
            return text
    return str(person.get("id", ""))


def masked_id(resident: Resource) -> str:
    """Return the identity number with the middle hidden, or what stands for a missing one."""
    for one in resident.get("identifier", ()):
        value = str(one.get("value", ""))
        if one.get("system") == ID_CARD and len(value) > 8:
            return value[:4] + "*" * (len(value) - 8) + value[-4:]
    return "（未登记）"


def _filled(clause: str, facts: Mapping[str, str]) -> str:
    unknown = sorted(set(_WORD.findall(clause)) - NAMES)
    if unknown:
        raise refuse(
            "template-word",
            f"The template has words that stand for nothing: {', '.join(unknown)}",
            f"协议模板中有无法填写的占位符：{'、'.join(unknown)}",
            f"Use {', '.join(sorted(NAMES))} in braces.",
            f"占位符只能使用 {'、'.join(sorted(NAMES))}。",
            "Contract.term.text",
        )
    return _WORD.sub(lambda found: facts[found[1]], clause)


def _day(day: datetime.date) -> str:
    return f"{day.year}年{day.month}月{day.day}日"
