# SPDX-License-Identifier: Apache-2.0
"""Points whose mean stands for the weather of a grid: where its people, wind farms and solar plants are (degrees)."""

from collections.abc import Mapping

GRID_POINTS: Mapping[str, tuple[tuple[float, float], ...]] = {
    "FR": ((48.9, 2.4), (50.0, 2.8), (48.1, -1.7), (45.8, 4.8), (43.6, 1.4), (43.5, 5.0)),
    "GB": ((51.5, -0.3), (52.9, -1.2), (53.8, 0.2), (55.9, -3.8), (57.5, -4.0)),
    "DE": ((53.9, 9.2), (52.5, 12.5), (51.3, 7.3), (49.8, 8.6), (48.3, 11.5)),
    "NL": ((52.9, 4.9), (52.0, 4.8), (51.6, 5.6)),
    "ES": ((42.6, -8.0), (41.6, -1.0), (40.4, -3.7), (38.9, -4.5), (37.4, -5.9)),
    "SE": ((65.6, 21.0), (62.5, 16.5), (59.3, 17.0), (56.5, 13.5)),
    "US-CISO": ((37.8, -121.8), (35.1, -118.3), (34.1, -117.9), (33.8, -116.4), (36.6, -119.8)),
    "US-PJM": ((40.3, -75.5), (39.3, -77.4), (40.4, -80.0), (41.6, -88.0), (37.5, -78.0)),
    "US-ISNE": ((42.4, -71.4), (43.7, -71.6), (44.8, -69.2), (41.6, -72.7)),
    "US-NYIS": ((40.8, -73.8), (42.7, -74.0), (43.0, -77.5), (44.3, -75.0)),
    "US-BPAT": ((45.7, -120.8), (47.5, -122.0), (45.5, -122.6), (46.2, -119.2)),
    "US-FPL": ((26.3, -80.3), (27.3, -81.4), (28.4, -81.0)),
    "US-MISO": ((44.9, -93.4), (42.0, -93.6), (41.5, -87.5), (38.7, -90.4), (30.3, -91.0)),
    "US-EPE": ((31.8, -106.4), (32.3, -106.8)),
    "US-ERCO": ((32.8, -97.0), (29.8, -95.5), (32.4, -100.5), (27.8, -97.6), (31.5, -102.5)),
}


def weather_points(region: str | None, site: tuple[float, float] | None) -> tuple[tuple[float, float], ...]:
    """Return the points of a grid; of an unknown grid the site itself; nothing where that is unknown too."""
    return GRID_POINTS.get(region or "") or (() if site is None else (site,))
