"""A destination in memory: remembers what it was given and answers as it was told."""

from adapters.port import Outgoing, Receipt, Verdict


class MemorySender:
    """Keeps payloads by key; `answer` is the verdict it gives, and with UNKNOWN it still keeps."""

    def __init__(self, answer: Verdict = Verdict.ACCEPTED) -> None:
        self.answer = answer
        self.kept: dict[str, bytes] = {}
        self.sent: list[Outgoing] = []

    async def send(self, outgoing: Outgoing) -> Receipt:
        """Remember the payload unless told to refuse or defer."""
        self.sent.append(outgoing)
        if self.answer in (Verdict.ACCEPTED, Verdict.UNKNOWN):
            self.kept.setdefault(outgoing.key, outgoing.payload)
        reference = outgoing.key if self.answer is Verdict.ACCEPTED else ""
        return Receipt(verdict=self.answer, code="memory", reference=reference)

    async def ask(self, key: str) -> Receipt:
        """Say whether `key` was kept."""
        if key in self.kept:
            return Receipt(verdict=Verdict.ACCEPTED, code="memory", reference=key)
        return Receipt(verdict=Verdict.DEFERRED, code="memory", detail="never arrived")

    async def close(self) -> None:
        """Nothing to let go of."""
