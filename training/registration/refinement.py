"""Fraction of a pair's shift, its standard error, and what remains: scale, rotation, local shifts.

Gauss-Newton on the gain, the offset and the shift (Lucas and Kanade 1981), between the enlarged LR
picture and the blurred HR picture. Every window adds its own normal equations, so that one pass
over the pixels gives the shift of the pair, an affine field, and the local shifts.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from training.ground.keys import REACH_PX, far, near
from training.registration.fields import AXES, Axis, Fields, Shift
from training.registration.filters import enlargement_noise_gain

LOCAL_WINDOWS_A_SIDE = 8
ITERATIONS = 2
AFFINE_PRIOR = 0.01
"""Prior standard deviation of scale errors, rotation (radians) and shear."""

RANK = 1e-3
"""Ratio of eigenvalues below which the pictures determine no shift along their lines."""

MARGIN_LR_PX = 8
"""Border that is left out: there the background reflects what lies beyond the picture."""

Bands = NDArray[np.float32]
_Doubles = NDArray[np.float64]


@dataclass(frozen=True)
class Refinement:
    """Shift of a pair to a fraction of a pixel.

    Attributes:
        shift: (dy, dx) in HR px.
        standard_error_px: (2,) standard errors of dy and dx, HR px; infinite along an unknown axis.
        scale_error: Relative excesses of HR's px per LR px over the scale, along y and x.
        scale_standard_error: Standard errors of both; at most `AFFINE_PRIOR`, where the pictures
            determine nothing, as along lines.
        rotation_deg: Rotation of HR against LR, from x towards y.
        residual_px: Root mean square of the local shifts that remain, HR px, without the part that
            noise explains. Shifts across edges count, since a loss sees no others.
    """

    shift: Shift
    standard_error_px: Shift
    scale_error: Shift
    scale_standard_error: Shift
    rotation_deg: float
    residual_px: float


@dataclass(frozen=True)
class _Windows:
    """Normal equations of local shifts, at one shift of the pair.

    Attributes:
        information: (n, 2, 2) sums of the gradients' products, times gain^2.
        pull: (n, 2) sums of gradient times residual, times gain.
        centres: (n, 2) places of the windows from the overlap's centre, HR px.
        variance: Variance of the residual that one HR px of information stands for: LR's noise is
            the same in all scale^2 px of an LR px.
    """

    information: _Doubles
    pull: _Doubles
    centres: _Doubles
    variance: float


def refine(
    lr_band: Bands,
    hr_band: Bands,
    fields: Fields,
    start: tuple[int, int],
    *,
    unknown_axis: Axis | None,
) -> Refinement:
    """Refine a whole shift.

    Args:
        lr_band: Enlarged LR picture without background.
        hr_band: HR picture at LR's resolution, without background.
        fields: Sizes of the pair.
        start: Whole shift of the search, (dy, dx).
        unknown_axis: Axis along which the shift stays at its start.
    """
    known = [number for number, axis in enumerate(AXES) if axis != unknown_axis]
    fraction = np.zeros(2)
    windows = _normal_equations(lr_band, hr_band, fields, start, fraction)
    for _ in range(ITERATIONS):
        step = _solved(windows.information.sum(0), windows.pull.sum(0), known)
        # Half a pixel is what a whole shift can lack; more would follow noise.
        fraction = np.clip(fraction + step, -1.0, 1.0)
        windows = _normal_equations(lr_band, hr_band, fields, start, fraction)
    information = windows.information.sum(0)[np.ix_(known, known)]
    errors = np.full(2, np.inf)
    errors[known] = np.sqrt(windows.variance * np.diag(np.linalg.inv(information)))
    gradient, gradient_errors = _affine(windows)
    return Refinement(
        shift=(start[0] + float(fraction[0]), start[1] + float(fraction[1])),
        standard_error_px=(float(errors[0]), float(errors[1])),
        scale_error=(float(gradient[0, 0]), float(gradient[1, 1])),
        scale_standard_error=(float(gradient_errors[0, 0]), float(gradient_errors[1, 1])),
        rotation_deg=float(np.degrees(gradient[0, 1] - gradient[1, 0]) / 2),
        residual_px=_remaining_px(windows),
    )


def _normal_equations(
    lr_band: Bands, hr_band: Bands, fields: Fields, start: tuple[int, int], fraction: _Doubles
) -> _Windows:
    lr_part, hr_part = fields.crops(start)
    margin = MARGIN_LR_PX * fields.scale
    inner = (slice(margin, -margin), slice(margin, -margin))
    u = lr_band[tuple(slice(fields.scale * s.start, fields.scale * s.stop) for s in lr_part)]
    h = _moved_back(hr_band[hr_part], fraction)
    gradients = [np.asarray(g)[inner] for g in np.gradient(h)]
    u, h = u[inner], h[inner]
    gain, offset = _gain_offset(h, u)
    residual = u - gain * h - offset
    dy, dx = (gain * g for g in gradients)
    rows, columns = (np.array_split(np.arange(side), LOCAL_WINDOWS_A_SIDE) for side in u.shape)
    sums = {
        name: _sums(values, rows, columns)
        for name, values in (
            ("yy", dy * dy),
            ("yx", dy * dx),
            ("xx", dx * dx),
            ("y", dy * residual),
            ("x", dx * residual),
        )
    }
    information = np.stack(
        [np.stack([sums["yy"], sums["yx"]], -1), np.stack([sums["yx"], sums["xx"]], -1)], -2
    )
    # HR(p + start + fraction + step) = u(p) to first order: gain * gradient * step = residual.
    pull = np.stack([sums["y"], sums["x"]], -1)
    centres = np.stack(
        np.meshgrid(*([float(part.mean()) for part in parts] for parts in (rows, columns)),
                    indexing="ij"),
        -1,
    ).reshape(-1, 2)  # fmt: skip
    variance = float(residual.var(dtype=np.float64))
    return _Windows(
        information=information,
        pull=pull,
        centres=centres - np.array(u.shape) / 2,
        variance=variance * fields.scale**2 / enlargement_noise_gain(fields.scale),
    )


def _moved_back(picture: Bands, fraction: _Doubles) -> Bands:
    """Return picture(p + fraction) by cubic convolution, for fractions from -1 to 1.

    Source: Keys 1981, a = -0.5; on a picture as blurred as `blurred_band` the error is negligible.
    """
    for axis, f in enumerate(fraction):
        distance = np.abs(np.arange(-2, 3) - f)
        beyond = np.zeros_like(distance)
        taps = np.where(
            distance < 1, near(distance), np.where(distance < REACH_PX, far(distance), beyond)
        )
        moved = ndimage.correlate1d(picture, taps, axis=axis, mode="nearest")
        picture = np.asarray(moved, dtype=np.float32)
    return picture


def _gain_offset(h: Bands, u: Bands) -> tuple[float, float]:
    """Return gain and offset of the least-squares fit of u by h."""
    mean_h, mean_u = float(h.mean(dtype=np.float64)), float(u.mean(dtype=np.float64))
    variance = float(h.var(dtype=np.float64))
    covariance = float(np.mean(h * u, dtype=np.float64)) - mean_h * mean_u
    gain = covariance / variance if variance > 0 else 0.0
    return gain, mean_u - gain * mean_h


def _sums(
    values: Bands | _Doubles, rows: list[NDArray[np.int64]], columns: list[NDArray[np.int64]]
) -> _Doubles:
    """Return the sums over the windows, (n,)."""
    by_row = np.add.reduceat(values.astype(np.float64), [part[0] for part in rows], axis=0)
    return np.add.reduceat(by_row, [part[0] for part in columns], axis=1).ravel()


def _solved(matrix: _Doubles, vector: _Doubles, known: list[int]) -> _Doubles:
    """Solve for the known axes; the others get zero."""
    step = np.zeros(2)
    step[known] = np.linalg.solve(matrix[np.ix_(known, known)], vector[known])
    return step


def _affine(windows: _Windows) -> tuple[_Doubles, _Doubles]:
    """Fit an affine field to the local shifts, by the likelihood of each with a weak prior.

    Straight lines determine only a part of it: the prior leaves the others at zero.

    Returns:
        (2, 2) gradient of the local shift: d(dy)/dy, d(dy)/dx; d(dx)/dy, d(dx)/dx. And their
        standard errors.
    """
    count = len(windows.centres)
    places = np.concatenate([windows.centres, np.ones((count, 1))], axis=1)
    # Parameters: the gradient's rows and the constants of dy, then those of dx.
    basis = np.zeros((count, 2, 6))
    basis[:, 0, :3] = places
    basis[:, 1, 3:] = places
    matrix = np.einsum("nai,nab,nbj->ij", basis, windows.information, basis) / windows.variance
    vector = np.einsum("nai,na->i", basis, windows.pull) / windows.variance
    prior = 1 / np.array([AFFINE_PRIOR, AFFINE_PRIOR, 1.0, AFFINE_PRIOR, AFFINE_PRIOR, 1.0]) ** 2
    covariance = np.linalg.inv(matrix + np.diag(prior))
    errors = np.sqrt(np.diag(covariance))
    return (covariance @ vector).reshape(2, 3)[:, :2], errors.reshape(2, 3)[:, :2]


def _remaining_px(windows: _Windows) -> float:
    """Return the deviation of the true local shifts, without that of their measurement.

    A window's pull is its information times its local shift, plus noise whose covariance is
    information times variance. So the mean square of the pulls is known up to the variance of the
    local shifts. No window's shift is solved for: in a window without structure it is unbounded.
    The idea is that of DerSimonian and Laird 1986, "Meta-analysis in clinical trials".
    """
    total = windows.information.sum(0)
    common = np.linalg.pinv(total, rcond=RANK, hermitian=True) @ windows.pull.sum(0)
    pull = windows.pull - windows.information @ common
    of_noise = windows.variance * float(np.trace(total))
    of_shifts = max(float(np.sum(windows.information**2)), float(np.finfo(np.float64).tiny))
    return float(np.sqrt(max(0.0, float(np.sum(pull**2)) - of_noise) / of_shifts))
