"""Random edges and textures with a given power spectrum; used by `scenes` and `defects`.

The spectrum is the self-affine one of Palasantzas (1993): standard deviation sigma, correlation
length xi and Hurst exponent H. H = 0.5 is the exponential autocorrelation sigma² exp(-|d|/xi) that
is usually fitted to resist and etched lines (Constantoudis et al., J. Vac. Sci. Technol. B 21,
1019, 2003).
"""

import math

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def palasantzas_psd(
    frequency_per_nm: NDArray[np.floating], *, sigma_nm: float, xi_nm: float, hurst: float
) -> NDArray[np.floating]:
    """Return the two-sided power spectral density of a rough edge in nm³.

    Its integral over all frequencies, negative ones too, is sigma_nm².

    Source: Palasantzas, Phys. Rev. B 48, 14472 (1993), in one dimension and normalised as in Mack,
    Appl. Opt. 52, 1472 (2013).
    """
    gain = 2 * math.sqrt(math.pi) * math.gamma(hurst + 0.5) / math.gamma(hurst)
    bent = 1 + (2 * math.pi * frequency_per_nm * xi_nm) ** 2
    return gain * sigma_nm**2 * xi_nm / bent ** (hurst + 0.5)


def rough_edge(
    rng: np.random.Generator,
    *,
    length_px: int,
    step_nm: float,
    sigma_nm: float,
    xi_nm: float,
    hurst: float = 0.5,
    is_closed: bool = False,
) -> Floats:
    """Draw the displacement of one edge in nm, (length_px,), mean about 0.

    An open edge is cut from a period twice as long, so that its ends are not correlated; a closed
    one (the contour of a hole) is periodic. Source: the Fourier method of Mack (2013), section 2.
    """
    period_px = length_px if is_closed else 2 * length_px
    frequency = np.fft.rfftfreq(period_px, step_nm)
    psd = palasantzas_psd(frequency, sigma_nm=sigma_nm, xi_nm=xi_nm, hurst=hurst)
    real, imaginary = rng.standard_normal((2, frequency.size))
    # irfft divides by the period; a bin of width 1 / (period · step) carries psd times that width.
    amplitude = np.sqrt(psd * period_px / (2 * step_nm))
    spectrum = amplitude * (real + 1j * imaginary)
    spectrum[0] = 0.0  # a shift of the whole edge is the layout's business
    return np.fft.irfft(spectrum, period_px)[:length_px]


def rough_field(
    rng: np.random.Generator, shape: tuple[int, int], *, pixel_nm: float, xi_nm: float, hurst: float
) -> Floats:
    """Draw an isotropic texture, (rows, columns), mean 0 and standard deviation 1.

    Source: the two-dimensional form of the same spectrum, (1 + k² xi²)^-(1 + H), Mack (2013).
    """
    rows, columns = shape
    noise = np.fft.rfft2(rng.standard_normal(shape))
    k_y = 2 * math.pi * np.fft.fftfreq(rows, pixel_nm)[:, None]
    k_x = 2 * math.pi * np.fft.rfftfreq(columns, pixel_nm)[None, :]
    psd = (1 + (k_y**2 + k_x**2) * xi_nm**2) ** -(1 + hurst)
    psd[0, 0] = 0.0
    field = np.fft.irfft2(noise * np.sqrt(psd), shape)
    return field / field.std()
