# mypy: disable-error-code="type-arg"
# Made by `make proto`; do not edit.
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Outcome(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    OUTCOME_UNSPECIFIED: _ClassVar[Outcome]
    APPROVE: _ClassVar[Outcome]
    REVIEW: _ClassVar[Outcome]
    DECLINE: _ClassVar[Outcome]
OUTCOME_UNSPECIFIED: Outcome
APPROVE: Outcome
REVIEW: Outcome
DECLINE: Outcome

class Transaction(_message.Message):
    __slots__ = ("transaction_id", "occurred_at", "account_id", "merchant_id", "device_id", "amount_minor", "currency", "channel", "mcc", "country", "latitude_e6", "longitude_e6")
    TRANSACTION_ID_FIELD_NUMBER: _ClassVar[int]
    OCCURRED_AT_FIELD_NUMBER: _ClassVar[int]
    ACCOUNT_ID_FIELD_NUMBER: _ClassVar[int]
    MERCHANT_ID_FIELD_NUMBER: _ClassVar[int]
    DEVICE_ID_FIELD_NUMBER: _ClassVar[int]
    AMOUNT_MINOR_FIELD_NUMBER: _ClassVar[int]
    CURRENCY_FIELD_NUMBER: _ClassVar[int]
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    MCC_FIELD_NUMBER: _ClassVar[int]
    COUNTRY_FIELD_NUMBER: _ClassVar[int]
    LATITUDE_E6_FIELD_NUMBER: _ClassVar[int]
    LONGITUDE_E6_FIELD_NUMBER: _ClassVar[int]
    transaction_id: str
    occurred_at: int
    account_id: str
    merchant_id: str
    device_id: str
    amount_minor: int
    currency: str
    channel: str
    mcc: str
    country: str
    latitude_e6: int
    longitude_e6: int
    def __init__(self, transaction_id: _Optional[str] = ..., occurred_at: _Optional[int] = ..., account_id: _Optional[str] = ..., merchant_id: _Optional[str] = ..., device_id: _Optional[str] = ..., amount_minor: _Optional[int] = ..., currency: _Optional[str] = ..., channel: _Optional[str] = ..., mcc: _Optional[str] = ..., country: _Optional[str] = ..., latitude_e6: _Optional[int] = ..., longitude_e6: _Optional[int] = ...) -> None: ...

class DecideRequest(_message.Message):
    __slots__ = ("transaction",)
    TRANSACTION_FIELD_NUMBER: _ClassVar[int]
    transaction: Transaction
    def __init__(self, transaction: _Optional[_Union[Transaction, _Mapping]] = ...) -> None: ...

class GetRequest(_message.Message):
    __slots__ = ("transaction_id",)
    TRANSACTION_ID_FIELD_NUMBER: _ClassVar[int]
    transaction_id: str
    def __init__(self, transaction_id: _Optional[str] = ...) -> None: ...

class Answer(_message.Message):
    __slots__ = ("transaction_id", "outcome", "decided", "fallback", "fallback_reason", "sequence", "decision_json")
    TRANSACTION_ID_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    DECIDED_FIELD_NUMBER: _ClassVar[int]
    FALLBACK_FIELD_NUMBER: _ClassVar[int]
    FALLBACK_REASON_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    DECISION_JSON_FIELD_NUMBER: _ClassVar[int]
    transaction_id: str
    outcome: Outcome
    decided: bool
    fallback: bool
    fallback_reason: str
    sequence: int
    decision_json: bytes
    def __init__(self, transaction_id: _Optional[str] = ..., outcome: _Optional[_Union[Outcome, str]] = ..., decided: _Optional[bool] = ..., fallback: _Optional[bool] = ..., fallback_reason: _Optional[str] = ..., sequence: _Optional[int] = ..., decision_json: _Optional[bytes] = ...) -> None: ...
