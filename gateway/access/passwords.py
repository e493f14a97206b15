"""Which passwords are taken. Pure; knows nothing of how they are kept.

Length is what counts (NIST SP 800-63B asks for length and against known ones, not for digits and signs); what
is refused is what people and dictionaries try first.
"""

from __future__ import annotations

import re
import unicodedata

LENGTH_MIN = 12
#: Longer ones only cost time; nobody types them.
LENGTH_MAX = 256

#: Words of which a password may not consist, alone or joined, with whatever digits and signs around them.
WEAK_WORDS = (
    *("password", "passwort", "passwd", "passphrase", "kennwort", "administrator", "admin", "operator"),
    *(
        "engineer",
        "auditor",
        "viewer",
        "welcome",
        "willkommen",
        "changeme",
        "change",
        "letmein",
        "qwertyuiop",
    ),
    *("qwertzuiop", "qwerty", "qwertz", "asdfghjkl", "asdfgh", "zxcvbnm", "yxcvbnm", "iloveyou", "monkey"),
    *("dragon", "sunshine", "princess", "football", "baseball", "superman", "batman", "master", "secret"),
    *(
        "geheim",
        "default",
        "system",
        "manager",
        "service",
        "maintenance",
        "gateway",
        "andon",
        "scada",
        "plant",
    ),
    *("machine", "siemens", "rockwell", "beckhoff", "schneider", "mitsubishi", "omron", "hmi", "plc", "line"),
    *("login", "guest", "user", "root", "test", "demo", "hello", "abc", "the", "my", "is", "me", "and"),
)
_LONGEST_FIRST = sorted(WEAK_WORDS, key=len, reverse=True)
_LOOKALIKE = str.maketrans("0134578@$!|", "oleastbasil")
_ROWS = ("1234567890", "0987654321", "qwertyuiop", "qwertzuiop", "asdfghjkl", "zxcvbnm", "yxcvbnm")
#: Letters left beside the weak words below which they are the password.
_REST_MIN = 4
#: Digits that are enough without anything else.
_DIGITS_MIN = 16
#: Different characters below which a password is a pattern.
_DIFFERENT_MIN = 5


def normal(password: str) -> str:
    """The form that is hashed: the same characters from every keyboard (RFC 8265, 4.2.2: NFC)."""
    return unicodedata.normalize("NFC", password)


def weakness(password: str, name: str) -> str | None:
    """Why a password is not taken, None when it is. The sentence never has the password in it."""
    password = normal(password)
    folded = password.casefold()
    if len(password) < LENGTH_MIN:
        return f"it has {len(password)} characters, and must have {LENGTH_MIN} or more"
    if len(password) > LENGTH_MAX:
        return f"it has more than {LENGTH_MAX} characters"
    if any(unicodedata.category(character) == "Cc" for character in password):
        return "it has control characters in it, which no keyboard types alike"
    own = re.sub(r"[\W_]", "", name.casefold())
    if own and _without(re.sub(r"[\W_]", "", folded), own):
        return "it is the name of the user"
    if len(set(folded)) < _DIFFERENT_MIN:
        return "it repeats a few characters"
    if _repeats(folded):
        return "it repeats itself"
    if _runs(folded):
        return "it runs along the alphabet, the numbers or the keyboard"
    if _known(folded):
        return "it is made of words that are tried first"
    return None


def _without(text: str, word: str) -> bool:
    """Whether little is left of a text without a word, forwards or backwards."""
    return any(
        form in text and len(text.replace(form, "")) < max(_REST_MIN, len(form) // 2)
        for form in (word, word[::-1])
    )


def _repeats(text: str) -> bool:
    """Whether a text is one beginning over and over."""
    return any(
        text == (text[:length] * (len(text) // length + 1))[: len(text)]
        for length in range(1, len(text) // 2)
    )


def _runs(text: str) -> bool:
    """Whether most steps from one character to the next are steps of a row."""
    steps = [text[index : index + 2] for index in range(len(text) - 1)]
    along = sum(
        abs(ord(pair[1]) - ord(pair[0])) <= 1 or any(pair in row or pair in row[::-1] for row in _ROWS)
        for pair in steps
    )
    return along >= 0.75 * len(steps)


def _known(text: str) -> bool:
    if text.isdigit() and len(text) >= _DIGITS_MIN:
        return False  # random digits are as good as letters when there are more of them
    core = re.sub(r"^[\W\d_]+|[\W\d_]+$", "", text)
    return any(_rest(form) < _REST_MIN for form in (text, core.translate(_LOOKALIKE)))


def _rest(text: str) -> int:
    """How many letters are left without the weak words."""
    letters = "".join(character for character in text if character.isalpha())
    for word in _LONGEST_FIRST:
        letters = letters.replace(word, " ")
    return len(letters.replace(" ", ""))
