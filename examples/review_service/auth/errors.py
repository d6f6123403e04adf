"""What can be wrong with a token, with the keys that check it, and with the provider behind both."""

from __future__ import annotations


class MissingToken(Exception):
    """No access token was sent."""


class InvalidToken(Exception):
    """What was sent is no token of our provider for this API, or not any more. The reason is for the log alone."""


class UnknownKey(InvalidToken):
    """The token names a key that the provider does not publish."""


class KeysUnavailable(Exception):
    """Whether the token is good cannot be known: the keys cannot be had. Says nothing about the token."""

    def __init__(self, retry_after: float) -> None:
        super().__init__("keys unavailable")
        self.retry_after = retry_after


class ProviderError(Exception):
    """A call to the provider that brought nothing."""


class ProviderUnavailable(ProviderError):
    """No answer, a late one, a broken one, or a 5xx: the provider is in trouble."""


class ProviderBusy(ProviderError):
    """A 429: the provider is well, and this caller asked too often. `retry_after` is in seconds."""

    def __init__(self, retry_after: float | None) -> None:
        super().__init__("429")
        self.retry_after = retry_after


class ProviderRefused(ProviderError):
    """Any other 4xx: asking again would bring the same answer."""
