"""Where application acknowledgements go: an MLLP line to each sender that wants them."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from adapters.port import Verdict
from adapters.transport.mllp_client import VERDICTS, MllpSender
from mappings.channels.profile import ChannelProfile
from ops.channel import Channel
from ops.flow_delivery import DeliveryWorkers, Destination


@dataclass(slots=True, kw_only=True)
class AckLines:
    """The destinations that channels name with `application_acks`, kept over a reload.

    The same acknowledgement twice does no harm: MSA-2 names the message, MSH-10 stays the same.
    What the sender's own answer means is the channel's to say: engines differ on AE and AR.
    """

    deliveries: DeliveryWorkers
    channels: Mapping[str, Channel]
    _agreed: dict[str, "_Line"] = field(default_factory=dict)

    async def agree(self) -> None:
        """Deliver to where the channels say now; what is owed to an old address goes to the new."""
        wanted = {
            channel.application_acks: _line_of(channel.profile)
            for channel in self.channels.values()
            if channel.application_acks is not None
        }
        for name, line in list(self._agreed.items()):
            if wanted.get(name) != line:
                del self._agreed[name]
                await self.deliveries.leave(name)
        for name in wanted.keys() - self._agreed.keys():
            self._agreed[name] = wanted[name]
            self.deliveries.serve(_destination(name, wanted[name]))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Line:
    """An address, and what the codes of MSA-1 mean there."""

    address: str
    verdicts: Mapping[str, Verdict]


def _line_of(profile: ChannelProfile) -> _Line:
    verdicts = {
        **VERDICTS,
        **dict.fromkeys(profile.retry_on, Verdict.DEFERRED),
        **dict.fromkeys(profile.give_up_on, Verdict.REFUSED),
    }
    return _Line(address=profile.application_acks, verdicts=verdicts)


def _destination(name: str, line: _Line) -> Destination:
    host, _, port = line.address.rpartition(":")
    return Destination(
        name=name,
        sender=MllpSender(host=host, port=int(port), verdicts=line.verdicts),
        is_idempotent=True,
        parallel=1,
    )
