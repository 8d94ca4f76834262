"""Who may come in: a good key, with the scope, not too often. One rule for every transport."""

from dataclasses import dataclass

from app.api.keyring import Keyring
from app.api.rates import Rates


@dataclass(frozen=True, slots=True)
class Gate:
    """All keys, and how often each was used."""

    keyring: Keyring
    rates: Rates

    def admit(self, authorization: str | None, scope: str) -> None:
        """Count one use. Raises KeyRefused, ScopeMissing, RateExceeded, and StoreUnavailable when it cannot be said."""
        self.rates.take(self.keyring.admit(authorization, scope).name)
