"""What the hub counts, for Prometheus; `docs/reference/metrics.md` explains each.

One `Metrics` belongs to one process. Counters and durations are kept as things happen; depths and
ages are read from the queues when somebody asks.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping

import orjson
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

from fhir_store.queue_desk import QueueFigures

Samples = Mapping[tuple[str, tuple[tuple[str, str], ...]], float]
"""Values by the sample's name and labels."""

_BREAKER = "qiao_destination_open"
_ACK_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)
_HTTP_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_SEND_BUCKETS = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Metrics(Collector):
    """The counters of one process and the last known figures of the queues."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self._acknowledged = Counter(
            "qiao_messages", "Frames answered, by outcome", ["channel", "outcome"],
            registry=registry,
        )  # fmt: skip
        self._refused = Counter(
            "qiao_messages_refused", "Frames refused and not kept", ["channel", "reason"],
            registry=registry,
        )  # fmt: skip
        self._reused = Counter(
            "qiao_control_id_reused", "Known control ids with another body", ["channel"],
            registry=registry,
        )  # fmt: skip
        self._ack_seconds = Histogram(
            "qiao_ack_seconds", "From the frame's last byte to its answer", ["channel"],
            buckets=_ACK_BUCKETS, registry=registry,
        )  # fmt: skip
        self._worked = Counter(
            "qiao_entries", "Inbox entries worked on, by outcome", ["channel", "outcome"],
            registry=registry,
        )  # fmt: skip
        self._verdicts = Counter(
            "qiao_verdicts", "Attempts at destinations, by verdict", ["destination", "verdict"],
            registry=registry,
        )  # fmt: skip
        self._send_seconds = Histogram(
            "qiao_send_seconds", "One attempt at a destination", ["destination"],
            buckets=_SEND_BUCKETS, registry=registry,
        )  # fmt: skip
        self._breaker = Gauge(
            _BREAKER, "1 while a destination is left alone after failures",
            ["destination"], registry=registry,
        )  # fmt: skip
        self._inbox_depth = Gauge(
            "qiao_inbox_depth", "Inbox entries not finished", ["channel", "state"],
            registry=registry,
        )  # fmt: skip
        self._inbox_age = Gauge(
            "qiao_inbox_oldest_seconds", "Age of the oldest open entry", ["channel"],
            registry=registry,
        )  # fmt: skip
        self._parked = Gauge(
            "qiao_inbox_parked_keys", "Order keys that wait for a person", ["channel"],
            registry=registry,
        )  # fmt: skip
        self._outbox_depth = Gauge(
            "qiao_outbox_depth", "Deliveries not finished", ["destination", "state"],
            registry=registry,
        )  # fmt: skip
        self._outbox_age = Gauge(
            "qiao_outbox_oldest_seconds", "Age of the oldest open delivery", ["destination"],
            registry=registry,
        )  # fmt: skip
        self._lines = Gauge(
            "qiao_mllp_connections", "Open MLLP connections", ["channel"], registry=registry
        )
        self._lines_ended = Counter(
            "qiao_mllp_connections_ended", "MLLP connections the hub ended, by reason",
            ["channel", "reason"], registry=registry,
        )  # fmt: skip
        self._http_answers = Counter(
            "qiao_http_answers", "FHIR answers, by interaction and class of status",
            ["interaction", "status"], registry=registry,
        )  # fmt: skip
        self._http_seconds = Histogram(
            "qiao_http_seconds", "From a request's head to its answer's last byte", ["interaction"],
            buckets=_HTTP_BUCKETS, registry=registry,
        )  # fmt: skip
        self._elsewhere: dict[int, Mapping[str, Samples]] = {}
        self._answers_of: dict[tuple[str, int], tuple[Counter, Histogram]] = {}
        self._ack_of: dict[str, Histogram] = {}
        self._outcome_of: dict[tuple[str, str], Counter] = {}

    def acknowledged(self, channel: str, outcome: str, seconds: float) -> None:
        """Count an answered frame; looking labels up again for each would cost more than this."""
        seconds_of = self._ack_of.get(channel)
        if seconds_of is None:
            seconds_of = self._ack_of[channel] = self._ack_seconds.labels(channel)
        counter = self._outcome_of.get((channel, outcome))
        if counter is None:
            counter = self._acknowledged.labels(channel, outcome)
            self._outcome_of[channel, outcome] = counter
        seconds_of.observe(seconds)
        counter.inc()

    def refused(self, channel: str, reason: str) -> None:
        """Count a frame that was not kept."""
        self._refused.labels(channel, reason).inc()

    def watch_lines(self, channel: str, count: Callable[[], float]) -> None:
        """Read the number of open connections when somebody asks."""
        self._lines.labels(channel).set_function(count)

    def line_ended(self, channel: str, reason: str) -> None:
        """Count a connection that the hub ended."""
        self._lines_ended.labels(channel, reason).inc()

    def answered(self, interaction: str, status: int, seconds: float) -> None:
        """Count an answer of the FHIR base; its labels are looked up once."""
        found = self._answers_of.get((interaction, status // 100))
        if found is None:
            labels = (interaction, f"{status // 100}xx")
            found = (self._http_answers.labels(*labels), self._http_seconds.labels(interaction))
            self._answers_of[interaction, status // 100] = found
        counter, seconds_of = found
        counter.inc()
        seconds_of.observe(seconds)

    def id_reused(self, channel: str) -> None:
        """Count a known control id that came with another body."""
        self._reused.labels(channel).inc()

    def worked(self, channel: str, outcome: str, count: int = 1) -> None:
        """Count entries that a lane finished, parked or put off."""
        self._worked.labels(channel, outcome).inc(count)

    def verdict(self, destination: str, verdict: str, seconds: float) -> None:
        """Count one attempt at a destination."""
        self._verdicts.labels(destination, verdict).inc()
        self._send_seconds.labels(destination).observe(seconds)

    def breaker(self, destination: str, *, is_open: bool) -> None:
        """Say whether a destination is being left alone."""
        self._breaker.labels(destination).set(1 if is_open else 0)

    def show_queues(self, figures: QueueFigures) -> None:
        """Take over the figures read from the queues."""
        for gauge in (self._inbox_depth, self._inbox_age, self._parked):
            gauge.clear()
        for gauge in (self._outbox_depth, self._outbox_age):
            gauge.clear()
        for (channel, state), count in figures.inbox_depth.items():
            self._inbox_depth.labels(channel, state).set(count)
        for channel, seconds in figures.inbox_oldest_seconds.items():
            self._inbox_age.labels(channel).set(seconds)
        for channel, count in figures.parked_keys.items():
            self._parked.labels(channel).set(count)
        for (destination, state), count in figures.outbox_depth.items():
            self._outbox_depth.labels(destination, state).set(count)
        for destination, seconds in figures.outbox_oldest_seconds.items():
            self._outbox_age.labels(destination).set(seconds)

    def told(self) -> bytes:
        """Return what was counted here, on one line, for the process that answers /metrics.

        What is read from the queues is left out: that process reads it, too.
        """
        families = {
            family.name: [[one.name, one.labels, one.value] for one in _kept(family.samples)]
            for family in self.registry.collect()
            if family.type != "gauge" or family.name == _BREAKER
        }
        return orjson.dumps(families)

    def hear(self, told: bytes, teller: int = 0) -> None:
        """Add to what is shown what another process counts; its next word replaces this one."""
        self._elsewhere[teller] = {
            family: {(name, tuple(sorted(labels.items()))): value for name, labels, value in found}
            for family, found in orjson.loads(told).items()
        }

    def collect(self) -> Iterator[Metric]:
        """Return all families, each with what other processes have counted of it."""
        for family in self.registry.collect():
            values: dict[tuple[str, tuple[tuple[str, str], ...]], list[float]] = {}
            for one in family.samples:
                values[one.name, tuple(sorted(one.labels.items()))] = [one.value]
            for told in self._elsewhere.values():
                for key, value in told.get(family.name, {}).items():
                    values.setdefault(key, []).append(value)
            together = Metric(family.name, family.documentation, family.type)
            for (name, labels), found in values.items():
                # What is counted is added; a destination is left alone where one process does.
                value = max(found) if family.type == "gauge" else sum(found)
                together.add_sample(name, dict(labels), value)
            yield together

    def render(self) -> bytes:
        """Return everything in the Prometheus text format."""
        return generate_latest(self if self._elsewhere else self.registry)


def _kept(samples: Iterable[Sample]) -> Iterator[Sample]:
    """Leave out when a sample was begun: times are not added."""
    return (one for one in samples if not one.name.endswith("_created"))
