"""To whom a mail goes: the user id if it is an address, else a mailbox of that name at the customers' domain. Pure."""

import re
from email.headerregistry import Address

# What HTML calls a valid e-mail address: no comments, no quotes, no route.
_ADDRESS = re.compile(r"[\w.!#$%&'*+/=?^`{|}~-]+@[a-z0-9-]+(\.[a-z0-9-]+)+", re.IGNORECASE | re.ASCII)


def recipient(user_id: str, *, customer_domain: str) -> str:
    """Return the address (RFC 5322 addr-spec) of a user; a name with blanks or signs becomes a quoted local part."""
    if _ADDRESS.fullmatch(user_id):
        return user_id
    return Address(username=user_id, domain=customer_domain).addr_spec


def mailbox(user_id: str, *, customer_domain: str) -> str:
    """Return the same for user ids that name the same mailbox: ASCII letters in lower case, without our own domain.

    What a remote host makes of `ada+shop` is that host's affair: these are several.
    """
    return user_id.encode().lower().decode().removesuffix(f"@{customer_domain.lower()}")
