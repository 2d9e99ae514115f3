"""The channels that reach people: built from the settings, each a destination of the outbox."""

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from adapters.notify.notice_text import NoticeText
from adapters.notify.sms import SmsAccount, SmsSender
from adapters.notify.wechat import WechatSender
from adapters.notify.wechat_api import WechatAccount
from adapters.port import Outgoing, Receipt, Sender, Verdict
from care.contract.surroundings import is_deceased
from care.reminder import QuietHours, address_of, category_of, channels_of, words_of
from conformance.problem import Gone, NotFound
from conformance.resource_json import parse
from fhir_store.operations import Version, Written
from fhir_store.outbox import Delivery, Owed
from fhir_store.store import Store
from ops.flow_delivery import Destination, Document
from ops.settings import Settings

_PREFIX = "notify-"


def choose_notices(written: Written) -> Sequence[Delivery]:
    """Owe the channel of a new attempt its notice."""
    version, resource = written.version, written.resource or {}
    is_attempt = (
        version.type == "Communication"
        and written.changed
        and version.version == 1
        and resource.get("status") == "in-progress"
        and bool(resource.get("basedOn"))
    )
    if not is_attempt:
        return ()
    return (Delivery(destination=_PREFIX + channels_of(resource)[0]),)


def senders_of(settings: Settings) -> dict[str, Sender]:
    """Return the sender of each channel that is set up."""
    senders: dict[str, Sender] = {}
    sms = sms_sender(settings)
    if sms is not None:
        senders["sms"] = sms
    account = wechat_account(settings)
    if account is not None:
        senders["wechat"] = WechatSender(account)
    return senders


def sms_sender(settings: Settings) -> SmsSender | None:
    """Return what sends SMS, None where none is set up."""
    if not (settings.sms_url and settings.sms_secret_key):
        return None
    return SmsSender(
        SmsAccount(
            endpoint=settings.sms_url,
            secret_id=settings.sms_secret_id,
            secret_key=settings.sms_secret_key.get_secret_value(),
            app_id=settings.sms_app_id,
            sign_name=settings.sms_sign_name,
        )
    )


def wechat_account(settings: Settings) -> WechatAccount | None:
    """Return the mini program that is set up, None where there is none."""
    if not (settings.wechat_url and settings.wechat_secret):
        return None
    return WechatAccount(
        endpoint=settings.wechat_url,
        app_id=settings.wechat_app_id,
        secret=settings.wechat_secret.get_secret_value(),
        page=settings.wechat_page,
    )


def notice_destinations(
    settings: Settings, store: Store, senders: Mapping[str, Sender]
) -> list[Destination]:
    """Return the channels as destinations; the address is that of the moment of sending."""
    templates = {
        "sms": template_ids(settings.sms_templates),
        "wechat": template_ids(settings.wechat_templates),
    }

    def destination(channel: str, sender: Sender) -> Destination:
        async def compose(_owed: Owed, version: Version) -> Document:
            attempt = parse(version.body)
            patient = str(attempt["subject"]["reference"]).partition("/")[2]
            resident = parse((await store.read("Patient", patient)).body)
            text, parameters = words_of(attempt)
            known = templates.get(channel, {})
            notice = NoticeText(
                to=address_of(resident, channel),
                template=known.get(category_of(attempt), known.get("*", "")),
                parameters=parameters,
                text=text,
            )
            return Document(
                payload=notice.to_bytes(),
                content_type="application/json",
                facts={"patient": patient},
            )

        living = ToTheLiving(sender=sender, store=store)
        return Destination(name=_PREFIX + channel, sender=living, compose=compose)

    return [destination(channel, sender) for channel, sender in senders.items()]


@dataclass(frozen=True, slots=True, kw_only=True)
class ToTheLiving:
    """A channel that sends nothing to the dead, at whatever attempt."""

    sender: Sender
    store: Store

    async def send(self, outgoing: Outgoing) -> Receipt:
        """Look at the resident's record and send, or refuse."""
        try:
            version = await self.store.read("Patient", outgoing.facts.get("patient", ""))
        except (NotFound, Gone):
            return Receipt(verdict=Verdict.REFUSED, code="resident-unknown")
        if is_deceased(parse(version.body)):
            return Receipt(verdict=Verdict.REFUSED, code="resident-deceased")
        return await self.sender.send(outgoing)

    async def ask(self, key: str) -> Receipt:
        """Ask the channel."""
        return await self.sender.ask(key)

    async def close(self) -> None:
        """Let go of the channel's sockets."""
        await self.sender.close()


def quiet_hours(settings: Settings) -> QuietHours:
    """Return when nobody is disturbed."""
    start, _, end = settings.quiet_hours.partition("-")
    return QuietHours(
        start=datetime.time.fromisoformat(start.strip()),
        end=datetime.time.fromisoformat(end.strip()),
    )


def template_ids(text: str) -> dict[str, str]:
    """Read `renewal=1001,*=1000`: template ids of a provider by the kind of message."""
    pairs = (part.partition("=") for part in text.split(",") if part.strip())
    return {name.strip(): value.strip() for name, _, value in pairs}
