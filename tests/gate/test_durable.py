"""What is answered 2xx is in the journal; what cannot be is answered 503; and how a gate leaves."""

import resource
import threading
import time

import apsw
import pytest

from landed.journal.record import TickRecord, decode
from landed.vonage.signing import Account, Keyring

HOST = b"Host: a\r\n"
HEALTH = b"GET /healthz HTTP/1.1\r\n" + HOST + b"\r\n"
PROBE = b"GET /webhooks/inbound-sms HTTP/1.1\r\n" + HOST + b"\r\n"


def get(message_id=b"m"):
    return (
        b"GET /webhooks/delivery-receipt?status=delivered&messageId=" + message_id + b" HTTP/1.1\r\n" + HOST + b"\r\n"
    )


def post(body):
    return b"POST /webhooks/message-status HTTP/1.1\r\n" + HOST + b"Content-Length: %d\r\n\r\n" % len(body) + body


def test_an_answer_2xx_means_that_another_connection_can_read_the_record(start):
    gate = start()
    with gate.connect() as client:
        for number in range(200):
            body = b'{"message_uuid":"%d"}' % number
            client.send(post(body))
            assert client.answer().status == 200
            kept = gate.kept()
            assert (len(kept), kept[-1].body) == (number + 1, body)


def test_of_pipelined_requests_too(start):
    gate = start()
    with gate.connect() as client:
        client.send(b"".join(get(b"%d" % number) for number in range(500)))
        for number in range(500):
            assert client.answer().status == 204
            assert gate.reader.last_position() > number

    assert [record.query[-4:].rpartition(b"=")[2] for record in gate.kept()[-10:]] == [
        b"%d" % number for number in range(490, 500)
    ]


def test_a_lone_request_does_not_wait_for_others(start):
    gate = start()
    seconds = []
    with gate.connect() as client:
        for _ in range(100):
            begun = time.monotonic()
            client.send(get())
            client.answer()
            seconds.append(time.monotonic() - begun)

    assert sorted(seconds)[50] < 0.01


def test_while_another_holds_the_journal_it_is_503_and_then_goes_on(start):
    gate = start(busy_ms=20)
    holder = apsw.Connection(str(gate.path))
    holder.execute("BEGIN IMMEDIATE")
    with gate.connect() as client:
        for data in (get(), post(b"{}")):
            client.send(data)
            answer = client.answer()
            assert (answer.status, answer.headers[b"retry-after"]) == (503, b"5")
            assert b"connection" not in answer.headers
        client.send(HEALTH)
        assert client.answer().status == 503
        client.send(PROBE)
        assert client.answer().status == 200

        holder.execute("ROLLBACK")
        client.send(get())
        assert client.answer().status == 204
        client.send(HEALTH)
        assert client.answer().status == 200
    holder.close()

    assert len(gate.kept()) == 1
    assert gate.broken == []


def test_a_full_disk_is_503_and_then_goes_on(start):
    gate = start()
    assert gate.statuses(get()) == [204]
    db = gate.journal._db  # noqa: SLF001 - the limit belongs to the connection
    pages = gate.on_loop(lambda: db.pragma("page_count"))
    gate.on_loop(lambda: db.pragma("max_page_count", pages))
    large = post(b"a=" + b"x" * 100_000)

    assert gate.statuses(large + get() + large) == [503, 503, 503]
    assert len(gate.kept()) == 1
    gate.on_loop(lambda: db.pragma("max_page_count", 1_000_000))
    assert gate.statuses(large) == [200]
    assert len(gate.kept()) == 2
    assert gate.broken == []


def test_after_a_failed_write_nothing_is_tried_again(start):
    gate = start()
    assert gate.statuses(get()) == [204]
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        assert gate.statuses(get()) == [503]
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    assert len(gate.broken) == 1
    assert gate.statuses(get() + HEALTH + get()) == [503, 503, 503]
    assert len(gate.broken) == 1
    assert len(gate.kept()) == 1


def test_a_gate_that_can_commit_ticks_though_nothing_comes(start):
    gate = start()

    gate.wait_until(lambda: gate.journal.last_position() > 0)

    ((_, data),) = gate.reader.read(0, 10)
    assert isinstance(decode(data), TickRecord)


def test_several_gates_append_to_one_journal(start, start_process, client):
    reading = start()
    counts = []

    def send(port, name):
        from_this = 0
        with client(port) as sender:
            for number in range(100):
                sender.send(get(b"%d-%d" % (name, number)))
                from_this += sender.answer().status == 204
        counts.append(from_this)

    with start_process(reading.path) as (_, one), start_process(reading.path) as (_, two):
        ports = [reading.port, one, two, one, two, reading.port]
        threads = [threading.Thread(target=send, args=(port, name)) for name, port in enumerate(ports)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    kept = reading.kept()
    assert counts == [100] * 6
    assert len({record.id for record in kept}) == len({record.query for record in kept}) == len(kept) == 600


# Leaving.


def stopping(gate, seconds):
    gate.begin_stop(seconds)
    gate.wait_until(lambda: gate.gate.stopping)


def test_what_is_whole_while_it_leaves_is_answered_and_kept(start):
    gate = start()
    body = b'{"message_uuid":"u"}'
    with gate.connect() as half_head, gate.connect() as half_body, gate.connect() as expecting:
        half_head.send(get()[:-1])
        half_body.send(post(body)[:-1])
        expecting.send(post(body).replace(HOST, HOST + b"Expect: 100-continue\r\n")[: -len(body)])
        assert expecting.answer().status == 100
        gate.wait_until(lambda: sum(each.close_if_idle() is None for each in gate.gate.connections) == 3)
        stopping(gate, 5)
        half_head.send(get()[-1:])
        half_body.send(body[-1:])
        expecting.send(body)
        answers = [half_head.answer(), half_body.answer(), expecting.answer()]
        assert [answer.status for answer in answers] == [204, 200, 200]
        assert all(answer.headers[b"connection"] == b"close" for answer in answers)
        assert half_head.is_closed()
        assert half_body.is_closed()
        assert expecting.is_closed()
    gate.join()
    assert len(gate.kept()) == 3


def test_what_asks_to_continue_while_it_leaves_may(start):
    gate = start()
    data = post(b"{}").replace(HOST, HOST + b"Expect: 100-continue\r\n")
    with gate.connect() as client:
        client.send(data[:10])
        gate.wait_until(lambda: len(gate.gate.connections) == 1)
        stopping(gate, 5)
        client.send(data[10:-2])
        assert client.answer().status == 100
        client.send(data[-2:])
        assert client.answer().status == 200
        assert client.is_closed()
    gate.join()
    assert len(gate.kept()) == 1


def test_idle_connections_are_closed_at_once(start):
    gate = start()
    with gate.connect() as client, gate.connect() as silent:
        client.send(get())
        assert client.answer().status == 204
        begun = time.monotonic()
        gate.begin_stop(5)
        assert client.is_closed()
        assert silent.is_closed()
        gate.join()

    assert time.monotonic() - begun < 2


@pytest.mark.parametrize("seconds", [0, 0.3])
def test_who_does_not_finish_is_cut_off_in_time(start, seconds):
    gate = start()
    with gate.connect() as client:
        client.send(get()[:-2])
        gate.wait_until(lambda: len(gate.gate.connections) == 1)
        begun = time.monotonic()
        gate.begin_stop(seconds)
        gate.join()

    assert time.monotonic() - begun < seconds + 1


def test_a_stop_in_the_middle_of_many_answers_nothing_that_is_not_kept(start):
    for _ in range(5):
        gate = start()
        with gate.connect() as client:
            client.send(get() * 20)
            assert client.answer().status == 204
            sender = threading.Thread(target=client.send_all, args=(get() * 5_000,))
            sender.start()
            gate.begin_stop(2)
            answered = 1 + sum(answer.status == 204 for answer in client.answers())
            sender.join()
        gate.join()
        assert answered <= len(gate.kept())


def test_a_stop_at_once_says_2xx_of_nothing_that_is_not_kept(start):
    gate = start()
    clients = [gate.connect() for _ in range(20)]
    for client in clients:
        client.send(get())
    gate.begin_stop(0)
    statuses = [answer.status for client in clients for answer in client.answers()]
    gate.join()
    for client in clients:
        client.socket.close()

    assert statuses.count(204) <= len(gate.kept())
    assert set(statuses) <= {204, 503}


class Faulty(Keyring):
    """A mistake of ours, which shows for one account only."""

    def name_of(self, api_key):
        return self.accounts[5].name if api_key == "faulty" else super().name_of(api_key)


def test_a_mistake_of_ours_is_never_the_senders_fault(start):
    gate = start(keyring=Faulty([Account(name="ours", api_key="key")]))

    assert gate.statuses(get(b"m&api-key=faulty")) == []
    assert gate.statuses(get(b"m&api-key=key")) == [204]
    assert isinstance(gate.errors.pop()["exception"], IndexError)
    gate.wait_until(lambda: not gate.gate.connections)
    assert len(gate.kept()) == 1
