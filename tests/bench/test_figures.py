"""The arithmetic of the benchmarks, and that one which can't run says why."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from config import __main__ as command
from tests.bench import figures, house, relay, sip
from tests.bench.figures import percentile, spread

ROOT = Path(__file__).resolve().parents[2]


def test_a_percentile_is_a_value_that_so_many_do_not_exceed() -> None:
    hundred = [float(n) for n in range(100, 0, -1)]
    assert percentile(hundred, 0.5) == 50.0
    assert percentile(hundred, 0.99) == 99.0
    assert percentile(hundred, 1.0) == 100.0
    assert percentile([7.0], 0.01) == 7.0


def test_a_spread_is_told_in_milliseconds_and_knows_of_nothing_measured() -> None:
    assert spread([0.001, 0.002, 0.010]) == {"n": 3, "p50_ms": 2.0, "p99_ms": 10.0, "max_ms": 10.0}
    assert spread([]) == {"n": 0, "p50_ms": None, "p99_ms": None, "max_ms": None}


def test_the_cpu_of_a_process_is_read_although_its_name_holds_brackets() -> None:
    line = "42 (a (very) odd) name) S 7 1 1 0 -1 0 10 0 0 0 150 50 20 10 20 0 1 0 100"
    parent, cpu_s = figures.stat_of(line)
    assert parent == 7
    assert cpu_s == pytest.approx((150 + 50 + 20 + 10) * figures.TICK_S)


def test_cpu_is_counted_for_the_nearest_named_ancestor() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        assert child.pid in figures.children(os.getpid(), "input()")
        told = figures.cpu_by_tree({"us": os.getpid(), "child": child.pid, "gone": 2**22 - 3})
        child.communicate(b"\n")
    assert told["us"] > 0.0
    assert told["gone"] == 0.0
    assert set(told) == {"us", "child", "gone"}


def test_the_quantile_of_buckets_is_the_bound_of_the_bucket_that_holds_it() -> None:
    buckets = [(10.0, 90), (50.0, 9), (float("inf"), 1)]
    assert sip._quantile(buckets, 0.5) == 10.0
    assert sip._quantile(buckets, 0.99) == 50.0
    assert sip._quantile(buckets, 1.0) == 99_999.0
    assert sip._quantile([], 0.5) is None


def test_a_rate_is_borne_when_at_most_one_call_in_a_thousand_is_failed_or_refused() -> None:
    assert sip._borne({"failed_share": 0.0005, "refused_503": 1, "calls": 2000})
    assert not sip._borne({"failed_share": 0.0, "refused_503": 3, "calls": 2000})
    assert not sip._borne({"failed_share": 0.002, "refused_503": 0, "calls": 2000})


async def test_the_bare_caller_is_answered_acknowledges_and_hangs_up() -> None:
    heard: list[bytes] = []

    class Server(asyncio.DatagramProtocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport = transport

        def datagram_received(self, data: bytes, address: tuple[str, int]) -> None:
            heard.append(data.split(b" ")[0])
            if heard[-1] == b"BYE":
                done.set()
            if heard[-1] == b"ACK":
                return
            lines = [line for line in data.split(b"\r\n") if line[:2] in (b"Vi", b"Fr", b"To", b"Ca", b"CS")]
            reply = b"\r\n".join(
                [b"SIP/2.0 200 OK", *lines, b"Contact: <sip:me@127.0.0.1:9>", b"", b"m=audio 77 RTP"]
            )
            self.transport.sendto(reply, address)  # type: ignore[attr-defined]

    done = asyncio.Event()
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(Server, local_addr=("127.0.0.1", 0))
    answered: asyncio.Queue[house.Dialling] = asyncio.Queue()
    address = transport.get_extra_info("sockname")
    caller = await house.BareCaller(address, answered.put_nowait).open()
    try:
        call = caller.dial("1000", "+33611111111")
        assert await asyncio.wait_for(answered.get(), 10) is call
        assert call.rtp == 77
        assert call.contact == b"sip:me@127.0.0.1:9"
        assert call.statuses[200] >= call.invited
        caller.hang_up(call)
        await asyncio.wait_for(done.wait(), 10)
        assert heard[:3] == [b"INVITE", b"ACK", b"BYE"]
    finally:
        caller.close()
        transport.close()


def test_the_site_of_the_benchmarks_has_no_mistake(tmp_path: Path) -> None:
    from ruamel.yaml import YAML

    from config.site import check_text, shipped_sounds

    with (tmp_path / "site.yaml").open("w", encoding="utf-8") as file:
        YAML().dump(house.site(3), file)
    checked = check_text((tmp_path / "site.yaml").read_text("utf-8"), sounds=shipped_sounds())
    assert not checked.mistakes


def test_a_benchmark_that_lacks_something_says_what_and_the_others_go_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(SystemExit) as ended:
        command.main(["bench", "relay", "sip", "--quick"])
    assert ended.value.code == 1
    said = capsys.readouterr()
    assert "monofil: relay was not measured: there is no C compiler" in said.err
    assert "monofil: sip was not measured: sipp is not installed: apt-get install sip-tester." in said.err
    assert [line for line in said.out.splitlines() if line.startswith("==")] == ["== relay ==", "== sip =="]


def test_every_benchmark_that_is_promised_is_there() -> None:
    assert all((ROOT / "tests" / "bench" / f"{name}.py").is_file() for name in command.BENCHES)
    assert relay.run.__doc__ is not None
