"""Where application acknowledgements go: an MLLP line to each sender that wants them."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from adapters.transport.mllp_client import MllpSender
from ops.channel import Channel
from ops.flow_delivery import DeliveryWorkers, Destination


@dataclass(slots=True, kw_only=True)
class AckLines:
    """The destinations that channels name with `application_acks`, kept over a reload.

    The same acknowledgement twice does no harm: MSA-2 names the message, MSH-10 stays the same.
    """

    deliveries: DeliveryWorkers
    channels: Mapping[str, Channel]
    _addresses: dict[str, str] = field(default_factory=dict)

    async def agree(self) -> None:
        """Deliver to where the channels say now; what is owed to an old address goes to the new."""
        wanted = {
            channel.application_acks: channel.profile.application_acks or ""
            for channel in self.channels.values()
            if channel.application_acks is not None
        }
        for name, address in list(self._addresses.items()):
            if wanted.get(name) != address:
                del self._addresses[name]
                await self.deliveries.leave(name)
        for name in wanted.keys() - self._addresses.keys():
            self._addresses[name] = wanted[name]
            self.deliveries.serve(_destination(name, wanted[name]))


def _destination(name: str, address: str) -> Destination:
    host, _, port = address.rpartition(":")
    return Destination(
        name=name,
        sender=MllpSender(host=host, port=int(port)),
        is_idempotent=True,
        parallel=1,
    )
