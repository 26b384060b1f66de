"""Rows that processes of their own measure: the rates of the card, and networks alone."""

from collections.abc import Iterator, Sequence

from bundle_format.bundle import Precision
from loadtests.gpu.floor import Rates, TileCost, limits, share_of_floor
from loadtests.gpu.report import Report, json_lines
from loadtests.gpu.ways import NetworkJob
from loadtests.results import Row

_RATES_S = 60.0
_NETWORK_S = 60.0
_COMPILE_S = 180.0


def measure_rates(
    report: Report, rates: Rates, *, device: str, seconds: float, precisions: Sequence[Precision]
) -> None:
    """Measure the rates of the card and of its link to the host, a row each.

    Args:
        report: Report of the run.
        rates: Rates, to be filled.
        device: `cuda` or `cpu`.
        seconds: Time for each rate.
        precisions: Precisions of the matrix products.
    """

    def rows() -> Iterator[Row]:
        arguments = [device, str(seconds), *precisions]
        limit_s = min(_RATES_S, report.left_s)
        for row in json_lines("loadtests.gpu.rates", arguments, time_limit_s=limit_s):
            rates.add(row)
            name, kind, per_s = row["name"], row["kind"], row["per_s"]
            if name == "operations":
                yield {"what": "matrix product", "precision": kind, "rate": _rate(per_s, "FLOP")}
            else:
                yield {"what": name, "memory": kind, "rate": _rate(per_s, "B")}

    report.measure({"what": "rates"}, seconds, rows)


def _rate(per_s: float, unit: str) -> str:
    """Write a rate with a fitting prefix."""
    for prefix, size in (("T", 1e12), ("G", 1e9)):
        if per_s >= size:
            return f"{per_s / size:,.3g} {prefix}{unit}/s"
    return f"{per_s / 1e6:,.3g} M{unit}/s"


def measure_network(
    report: Report, rates: Rates, job: NetworkJob, *, shown: str, values: dict[str, int]
) -> None:
    """Measure a network alone, a row for each way and batch size.

    Args:
        report: Report of the run.
        rates: Rates of the run.
        job: Network and ways.
        shown: Name of the network in the table.
        values: Activations of a tile by name of the network (`TileCost.values`), to be filled.
    """
    longest_s = _COMPILE_S if any(way.compiled for way in job.ways) else _NETWORK_S

    def rows() -> Iterator[Row]:
        cost = TileCost(0.0)
        limit_s = min(longest_s, report.left_s)
        for row in json_lines("loadtests.gpu.network", [job.as_json()], time_limit_s=limit_s):
            if "gmac" in row:
                values[shown] = row["values"]
                cost = TileCost(row["gmac"], values=row["values"])
            elif "tiles_per_s" in row:
                found = limits(cost, rates, job.precision)
                yield {**row, **share_of_floor(row["tiles_per_s"], found)}
            else:
                yield row

    about = {"bundle": shown, "what": "network alone", "precision": job.precision}
    report.measure(about, 2 * job.seconds * len(job.ways) * len(job.batches), rows)
