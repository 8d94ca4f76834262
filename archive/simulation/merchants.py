"""Names for the simulated merchants, which a reader knows again: Bakery-Schmidt-Leipzig, Travel-Rossi-online."""

from collections import Counter
from typing import Final

from archive.simulation.places import CITY_NAMES
from archive.simulation.world import Payees

TRADES: Final = {
    "5411": "Supermarket", "5812": "Restaurant", "5814": "Bakery", "5541": "Petrol", "5912": "Pharmacy",
    "5311": "Department-Store", "5651": "Fashion", "5732": "Electronics", "5999": "Shop", "7011": "Hotel",
    "4111": "Transit", "5200": "Hardware", "5399": "Marketplace", "5815": "Media", "4722": "Travel",
    "7995": "Betting", "6011": "ATM", "6513": "Landlord",
}  # fmt: skip
"""What the name of a merchant of each category begins with."""

FAMILIES: Final = (
    "Schmidt", "Weber", "Keller", "Fischer", "Bauer", "Wagner", "Becker", "Hoffmann", "Richter", "Wolf",
    "Rossi", "Ferrari", "Conti", "Moretti", "Martin", "Bernard", "Petit", "Laurent", "Moreau", "Garcia",
    "Lopez", "Navarro", "Silva", "Costa", "Jansen", "Visser", "Peeters", "Novak", "Kowalski", "Murphy",
    "Byrne", "Papadakis", "Nikolaou", "Gruber", "Steiner", "Huber", "Lang", "Vogel", "Winter", "Brandt",
)  # fmt: skip


def merchant_names(payees: Payees) -> list[str]:
    """An id for each payee that is no account: trade, family, city (or online), and a number where two would be equal.

    Each has 64 characters at most, printable and without a space, as ids must be.
    """
    online = range(payees.online.first, payees.cash.first)
    seen: Counter[tuple[str, str]] = Counter()
    names = []
    for number in range(payees.first_account):
        trade = TRADES[str(payees.mcc[number])]
        place = "online" if number in online else CITY_NAMES[payees.city[number]]
        turn, family = divmod(seen[trade, place], len(FAMILIES))
        seen[trade, place] += 1
        names.append("-".join([trade, FAMILIES[family], place, *([str(turn + 1)] if turn else [])]))
    return names
