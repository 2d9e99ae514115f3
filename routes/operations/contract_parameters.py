"""What an operation is given, read by name and refused with advice."""

import datetime
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

from care.contract.delegation import Delegation
from care.contract.evidence import Place, Signing
from care.periods import LOCAL, bounds_of
from routes.hub import Hub
from routes.operations.parameters import (
    Part,
    bad_parameter,
    parameters_in,
    parts_of,
    value_of,
)
from routes.request import Request


def given_in(hub: Hub, request: Request) -> "Given":
    """Return what an operation is given."""
    return Given(parameters_in(hub, request))


@dataclass(frozen=True, slots=True)
class Given:
    """The parameters of a step by name."""

    parts: list[Part]

    def named(self, name: str) -> list[Part]:
        """Return all parts of a name."""
        return [part for part in self.parts if part["name"] == name]

    def text(self, name: str) -> str:
        """Return a text, code, date or reference that must be there."""
        found = self.maybe(name)
        if found is None:
            raise bad_parameter(name, f"Give {name}.", f"请给出 {name}。")
        return found

    def maybe(self, name: str) -> str | None:
        """Return a text, code, date or reference, or None."""
        found = self.texts(name)
        if len(found) > 1:
            raise bad_parameter(name, "Give it once.", "该参数只能给出一次。")
        return found[0] if found else None

    def texts(self, name: str) -> list[str]:
        """Return every text, code, date or reference of a name."""
        found = []
        for part in self.named(name):
            value = value_of(part)
            if isinstance(value, Mapping):
                value = value.get("reference")
            if not isinstance(value, str) or not value:
                raise bad_parameter(name, "Send it as text.", "请以文本发送。")
            found.append(value)
        return found

    def flag(self, name: str) -> bool:
        """Return a boolean; absent is false."""
        values = [value_of(part) for part in self.named(name)]
        if any(not isinstance(value, bool) for value in values):
            raise bad_parameter(name, "Send it as valueBoolean.", "请以 valueBoolean 发送。")
        return any(values)

    def number(self, name: str) -> Decimal | None:
        """Return a number, or None."""
        for part in self.named(name):
            try:
                number = Decimal(str(value_of(part)))
            except InvalidOperation:
                number = Decimal("NaN")
            if not number.is_finite():
                raise bad_parameter(name, "Send it as valueDecimal.", "请以 valueDecimal 发送。")
            return number
        return None

    def day(self, name: str) -> datetime.date:
        """Return a calendar day."""
        try:
            return datetime.date.fromisoformat(self.text(name))
        except ValueError:
            raise bad_parameter(name, "Write YYYY-MM-DD.", "请写成 YYYY-MM-DD。") from None

    def instant(self, name: str) -> datetime.datetime | None:
        """Return an instant with its zone (China's where none is written), or None."""
        text = self.maybe(name)
        if text is None:
            return None
        try:
            moment = datetime.datetime.fromisoformat(text)
        except ValueError:
            raise bad_parameter(
                name, "Write YYYY-MM-DDThh:mm:ss+08:00.", "请写成 YYYY-MM-DDThh:mm:ss+08:00。"
            ) from None
        return moment if moment.tzinfo else moment.replace(tzinfo=LOCAL)

    def packages(self) -> dict[str, Decimal]:
        """Return the packages with the price of each; parts `definition` and `price`."""
        found = {}
        for part in self.named("package"):
            inner = Given(parts_of(part.get("part")))
            price = next((value_of(p) for p in inner.named("price")), 0)
            amount = price.get("value", 0) if isinstance(price, Mapping) else price
            try:
                found[inner.text("definition")] = Decimal(str(amount))
            except InvalidOperation:
                raise bad_parameter(
                    "package", "Give price as valueDecimal or valueMoney.", "请给出价格。"
                ) from None
        if not found:
            raise bad_parameter("package", "Give at least one package.", "请至少选择一个服务包。")
        return found

    def edits(self) -> dict[str, str]:
        """Return what was agreed beside the template, by package; part `text`."""
        found = {}
        for part in self.named("package"):
            inner = Given(parts_of(part.get("part")))
            if words := inner.maybe("text"):
                found[inner.text("definition")] = words
        return found

    def signing(self) -> Signing:
        """Return both signatures and what proves them."""
        signatures = {}
        for side in ("resident", "doctor"):
            name = f"{side}Signature"
            part = next(iter(self.named(name)), {})
            signature = part.get("valueSignature")
            if not isinstance(signature, Mapping):
                raise bad_parameter(
                    name, "Send it as valueSignature.", "请以 valueSignature 发送。"
                )
            signatures[side] = signature
        photo = next((part.get("valueAttachment") for part in self.named("photo")), None)
        if self.named("photo") and not isinstance(photo, Mapping):
            raise bad_parameter(
                "photo", "Send it as valueAttachment.", "请以 valueAttachment 发送。"
            )
        return Signing(
            resident=self.text("residentParty"),
            doctor=self.text("doctorParty"),
            signatures=signatures,
            agreement_hash=self.text("agreementHash"),
            photo=photo,
            place=self._place(),
            is_offline=self.flag("signedOffline"),
        )

    def _place(self) -> Place | None:
        for part in self.named("place"):
            inner = Given(parts_of(part.get("part")))
            latitude, longitude = inner.number("latitude"), inner.number("longitude")
            if latitude is None or longitude is None or abs(latitude) > 90 or abs(longitude) > 180:
                raise bad_parameter(
                    "place", "Give latitude and longitude in degrees.", "请以度给出经纬度。"
                )
            return Place(
                latitude=latitude,
                longitude=longitude,
                system=inner.maybe("system") or "WGS-84",
                accuracy=inner.number("accuracy"),
                is_mocked=inner.flag("mock"),
            )
        return None

    def delegation(self, now: datetime.datetime, actor: str) -> Delegation:
        """Return who stands in for whom and when; a date as end is meant to its midnight."""
        try:
            begin, end = bounds_of(
                {"start": self.maybe("start") or now.isoformat(), "end": self.text("end")}
            )
        except ValueError:
            raise bad_parameter(
                "end", "Write a date, or a dateTime with its zone.", "请写日期或带时区的时间。"
            ) from None
        assert begin is not None
        assert end is not None
        return Delegation(
            from_=self.maybe("from") or actor,
            to=self.text("to"),
            start=begin,
            end=end,
            kind=self.maybe("kind") or "leave",
            scope=self.maybe("scope") or "",
        )
