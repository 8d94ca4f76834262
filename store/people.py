"""Who may log in to the console: users and roles, in the form that flask-security reads.

Beside `store.tables`, since flask-security's mixins bring the web framework along and the ledger needs neither.
Times of log-ins are naive UTC datetimes here, because flask-security writes them.
"""

import datetime

from flask_security import AsaList, RoleMixin, UserMixin
from sqlalchemy import Column, ForeignKey, String, Table
from sqlalchemy.ext.mutable import MutableList
from sqlalchemy.orm import Mapped, mapped_column, relationship

from store.tables import NAME_CHARACTERS, Base

ROLES = {
    "analyst": "Works the alert queue and gives verdicts.",
    "supervisor": "Oversees analysts and their verdicts.",
    "engineer": "Oversees models, policies and audits.",
}
"""Every role, and what it is for."""

user_roles = Table(
    "user_roles",
    Base.metadata,
    Column("user_id", ForeignKey("users.id", ondelete="CASCADE"), primary_key=True),
    Column("role_id", ForeignKey("roles.id", ondelete="CASCADE"), primary_key=True),
)


class Role(Base, RoleMixin):
    """A set of rights; `permissions` stays empty while the roles themselves are asked for."""

    __tablename__ = "roles"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(80), unique=True)
    description: Mapped[str] = mapped_column(String(NAME_CHARACTERS))
    permissions: Mapped[list[str] | None] = mapped_column(MutableList.as_mutable(AsaList()))


class User(Base, UserMixin):
    """A person who may log in; `email` is the log-in name.

    The mixin's annotations leave out that nobody has logged in yet, hence the ignored assignments.
    locale: `en`, `zh_Hans_CN` or empty for the browser's; theme: `light`, `dark` or empty for the system's.
    """

    __tablename__ = "users"

    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str] = mapped_column(String(NAME_CHARACTERS), unique=True)
    name: Mapped[str] = mapped_column(String(NAME_CHARACTERS), default="")
    password: Mapped[str | None] = mapped_column(String(NAME_CHARACTERS))
    active: Mapped[bool]
    fs_uniquifier: Mapped[str] = mapped_column(String(64), unique=True)
    confirmed_at: Mapped[datetime.datetime | None]
    last_login_at: Mapped[datetime.datetime | None]  # type: ignore[assignment]
    current_login_at: Mapped[datetime.datetime | None]  # type: ignore[assignment]
    last_login_ip: Mapped[str | None] = mapped_column(String(64))
    current_login_ip: Mapped[str | None] = mapped_column(String(64))
    login_count: Mapped[int | None]  # type: ignore[assignment]
    locale: Mapped[str] = mapped_column(String(16), default="")
    theme: Mapped[str] = mapped_column(String(8), default="")

    roles: Mapped[list[Role]] = relationship(secondary=user_roles, lazy="selectin")  # type: ignore[assignment]
