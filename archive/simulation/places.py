"""The simulated world's places and trades, as data: cities with their weights, and kinds of merchants."""

from typing import Final

import numpy as np

CITIES: Final = (
    # country, degrees north, degrees east, how many accounts live there, how many travel there (both relative)
    ("DE", 52.520, 13.405, 3.7, 3.0),
    ("DE", 53.551, 9.994, 1.9, 1.5),
    ("DE", 48.137, 11.576, 1.5, 2.5),
    ("DE", 50.938, 6.960, 1.1, 1.0),
    ("DE", 50.110, 8.682, 0.8, 1.2),
    ("DE", 48.775, 9.183, 0.6, 0.5),
    ("DE", 51.340, 12.373, 0.6, 0.5),
    ("AT", 48.208, 16.373, 1.9, 2.5),
    ("AT", 47.809, 13.055, 0.2, 1.0),
    ("FR", 48.857, 2.352, 2.1, 5.0),
    ("FR", 45.764, 4.836, 0.5, 0.8),
    ("FR", 43.296, 5.370, 0.9, 1.2),
    ("NL", 52.368, 4.904, 0.9, 2.5),
    ("BE", 50.850, 4.352, 0.5, 1.0),
    ("IT", 41.903, 12.496, 1.0, 4.0),
    ("IT", 45.464, 9.190, 1.0, 2.0),
    ("IT", 45.441, 12.316, 0.1, 2.0),
    ("ES", 40.417, -3.704, 1.2, 2.0),
    ("ES", 41.387, 2.170, 1.0, 4.0),
    ("ES", 39.570, 2.650, 0.1, 4.0),
    ("PT", 38.722, -9.139, 0.5, 2.5),
    ("GR", 37.984, 23.728, 0.4, 2.0),
    ("GR", 35.339, 25.133, 0.1, 2.0),
    ("IE", 53.350, -6.260, 0.3, 1.0),
    ("GB", 51.507, -0.128, 0.0, 4.0),
    ("CH", 47.377, 8.541, 0.0, 1.0),
    ("CZ", 50.088, 14.420, 0.0, 2.0),
    ("PL", 50.061, 19.937, 0.0, 1.0),
    ("TR", 36.897, 30.713, 0.0, 3.0),
    ("EG", 27.258, 33.812, 0.0, 1.5),
    ("US", 40.713, -74.006, 0.0, 2.0),
    ("US", 25.762, -80.192, 0.0, 0.7),
    ("TH", 13.756, 100.502, 0.0, 1.0),
    ("AE", 25.204, 55.271, 0.0, 1.0),
    ("JP", 35.677, 139.650, 0.0, 0.7),
    ("BR", -22.907, -43.173, 0.0, 0.4),
    ("ZA", -33.925, 18.424, 0.0, 0.4),
    ("AU", -33.869, 151.209, 0.0, 0.3),
    ("NG", 6.524, 3.379, 0.0, 0.1),
    ("ID", -8.650, 115.217, 0.0, 0.5),
)

CITY_NAMES: Final = (
    "Berlin", "Hamburg", "Munich", "Cologne", "Frankfurt", "Stuttgart", "Leipzig", "Vienna", "Salzburg", "Paris",
    "Lyon", "Marseille", "Amsterdam", "Brussels", "Rome", "Milan", "Venice", "Madrid", "Barcelona", "Palma",
    "Lisbon", "Athens", "Heraklion", "Dublin", "London", "Zurich", "Prague", "Krakow", "Antalya", "Hurghada",
    "New-York", "Miami", "Bangkok", "Dubai", "Tokyo", "Rio", "Cape-Town", "Sydney", "Lagos", "Bali",
)  # fmt: skip
"""Names of `CITIES`, in its order."""

SHOPS: Final = (
    # mcc, median amount in euros, spread (sigma of its logarithm), share of all shops
    ("5411", 28.0, 0.7, 0.28),  # supermarkets
    ("5812", 32.0, 0.6, 0.17),  # restaurants
    ("5814", 11.0, 0.5, 0.12),  # fast food
    ("5541", 52.0, 0.4, 0.08),  # service stations
    ("5912", 17.0, 0.6, 0.06),  # pharmacies
    ("5311", 48.0, 0.8, 0.06),  # department stores
    ("5651", 55.0, 0.7, 0.07),  # clothing
    ("5732", 120.0, 1.0, 0.03),  # electronics
    ("5999", 25.0, 0.8, 0.05),  # other shops
    ("7011", 140.0, 0.7, 0.03),  # hotels
    ("4111", 4.0, 0.5, 0.03),  # local transport
    ("5200", 45.0, 0.9, 0.02),  # home supply
)

ONLINE: Final = (
    ("5399", 35.0, 0.9, 0.34),  # marketplaces
    ("5815", 9.0, 0.7, 0.20),  # digital goods
    ("4722", 210.0, 0.8, 0.07),  # travel agencies
    ("5732", 130.0, 0.9, 0.10),  # electronics
    ("5651", 60.0, 0.7, 0.15),  # clothing
    ("5812", 26.0, 0.4, 0.11),  # food delivery
    ("7995", 30.0, 0.9, 0.03),  # betting
)

CASH_MCC: Final = "6011"
RENT_MCC: Final = "6513"
TRANSFER_MCC: Final = "4829"

EARTH_RADIUS_KM: Final = 6371.0


def kilometres_between(north: np.ndarray, east: np.ndarray) -> np.ndarray:
    """Great-circle distances in km, float64 [n, n], between n places in degrees."""
    phi, lam = np.radians(north), np.radians(east)
    half_phi = np.sin((phi[:, None] - phi[None, :]) / 2) ** 2
    half_lam = np.sin((lam[:, None] - lam[None, :]) / 2) ** 2
    inner = half_phi + np.cos(phi)[:, None] * np.cos(phi)[None, :] * half_lam
    return np.asarray(2 * EARTH_RADIUS_KM * np.arcsin(np.sqrt(np.clip(inner, 0, 1))))
