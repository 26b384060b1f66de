"""Choice of the engine process for a request: pure policy, also run on a simulated clock."""


def expected_s(*, reported_s: float, in_flight: int, per_tile_s: float) -> float:
    """Estimate when an engine process would have done one more tile.

    The process's own report counts the tiles of all front ends but is older than the tiles sent
    since; the front end's own tiles are known exactly. The larger estimate counts. The time of the
    tile itself makes the faster of two idle processes the better one.

    Args:
        reported_s: Seconds until it has done its tiles, by its last report.
        in_flight: Number of this front end's tiles that it has.
        per_tile_s: Seconds of a tile in its best batch.
    """
    return max(reported_s, in_flight * per_tile_s) + per_tile_s
