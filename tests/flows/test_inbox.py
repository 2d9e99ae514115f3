"""A message is kept before it is answered, once, and answered the same at every resend."""

import asyncio
import datetime
import time

import psycopg
import pytest

from conformance.problem import Unavailable
from mappings.hl7.message import parse


def msa(ack):
    message = parse(ack)
    return message.value("MSA", 1), message.value("MSA", 2)


def test_a_message_is_committed_before_its_acknowledgement(open_spine, adt):
    async def run():
        async with open_spine() as spine:
            ack = await spine.send(adt("M1"))
            assert msa(ack) == ("AA", "M1")
            ((raw, stored, state, event, key, trace),) = await spine.rows(
                "select raw, ack, state, event, order_key, trace_id from inbox"
            )
            assert (raw, stored) == (adt("M1"), ack)
            assert (state, event, key) == ("received", "ADT^A08", "P1^H1")
            assert f"trace={trace}".encode() in ack

    asyncio.run(run())


def test_the_acknowledgement_tells_the_second_of_its_making_with_its_zone(open_spine, adt):
    async def run():
        async with open_spine() as spine:
            for number in range(3):
                before = int(time.time())
                stamp = parse(await spine.send(adt(f"M{number}"))).value("MSH", 7)
                made = datetime.datetime.strptime(stamp, "%Y%m%d%H%M%S%z").timestamp()
                assert before <= made <= time.time()

    asyncio.run(run())


def test_a_resend_gets_the_stored_acknowledgement_byte_for_byte(open_spine, adt):
    async def run():
        async with open_spine() as spine:
            first = await spine.send(adt("M1"))
            stamped_anew = adt("M1", f7="20260101090000")
            assert await spine.send(stamped_anew) == first
            assert await spine.rows("select count(*) from inbox") == [(1,)]

    asyncio.run(run())


def test_the_same_control_id_with_another_body_is_kept_and_flagged(open_spine, adt):
    async def run():
        async with open_spine() as spine:
            await spine.send(adt("M1"))
            ack = await spine.send(adt("M1", name="Wang"))
            assert msa(ack) == ("AA", "M1")
            rows = await spine.rows("select state, is_id_reused from inbox order by id")
            assert rows == [("received", False), ("received", True)]
            assert await spine.send(adt("M1", name="Wang")) == ack

    asyncio.run(run())


def test_a_channel_may_hold_a_reused_control_id(open_spine, adt):
    async def run():
        async with open_spine(reused_id="hold") as spine:
            await spine.send(adt("M1"))
            ack = await spine.send(adt("M1", name="Wang"))
            assert msa(ack) == ("AE", "M1")
            assert await spine.send(adt("M1", name="Wang")) == ack
            rows = await spine.rows(
                "select state, is_id_reused, ack = %s from inbox order by id", ack
            )
            assert rows == [("received", False, False), ("held", True, True)]

    asyncio.run(run())


def test_many_senders_of_one_message_at_once_make_one_entry(open_spine, adt):
    async def run():
        async with open_spine() as spine:
            acks = await asyncio.gather(*(spine.send(adt("M1")) for _ in range(64)))
            assert len(set(acks)) == 1
            assert await spine.rows("select count(*) from inbox") == [(1,)]

    asyncio.run(run())


def test_different_bodies_under_one_id_at_once_are_each_kept_and_all_but_one_flagged(
    open_spine, adt
):
    async def run():
        async with open_spine() as spine:
            await asyncio.gather(*(spine.send(adt("M1", name=f"N{n}")) for n in range(20)))
            rows = await spine.rows(
                "select is_id_reused, count(*) from inbox group by 1 order by 1"
            )
            assert rows == [(False, 1), (True, 19)]

    asyncio.run(run())


def test_messages_that_come_together_share_commits(open_spine, adt):
    async def run():
        async with open_spine() as spine:
            await asyncio.gather(*(spine.send(adt(f"M{n}")) for n in range(300)))
            assert await spine.rows("select count(*) from inbox") == [(300,)]
            ((commits,),) = await spine.rows("select count(distinct xmin::text) from inbox")
            assert commits < 30

    asyncio.run(run())


@pytest.mark.parametrize("together", [True, False])
def test_keeping_a_message_does_not_read_the_others_of_its_channel(
    open_spine, adt, database_url, together
):
    async def run():
        async with open_spine() as spine:
            # The statement is planned while the table is empty, as in a new hub.
            messages = [adt(f"M{n}", patient=f"P{n}") for n in range(400)]
            if together:
                await asyncio.gather(*map(spine.send, messages))
            else:
                for message in messages:
                    await spine.send(message)
            assert await spine.send(messages[7]) == await spine.send(messages[7])
        # A session tells what it has read when it ends.
        for _ in range(100):
            with psycopg.connect(database_url) as connection:
                (read,) = connection.execute(
                    "select sum(idx_tup_read) from pg_stat_user_indexes where relname = 'inbox'"
                ).fetchone()
            if read:
                break
            await asyncio.sleep(0.05)
        assert 0 < read < 4 * 400

    asyncio.run(run())


def test_without_the_database_nothing_is_acknowledged(open_spine, adt):
    async def run():
        async with open_spine() as spine:
            await spine.rows("alter table inbox rename to inbox_away")
            with pytest.raises(Unavailable):
                await spine.send(adt("M1"))
            await spine.rows("alter table inbox_away rename to inbox")
            assert msa(await spine.send(adt("M1"))) == ("AA", "M1")

    asyncio.run(run())


def test_a_lost_connection_costs_an_answer_and_no_more(open_spine, adt):
    async def run():
        async with open_spine() as spine:
            await spine.send(adt("M1"))
            await spine.rows(
                "select pg_terminate_backend(pid) from pg_stat_activity"
                " where datname = current_database() and pid <> pg_backend_pid()"
            )
            for _ in range(50):
                try:
                    ack = await spine.send(adt("M2"))
                    break
                except (Unavailable, psycopg.OperationalError):
                    await asyncio.sleep(0.05)
            assert msa(ack) == ("AA", "M2")

    asyncio.run(run())


@pytest.mark.parametrize(
    ("payload", "code", "place"),
    [
        (b"hello", "AR", b"MSH^1"),
        (b"", "AR", b"MSH^1"),
        (b"\xff\xfe\x00", "AR", b"MSH^1"),
        (b"PID|1\rMSH|^~\\&|A", "AR", b"MSH^1"),
        (b"MSH|^^~&|A|B|C|D|20260101||ADT^A01|1|P|2.5\r", "AR", b"MSH^1^2"),
        (b"MSH|^~\\&|A|B|C|D|20260101||ADT^A01||P|2.5\r", "AE", b"MSH^1^10"),
        (b"MSH|^~\\&|A|B|C|D|20260101|||7|P|2.5\r", "AE", b"MSH^1^9"),
        (b"MSH|^~\\&|A|B|C|D|20260101||ADT^A01|" + b"7" * 300 + b"|P|2.5\r", "AR", b"MSH^1^10"),
        (
            b"MSH|^~\\&|A|B|C|D|1||ADT^A01|1|P|2.5\rPID|1\rMSH|^~\\&|A|B|C|D|1||ADT^A01|2|P|2.5\r",
            "AR",
            b"MSH^2",
        ),
    ],
)
def test_what_cannot_be_filed_is_refused_with_place_and_advice(open_spine, payload, code, place):
    async def run():
        async with open_spine() as spine:
            ack = await spine.send(payload)
            lines = ack.split(b"\r")
            assert lines[1].split(b"|")[1] == code.encode()
            error = next(line for line in lines if line.startswith(b"ERR"))
            assert error.split(b"|")[2] == place
            assert len(error.split(b"|")[7]) > 10
            assert await spine.rows("select count(*) from inbox") == [(0,)]

    asyncio.run(run())


@pytest.mark.parametrize(
    ("charset", "name"),
    [
        ("UNICODE UTF-8", "张".encode("gb18030")),
        ("ASCII", "张".encode()),
        ("KLINGON", b"x"),
        ("GB18030", "张".encode()),  # read as GB18030 it would be other letters
        ("UNICODE UTF-8", "血压".encode("gb18030")),  # so would this, as Cyrillic
    ],
)
def test_undecodable_bytes_are_held_not_dropped(open_spine, adt, charset, name):
    async def run():
        async with open_spine() as spine:
            payload = adt("M1", f18=charset).replace(b"Zhang", name)
            ack = await spine.send(payload)
            assert ack.split(b"\r")[1].split(b"|")[1] == b"AE"
            assert await spine.rows("select state, order_key, raw from inbox") == [
                ("held", "P1^H1", payload)
            ]
            assert await spine.send(payload) == ack

    asyncio.run(run())


def test_a_doubt_of_the_charset_keeps_nothing_back_where_the_channel_trusts(open_spine, adt):
    async def run():
        async with open_spine(charset_doubt="trust") as spine:
            payload = adt("M1", f18="GB18030").replace(b"Zhang", "张".encode())
            assert msa(await spine.send(payload)) == ("AA", "M1")
            assert await spine.states() == {"M1": "received"}

    asyncio.run(run())


def test_gb18030_is_decoded_before_it_is_split(open_spine, adt):
    # The second byte of these characters is that of `|`, `^`, `~` and backslash.
    trap = "".join(bytes([0x81, low]).decode("gb18030") for low in (0x7C, 0x5E, 0x7E, 0x5C))

    async def run():
        async with open_spine() as spine:
            text = adt("M1", patient="P9", name=trap, f4=trap, f18="GB18030").decode()
            ack = await spine.send(text.encode("gb18030"))
            assert msa(ack) == ("AA", "M1")
            assert await spine.rows("select facility, order_key from inbox") == [(trap, "P9^H1")]

    asyncio.run(run())


def test_control_characters_in_names_do_not_stop_the_inbox(open_spine, adt):
    async def run():
        async with open_spine() as spine:
            payload = adt("M\x001", patient="P\x001")
            acks = await asyncio.gather(
                spine.send(payload), *(spine.send(adt(f"N{n}")) for n in "12")
            )
            assert all(ack is not None for ack in acks)
            assert await spine.rows("select count(*) from inbox") == [(3,)]

    asyncio.run(run())


@pytest.mark.parametrize(
    ("accept_ack", "application_ack", "code"),
    [
        ("", "", "AA"),
        (" ", "", "AA"),
        ("AL", "NE", "CA"),
        ("AL", "AL", "CA"),
        ("NE", "NE", "CA"),
        ("ER", "", "CA"),
        ("SU", "ER", "CA"),
        ("NE", "SU", "CA"),
        ("NE", "AL", "AA"),  # chapter 2.9.3: the original mode in other words
        ("", "AL", "AA"),
    ],
)
def test_the_enhanced_mode_is_answered_by_a_commit_acknowledgement(
    open_spine, adt, accept_ack, application_ack, code
):
    async def run():
        async with open_spine() as spine:
            ack = await spine.send(adt("M1", f15=accept_ack, f16=application_ack))
            assert msa(ack) == (code, "M1")

    asyncio.run(run())


# Table 0155: whether a good message, and one that is refused, is answered where MSH-15 is obeyed.
# A value that is not in the table asks for what nobody can know: such a sender is answered.
ASKED = {
    "AL": (True, True),
    "NE": (False, False),
    "ER": (False, True),
    "SU": (True, False),
    "YES": (True, True),
}


@pytest.mark.parametrize("asked", ASKED)
@pytest.mark.parametrize("answers", ["always", "as-asked"])
def test_msh_15_is_obeyed_where_the_channel_says_so(open_spine, adt, asked, answers):
    good, bad = ASKED[asked] if answers == "as-asked" else (True, True)

    async def run():
        async with open_spine(answers=answers) as spine:
            ack = await spine.send(adt("M1", f15=asked, f16="NE"))
            assert (msa(ack)[0] if ack else None) == ("CA" if good else None)
            assert await spine.rows("select count(*) from inbox") == [(1,)]
            refused = await spine.send(adt("", f15=asked, f16="NE"))
            assert (msa(refused)[0] if refused else None) == ("CE" if bad else None)
            held = adt("M2", f15=asked, f16="NE", f18="UNICODE UTF-8")
            held = held.replace(b"Zhang", "张".encode("gb18030"))
            ack = await spine.send(held)
            assert (msa(ack)[0] if ack else None) == ("CE" if bad else None)
            # A resend is answered as the message was.
            again = await spine.send(held)
            assert again == ack

    asyncio.run(run())


def test_large_documents_are_kept_whole(open_spine, adt):
    async def run():
        async with open_spine() as spine:
            payload = adt("M1", extra="OBX|1|ED|DOC||^^^Base64^" + "QUJD" * 2_250_000)
            assert msa(await spine.send(payload)) == ("AA", "M1")
            assert await spine.rows("select length(raw) from inbox") == [(len(payload),)]

    asyncio.run(run())
