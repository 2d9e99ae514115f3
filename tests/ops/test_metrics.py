"""What two processes count is shown as one."""

from ops.metrics import Metrics


def test_what_the_workers_count_is_added_to_what_is_counted_here() -> None:
    here, there = Metrics(), Metrics()
    here.worked("his", "parked")
    there.worked("his", "parked", 2)
    there.worked("his", "translated", 5)
    there.verdict("province", "accepted", 0.02)
    there.breaker("province", is_open=True)
    here.hear(there.told())
    there.worked("his", "translated")
    here.hear(there.told())  # its next word replaces the one before

    shown = here.render().decode().splitlines()
    assert 'qiao_entries_total{channel="his",outcome="parked"} 3.0' in shown
    assert 'qiao_entries_total{channel="his",outcome="translated"} 6.0' in shown
    assert 'qiao_send_seconds_bucket{destination="province",le="0.05"} 1.0' in shown
    assert 'qiao_send_seconds_count{destination="province"} 1.0' in shown
    assert 'qiao_destination_open{destination="province"} 1.0' in shown
    assert shown.count("# TYPE qiao_entries_total counter") == 1


def test_several_processes_of_workers_are_added_and_a_closed_destination_is_one() -> None:
    here, first, second = Metrics(), Metrics(), Metrics()
    for number, there in ((1, first), (2, second)):
        there.worked("his", "translated", number)
        there.breaker("province", is_open=True)
        here.hear(there.told(), number)
    here.hear(first.told(), 1)

    shown = here.render().decode().splitlines()
    assert 'qiao_entries_total{channel="his",outcome="translated"} 3.0' in shown
    assert 'qiao_destination_open{destination="province"} 1.0' in shown


def test_what_both_read_from_the_queues_is_not_added() -> None:
    here, there = Metrics(), Metrics()
    for one in (here, there):
        one._inbox_depth.labels("his", "parked").set(4)
    here.hear(there.told())
    assert 'qiao_inbox_depth{channel="his",state="parked"} 4.0' in here.render().decode()
