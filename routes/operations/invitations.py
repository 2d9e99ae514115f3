"""`CareTeam/[id]/$invitation-code`: the signed, short-lived code by which residents apply."""

import asyncio
import base64
import datetime
import io
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import qrcode

from care.agreement.poster import Poster, drawn
from care.contract import qr
from care.contract.qr import Invitation
from care.contract.surroundings import members_at
from care.effects import Resource, refuse
from care.names import written
from conformance.cphc.operations import definition_of
from conformance.problem import BusinessRule
from fhir_store.operations import Create
from fhir_store.site_secrets import site_secret
from fhir_store.transaction import Transaction
from fhir_store.versions import reference_key
from routes.answer import Answer
from routes.hub import Hub
from routes.operations.agreements import font
from routes.operations.contract_facts import key_of, new_id, unknown
from routes.operations.contract_parameters import Given, given_in
from routes.operations.parameters import bad_parameter, parameters_answer
from routes.registry import Operation as Promise
from routes.request import Request
from routes.writing import context_of

_PURPOSE = "invitation"


Draw = Callable[[str], Awaitable[tuple[str, bytes] | str]]
"""(scene) -> media type and bytes of the mini program's code, or why there is none."""
_TOKEN = "urn:qiao:invitation-token"  # noqa: S105 - the name of one


@dataclass(frozen=True, slots=True, kw_only=True)
class Invitations:
    """The operation; `draw` is None where no mini program is set up."""

    draw: Draw | None = None

    def promises(self) -> tuple[Promise, ...]:
        """Return the operation as the registry wants it."""
        return (
            Promise(
                code="invitation-code",
                definition=definition_of("CareTeam", "invitation-code"),
                levels=frozenset({"instance"}),
                types=frozenset({"CareTeam"}),
                handler=self.invitation_code,
                affects_state=True,
            ),
        )

    async def invitation_code(self, hub: Hub, request: Request) -> Answer:
        """Return a token, when it ends, the token as a QR image; on request more to share it by.

        `miniProgram` asks for the mini program's own code, `poster` for a picture with the code.
        """
        given = given_in(hub, request)
        now = datetime.datetime.now(datetime.UTC)
        expires = now + _lifetime(given)
        async with hub.store.begin() as transaction:
            team, doctor = await _team(request, transaction, given, now)
            key = await site_secret(transaction.connection, _PURPOSE)
            shown = await _shown(transaction, team, doctor, given)
        invitation = Invitation(
            team=f"CareTeam/{request.address.id}",
            doctor=doctor,
            packages=tuple(given.texts("package")),
            nonce=new_id(),
        )
        token = qr.issue(key, invitation, expires)
        image = io.BytesIO()
        qrcode.make(token).save(image)
        parts: list[dict[str, Any]] = [
            {"name": "invitation", "valueString": token},
            {"name": "expires", "valueInstant": expires.isoformat(timespec="seconds")},
            _attached("image", "image/png", image.getvalue()),
        ]
        code = image.getvalue()
        if given.flag("miniProgram"):
            scene, kind, code = await self._mini_program(hub, request, token)
            parts.append({"name": "scene", "valueString": scene})
            parts.append(_attached("miniProgramCode", kind, code))
        if given.flag("poster"):
            poster = Poster(**shown, expires=expires, code=code)
            drawn_ = await asyncio.to_thread(drawn, poster, font())
            parts.append(_attached("poster", "image/png", drawn_))
        return parameters_answer(parts)

    async def _mini_program(self, hub: Hub, request: Request, token: str) -> tuple[str, str, bytes]:
        """Have the code made for a scene, and keep which invitation the scene stands for."""
        if self.draw is None:
            raise _not_set_up()
        scene = uuid.uuid4().hex  # a scene has 32 characters, a token has more
        made = await self.draw(scene)
        if isinstance(made, str):
            raise _no_code(made)
        kept = {
            "resourceType": "Basic",
            "id": scene,
            "code": {"text": "签约邀请 (invitation to sign)"},
            "subject": {"reference": f"CareTeam/{request.address.id}"},
            "identifier": [{"system": _TOKEN, "value": token}],
        }
        await hub.store.write([Create(resource=kept, id=scene)], context=context_of(request))
        return scene, *made


def _lifetime(given: Given) -> datetime.timedelta:
    minutes = given.number("minutes")
    lifetime = qr.LIFETIME if minutes is None else datetime.timedelta(minutes=float(minutes))
    if not datetime.timedelta(0) < lifetime <= qr.LONGEST:
        raise bad_parameter(
            "minutes", f"Give 1 to {qr.LONGEST.days * 1440}.", "请给出 1 至 10080 分钟。"
        )
    return lifetime


async def _team(
    request: Request, transaction: Transaction, given: Given, now: datetime.datetime
) -> tuple[Resource, str]:
    """Return the team and the doctor of it who invites."""
    key = ("CareTeam", request.address.id)
    team = (await transaction.read_current([key])).get(key)
    if team is None:
        raise unknown(*key)
    doctor = given.maybe("doctor") or request.caller.fhir_user or ""
    if team.get("status") != "active" or doctor not in members_at(team, now):
        raise refuse(
            "invitation-doctor",
            "The team is not active, or the doctor takes no part in it",
            "团队未启用，或医生不是该团队成员",
            "Name a member of the team in `doctor` (Practitioner/id).",
            "请在 doctor 中指定本团队成员（Practitioner/id）。",
            "CareTeam.participant.member",
        )
    return team, doctor


async def _shown(
    transaction: Transaction, team: Resource, doctor: str, given: Given
) -> dict[str, Any]:
    """Return the words of a poster: names as the record has them."""
    plans = [key_of(one, "PlanDefinition", "package") for one in given.texts("package")]
    person = reference_key(doctor)
    found = await transaction.read_current([*plans, person])
    name: Resource = next(iter(found.get(person, {}).get("name", ())), {})
    text = written(name)
    titles = [str(found[one].get("title", one[1])) for one in plans if one in found]
    return {"team": str(team.get("name", "")), "doctor": text, "packages": titles}


def _attached(name: str, kind: str, data: bytes) -> dict[str, Any]:
    content = {"contentType": kind, "data": base64.b64encode(data).decode()}
    return {"name": name, "valueAttachment": content}


async def read_invitation(transaction: Transaction, token: str) -> Invitation:
    """Return what a token, or the scene that stands for it, invites to; refuse a forged one."""
    key = await site_secret(transaction.connection, _PURPOSE)
    if "." not in token:
        place = ("Basic", token)
        kept = (await transaction.read_current([place])).get(place, {})
        numbers = [one for one in kept.get("identifier", ()) if one.get("system") == _TOKEN]
        token = str(numbers[0].get("value", "")) if numbers else ""
    return qr.read(key, token, datetime.datetime.now(datetime.UTC))


def _no_code(reason: str) -> BusinessRule:
    return refuse(
        "mini-program-code",
        f"WeChat made no code ({reason})",
        f"微信未能生成小程序码（{reason}）",
        "Try again in some minutes, or share the plain code (leave miniProgram out).",
        "请数分钟后重试，或使用普通二维码（去掉 miniProgram）。",
    )


def _not_set_up() -> BusinessRule:
    return refuse(
        "mini-program-off",
        "No mini program is set up",
        "未配置微信小程序",
        "Set QIAO_WECHAT_URL, QIAO_WECHAT_APP_ID and QIAO_WECHAT_SECRET, or leave miniProgram out.",
        "请配置 QIAO_WECHAT_URL、QIAO_WECHAT_APP_ID 和 QIAO_WECHAT_SECRET，或去掉 miniProgram。",
    )
