"""`CareTeam/[id]/$invitation-code`: the signed, short-lived code by which residents apply."""

import base64
import datetime
import io

import qrcode

from care.contract import qr
from care.contract.qr import Invitation
from care.contract.surroundings import members_at
from care.effects import refuse
from conformance.cphc.operations import definition_of
from fhir_store.site_secrets import site_secret
from fhir_store.transaction import Transaction
from routes.answer import Answer
from routes.hub import Hub
from routes.operations.contract_facts import new_id, unknown
from routes.operations.contract_parameters import given_in
from routes.operations.parameters import bad_parameter, parameters_answer
from routes.registry import Operation as Promise
from routes.request import Request

_PURPOSE = "invitation"


def invitation_operation() -> Promise:
    """Return the operation as the registry wants it."""
    return Promise(
        code="invitation-code",
        definition=definition_of("CareTeam", "invitation-code"),
        levels=frozenset({"instance"}),
        types=frozenset({"CareTeam"}),
        handler=invitation_code,
        affects_state=True,
    )


async def invitation_code(hub: Hub, request: Request) -> Answer:
    """Return a token, when it ends, and the token as a QR image (PNG)."""
    given = given_in(hub, request)
    now = datetime.datetime.now(datetime.UTC)
    minutes = given.number("minutes")
    lifetime = qr.LIFETIME if minutes is None else datetime.timedelta(minutes=float(minutes))
    if not datetime.timedelta(0) < lifetime <= qr.LONGEST:
        raise bad_parameter(
            "minutes", f"Give 1 to {qr.LONGEST.days * 1440}.", "请给出 1 至 10080 分钟。"
        )
    async with hub.store.begin() as transaction:
        team = (await transaction.read_current([("CareTeam", request.address.id)])).get(
            ("CareTeam", request.address.id)
        )
        if team is None:
            raise unknown("CareTeam", request.address.id)
        actor = request.caller.fhir_user or ""
        doctor = given.maybe("doctor") or actor
        if team.get("status") != "active" or doctor not in members_at(team, now):
            raise refuse(
                "invitation-doctor",
                "The team is not active, or the doctor takes no part in it",
                "团队未启用，或医生不是该团队成员",
                "Name a member of the team in `doctor` (Practitioner/id).",
                "请在 doctor 中指定本团队成员（Practitioner/id）。",
                "CareTeam.participant.member",
            )
        key = await site_secret(transaction.connection, _PURPOSE)
    expires = now + lifetime
    invitation = Invitation(
        team=f"CareTeam/{request.address.id}",
        doctor=doctor,
        packages=tuple(given.texts("package")),
        nonce=new_id(),
    )
    token = qr.issue(key, invitation, expires)
    image = io.BytesIO()
    qrcode.make(token).save(image)
    attachment = {
        "contentType": "image/png",
        "data": base64.b64encode(image.getvalue()).decode(),
    }
    return parameters_answer(
        [
            {"name": "invitation", "valueString": token},
            {"name": "expires", "valueInstant": expires.isoformat(timespec="seconds")},
            {"name": "image", "valueAttachment": attachment},
        ]
    )


async def read_invitation(transaction: Transaction, token: str) -> Invitation:
    """Return what a token invites to; refuse one that is forged or over."""
    key = await site_secret(transaction.connection, _PURPOSE)
    return qr.read(key, token, datetime.datetime.now(datetime.UTC))
